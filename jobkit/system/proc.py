"""Processes, read from Linux's `/proc`. Cheap enough to look at twice a second. See `processes`."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096  # Windows has no `/proc` either


def _read(pid: int, name: str) -> bytes:
    """Return the content of a file of `/proc/PID`, b"" if the process has ended."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def parents() -> Mapping[int, int] | None:
    """Return what `descendants` needs: nothing, for the kernel lists the children of each process."""
    return None


def children(pid: int) -> list[int]:
    """Return the direct children of a process, of all its threads."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for thread in threads for child in _read(pid, f"task/{thread}/children").split()]


def descendants(pid: int, table: Mapping[int, int] | None = None) -> list[int]:
    """Return all that came from a process and is still connected to it, without itself."""
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


def orphans() -> list[int]:
    """Return the processes whose parent has ended and that may have come from this one, which adopts them."""
    return children(os.getpid())


def start(pid: int) -> int | None:
    """Return the start time of a process, in a unit of the system's; None if it has ended."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[19]) if fields and fields[0] != b"Z" else None


def place() -> str:
    """Return the boot and the namespace of process ids, two words. Raises OSError if the system does not say."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"


def rss_bytes(pid: int) -> int:
    fields = _read(pid, "statm").split()
    return _PAGE * int(fields[1]) if fields else 0


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process and of those of its children that it has waited for; 0 if it has ended."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def data_bytes(pid: int) -> int:
    fields = _read(pid, "statm").split()
    return _PAGE * int(fields[5]) if fields else 0


def pss_bytes(pid: int) -> int:
    lines = _read(pid, "smaps_rollup").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:"))


def environ(pid: int) -> list[bytes]:
    """Return the environment that a process was started with, as NAME=value."""
    return _read(pid, "environ").split(b"\0")


def mine() -> Iterator[tuple[int, list[bytes]]]:
    """Yield the other processes of this user in this container, with their environments. Raises OSError if the machine
    is short of something."""
    user, spaces = os.geteuid(), _namespaces("self")
    for pid in map(int, filter(str.isdigit, os.listdir("/proc") if spaces else ())):
        try:
            if pid == os.getpid() or os.stat(f"/proc/{pid}").st_uid != user:
                continue
            with open(f"/proc/{pid}/environ", "rb") as file:
                entries = file.read().split(b"\0")
        except OSError as error:  # it has ended, or is not ours to read
            if error.errno in _SHORT:
                raise
            continue
        if _namespaces(str(pid)) == spaces:
            yield pid, entries


def _namespaces(pid: str) -> list[str]:
    """Return the namespaces in which its process ids and start times are counted; [] if it has ended."""
    links = (f"/proc/{pid}/ns/{kind}" for kind in ("pid", "time"))
    with contextlib.suppress(OSError):
        return [os.readlink(link) for link in links if os.path.lexists(link)]
    return []
