"""Descriptors, children, threads and C output of the calling process, and whether it may fork."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from jobkit.system import processes

#: False if what a process has used of the system's libraries is broken in its forks: on macOS, whose frameworks end
#: such a process. Nothing but the name tells.
FORK_IS_SAFE = sys.platform != "darwin"

_libc = ctypes.CDLL(None)
_LINE_BUFFERED = 1
#: There is no end to the descriptors that a process may have, as far as the system says.
_MANY_FDS = 65_536


def close_from(fd: int) -> None:
    """Close this descriptor and all above it."""
    most = os.sysconf("SC_OPEN_MAX")
    os.closerange(fd, most if 0 < most < 1 << 31 else _MANY_FDS)


def print_by_lines() -> None:
    """Let C code print by lines, although it prints to a pipe."""
    for name in ("stdout", "__stdoutp"):  # the second is macOS's
        try:
            stream = ctypes.c_void_p.in_dll(_libc, name)
        except ValueError:
            continue
        _libc.setvbuf(stream, None, _LINE_BUFFERED, ctypes.c_size_t(0))
        return


def flush_c_output() -> None:
    _libc.fflush(None)


def is_childless() -> bool:
    """Return whether no process that this one has started is left, running or not."""
    if not hasattr(os, "waitid"):  # on macOS before Python 3.13
        return not processes.children(os.getpid())
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def native_threads() -> list[str]:
    """Return the names of all threads, also those that are not Python's; [] if the system does not tell."""
    try:
        return [Path(task, "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    except OSError:
        return []
