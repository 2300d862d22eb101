"""A process and all that came from it: reading and killing. From `/proc` on Linux, by psutil elsewhere."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterable

HAS_PROC = os.path.isdir("/proc/self/task")

if HAS_PROC:
    from jobkit.system import proc as table
else:
    from jobkit.system import psutil_table as table  # type: ignore[no-redef]  # it has the same functions

children, descendants, orphans, parents = table.children, table.descendants, table.orphans, table.parents
cpu_s, data_bytes, pss_bytes, rss_bytes = table.cpu_s, table.data_bytes, table.pss_bytes, table.rss_bytes
mine = table.mine


def identity(pid: int) -> tuple[int, int] | None:
    """Return `(pid, start time)`, which no later process with that pid has; None if it has ended."""
    began = table.start(pid)
    return None if began is None else (pid, began)


def mark(pid: int) -> str:
    """Return a text that stands for this process and no other: boot, namespace of pids, pid, start time.

    "" if it has ended, or the system does not say.
    """
    found = identity(pid)
    try:
        return f"{table.place()} {pid} {found[1]}" if found else ""
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


def belongs_to(pid: int, group: int, entry: bytes) -> bool:
    """Return whether a process is of this group, or was started with `entry` ("NAME=value") in its environment."""
    with contextlib.suppress(OSError):  # it has ended
        return os.getpgid(pid) == group or entry in table.environ(pid)
    return False


def send(pid: int, number: int) -> None:
    """A signal to a process (or, negative, to a group) that may be gone."""
    # The second: it became another user's, or (macOS) nothing but zombies are left of a group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill(roots: Iterable[int]) -> set[int]:
    """SIGKILL to `roots` and everything below them; who got one.

    All are frozen first, round after round until no new one turns up, so that none can fork away meanwhile.
    """
    frozen: set[int] = set()
    roots = set(roots)
    for _ in range(20):
        table = parents()
        new = roots.union(*(descendants(pid, table) for pid in roots)) - frozen
        if not new:
            break
        for pid in new:
            send(pid, signal.SIGSTOP)
        frozen |= new
    for pid in frozen:
        send(pid, signal.SIGKILL)
    return frozen
