"""A process and all that came from it, read from `/proc`, and kills by the kernel because memory ran out (Linux).

Cheap enough to look at twice a second. Linux counts kills for each control group, in `memory.events` (version 2) or
`memory.oom_control` (version 1). A job's process is in the group of its worker, and `oom_score_adj` lets the kernel
choose it. If there is no counter, nothing is certain.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Iterable
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def children(pid: int) -> list[int]:
    """Direct children of a process, of all its threads."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
        except OSError:  # ended in the meantime
            continue
    return found


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
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] == b"Z" else (pid, int(fields[19]))


def rss_bytes(pids: Iterable[int]) -> int:
    """Resident memory, shared pages counted for each process."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                total += int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError):
            continue
    return total


def pss_bytes(pids: Iterable[int]) -> int:
    """Resident memory, shared pages divided among those that share them. A millisecond per process: ask it rarely."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += next((int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:")), 0)
        except OSError:
            continue
    return total


def belongs_to(pid: int, group: int, entry: bytes) -> bool:
    """Return whether a process is of this group, or was started with `entry` ("NAME=value") in its environment."""
    try:
        if os.getpgid(pid) == group:
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            return entry in file.read().split(b"\0")
    except OSError:
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
    """Reads the counter.

    Args:
        counter: the file, or None without one.
    """

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
    """The counter of this process's control group.

    Args:
        groups: what `/proc/self/cgroup` says.
        root: where control groups are mounted.
    """
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
