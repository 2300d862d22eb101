"""Shortages of the machine: descriptors, processes, memory, threads.

It is never a job's fault: an attempt that cannot be started is given back, and its worker takes fewer for a while
(`jobkit.worker.capacity`). A worker raises its limit of open files; what it starts for jobs gets the old one, since
programs that use `select` or close all descriptors do not stand a high one.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from jobkit.model import JobkitError

try:
    import resource
except ModuleNotFoundError:  # on Windows, which runs no worker; but clients load this module
    resource = None  # type: ignore[assignment]

V = TypeVar("V")

#: A worker takes at most so many open files, if the system lets it.
_FILES = 65_536
#: Descriptors of a worker for each process of a job.
_EACH = 3
#: Descriptors of a worker for everything else: connections, processes that wait, files.
_REST = 120
#: Seconds for which `patiently` tries again, and between two tries.
_PATIENCE_S, _AGAIN_S = 30.0, 0.2

_FULL = "the limit of processes and threads is reached (`ulimit -u`, or that of the container)"
_REASONS = {
    errno.EMFILE: "its worker has reached its limit of open files (`ulimit -n`)",
    errno.ENFILE: "the machine has reached its limit of open files",
    errno.EAGAIN: _FULL,
    errno.ENOMEM: "the machine has not enough memory",
    errno.ENOBUFS: "the machine has not enough memory",
    errno.ETOOMANYREFS: "its worker has reached its limit of open files (`ulimit -n`)",
}

_first_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource is not None else 0


class Shortage(JobkitError):
    """A process could not be started; the message says what is short."""


def shortage(error: BaseException) -> str:
    """Return what the machine is short of, as a sentence without its full stop; "" for another error."""
    if isinstance(error, Shortage):
        return str(error)
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0, "")
    return _FULL if isinstance(error, RuntimeError) and "start new thread" in str(error) else ""


def raise_file_limit() -> None:
    """Raise this process's limit of open files as far as it may, to `_FILES` at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (_FILES, 10_240):  # macOS takes no more, whatever it says
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                return


def first_file_limit() -> int:
    """Return the limit that this process was started with."""
    return _first_limit


def set_file_limit(soft: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def most_processes() -> float:
    """Return for how many processes of jobs at once this process has descriptors."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return float("inf") if soft == resource.RLIM_INFINITY else max(1, (soft - _REST) // _EACH)


def patiently(function: Callable[..., V], *args: Any) -> V:
    """Call a function, again and again for up to 30 s while the machine is short of what it needs. Blocks."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return function(*args)
        except OSError as error:
            if not shortage(error) or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN_S)


class Threads(ThreadPoolExecutor):
    """Threads of a loop. If no further one can be started, work waits for those that there are."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise
