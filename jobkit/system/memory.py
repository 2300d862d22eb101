"""Memory of processes: kills by the kernel because it ran out, the peak of one, and memory that two of them share.

Linux counts kills for each control group, in `memory.events` (version 2) or `memory.oom_control` (version 1). A job's
process is in the group of its worker, and `oom_score_adj` lets the kernel choose it. If there is no counter, nothing is
certain.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import mmap
import os
import resource
import secrets
import sys
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

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


@cache
def available_bytes() -> int:
    """Return the memory of this machine, or of its control group if that has a lower limit; 0 if unknown."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if (counter := counter_file()) is not None:
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number
                found.append(int(counter.with_name(name).read_text()))
    return min(found, default=0)


def was_scarce(used: int) -> bool:
    """Return whether memory was short while a process that has just died had `used` bytes; False if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().split("\n")
    except OSError:  # not Linux
        return False
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    return bool(free) and free - used < available_bytes() / 10


def offer_to_kernel() -> None:
    """Let the kernel take this process when memory runs out, not the worker and not Redis."""
    with contextlib.suppress(OSError):  # not in every container, and on Linux alone
        Path("/proc/self/oom_score_adj").write_bytes(b"800")


#: `ru_maxrss` counts bytes there, KiB elsewhere; nothing but the name tells.
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


def peak_rss_bytes(usage: resource.struct_rusage) -> int:
    """Return the peak of the resident memory."""
    return usage.ru_maxrss * _MAXRSS_BYTES


def shared(size: int) -> mmap.mmap:
    """Return memory of a process that it shares with those that it will fork."""
    return mmap.mmap(-1, size)


def keep_from_forks(memory: mmap.mmap) -> None:
    """Leave memory out of the processes that are forked later, if the system can."""
    if hasattr(mmap, "MADV_DONTFORK"):
        memory.madvise(mmap.MADV_DONTFORK)


def named(size: int) -> tuple[mmap.mmap, int]:
    """Return memory with an inheritable descriptor, by which another program can have it too (`mmap.mmap(fd, size)`).
    It has a name for a moment only."""
    # As `multiprocessing.shared_memory` does, which would start a process to track it.
    system: Any = importlib.import_module("_posixshmem")
    name = f"/jobkit-{secrets.token_hex(6)}"
    fd = system.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        system.shm_unlink(name)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_SETFD, 0)  # inheritable
        return mmap.mmap(fd, size), fd
    except BaseException:
        os.close(fd)
        raise
