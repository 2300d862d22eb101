"""A process and all that came from it, read from `/proc`, and kills by the kernel because memory ran out (Linux).

Cheap enough to look at twice a second. Linux counts kills for each control group, in `memory.events` (version 2) or
`memory.oom_control` (version 1). A job's process is in the group of its worker, and `oom_score_adj` lets the kernel
choose it. If there is no counter, nothing is certain.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections import deque
from collections.abc import Iterable
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def _read(pid: int, name: str) -> bytes:
    """Return the content of a file of `/proc/PID`, b"" if the process has ended."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def children(pid: int) -> list[int]:
    """Direct children of a process, of all its threads."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for thread in threads for child in _read(pid, f"task/{thread}/children").split()]


def descendants(pid: int) -> list[int]:
    """All that came from a process and is still connected to it, without itself."""
    found: list[int] = []
    waiting = [pid]
    known = {pid}
    while waiting:
        for child in children(waiting.pop()):
            if child not in known:
                known.add(child)
                found.append(child)
                waiting.append(child)
    return found


def identity(pid: int) -> tuple[int, int] | None:
    """Return `(pid, start time)`, which no later process with that pid has; None if it has ended."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return (pid, int(fields[19])) if fields and fields[0] != b"Z" else None


def mark(pid: int) -> str:
    """Return a text that stands for this process and no other: boot, namespace of pids, pid, start time.

    "" if it has ended, or the system does not say.
    """
    found = identity(pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino} {pid} {found[1]}" if found else ""
    except OSError:
        return ""


def has_died(marked: str) -> bool:
    """Return True if the process of a mark, which was made on this machine, is known to have ended.

    False for one of another namespace of pids (a container), which cannot be seen from here, and for a damaged mark.
    """
    own, its = mark(os.getpid()).split(), marked.split()
    if len(own) != 4 or not re.fullmatch(r"\S+ \d+ \d{1,10} \d+", marked, re.ASCII):
        return False
    return its[0] != own[0] or (its[1] == own[1] and mark(int(its[2])) != marked)


def rss_bytes(pids: Iterable[int]) -> int:
    """Resident memory, shared pages counted for each process."""
    return _PAGE * sum(int(fields[1]) for pid in pids if (fields := _read(pid, "statm").split()))


def data_bytes(pid: int) -> int:
    """Return the size of data and stack, as the limit `RLIMIT_DATA` counts it, 0 if the process has ended."""
    fields = _read(pid, "statm").split()
    return _PAGE * int(fields[5]) if fields else 0


def pss_bytes(pids: Iterable[int]) -> int:
    """Resident memory, shared pages divided among those that share them. A millisecond per process: ask it rarely."""
    lines = (line for pid in pids for line in _read(pid, "smaps_rollup").splitlines())
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:"))


def belongs_to(pid: int, group: int, entry: bytes) -> bool:
    """Return whether a process is of this group, or was started with `entry` ("NAME=value") in its environment."""
    with contextlib.suppress(OSError):  # it has ended
        return os.getpgid(pid) == group or entry in _read(pid, "environ").split(b"\0")
    return False


def send(pid: int, number: int) -> None:
    """A signal to a process (or, negative, to a group) that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the second: it became another user's
        os.kill(pid, number)


def kill(roots: Iterable[int]) -> set[int]:
    """SIGKILL to `roots` and everything below them; who got one.

    All are frozen first, round after round until no new one turns up, so that none can fork away meanwhile.
    """
    frozen: set[int] = set()
    roots = set(roots)
    for _ in range(20):
        found = set(roots)
        for pid in tuple(found):
            found.update(descendants(pid))
        new = found - frozen
        if not new:
            break
        for pid in new:
            send(pid, signal.SIGSTOP)
        frozen |= new
    for pid in frozen:
        send(pid, signal.SIGKILL)
    return frozen


_ROOT = Path("/sys/fs/cgroup")
#: A kill that no death was put down to within so many looks was of something else: a program that a job had started.
_LOOKS = 8


class KernelKills:
    """Reads the counter file, if there is one."""

    def __init__(self, counter: Path | None) -> None:
        self._counter = counter
        self._settled = self._read()
        self._looks = deque([self._settled], maxlen=_LOOKS)

    def look(self) -> None:
        """To be called now and then: forgets kills that are too old."""
        self._settled = max(self._settled, self._looks[0])
        self._looks.append(self._read())

    def take(self) -> bool:
        """Return whether there was a kill that does not explain another death yet, and count it as used."""
        if self._read() <= self._settled:
            return False
        self._settled += 1
        return True

    def _read(self) -> int:
        if self._counter is None:
            return 0
        try:
            lines = self._counter.read_text().split("\n")
        except OSError:  # the group was removed under us
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def counter_file(groups: str | None = None, root: Path = _ROOT) -> Path | None:
    """Return the counter of this process's control group: the one in `groups`, as `/proc/self/cgroup` has it."""
    if groups is None:
        try:
            groups = Path("/proc/self/cgroup").read_text()
        except OSError:  # not Linux
            return None
    found = dict(line.split(":", 2)[1:] for line in groups.splitlines() if line.count(":") >= 2)
    for path, mount, name in (
        (found.get("", "/"), root, "memory.events"),
        (found.get("memory", "/"), root / "memory", "memory.oom_control"),
    ):
        # In a container the path may be that of the host, while the container's own group is what is mounted.
        for folder in (mount / path.lstrip("/"), mount):
            if (folder / name).is_file():
                return folder / name
    return None
