"""Detection of threads and open files that a test leaves behind. Runs after every test, so it has to be cheap."""

from __future__ import annotations

import gc
import os
import socket
import threading

#: Prefixes of threads that live as long as the process: the background loop, the caller of watchers, the writer of
#: logs, executors, pytest, tqdm, playwright, IPython, fsspec, Dask.
_STAY = (
    "jobkit-loop",
    "jobkit-watchers",
    "jobkit-log",
    "asyncio_",
    "ThreadPoolExecutor",
    "pytest",
    "Thread-",
    "playwright",
    "tqdm",
    "IPythonHistorySavingThread",
    "fsspecIO",
    "Dask-",
)

#: Descriptors of event loops and of the threads above.
_STAY_FDS = ("anon_inode:[event", "/dev/", "/proc/")

#: Files that libraries keep open for their own use: fonts, IPython's history.
_STAY_FILES = (".ttf", ".otf", "/history.sqlite", "/history.sqlite-journal")

_CONNECTION = "connection to "


def threads() -> set[threading.Thread]:
    """Return the threads that should end with the test."""
    return {each for each in threading.enumerate() if not each.name.startswith(_STAY)}


def descriptors() -> dict[int, str]:
    """Return the target of each open file, pipe and socket by descriptor."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor of the listing itself
            continue
        if target.startswith("socket:"):
            # Socket pairs of loops and connections of browsers close late and would look like leaks. Connections to
            # a server have to be closed.
            target = _server_of(int(name))
        if target and not target.startswith(_STAY_FDS) and not target.endswith(_STAY_FILES):
            found[int(name)] = target
    return found


def _server_of(fd: int) -> str:
    """Return "connection to PATH" for a connected unix socket, otherwise ""."""
    try:
        with socket.socket(fileno=os.dup(fd)) as copy:
            peer = copy.getpeername() if copy.family == socket.AF_UNIX else ""
    except OSError:  # closed meanwhile, or not connected
        return ""
    return f"{_CONNECTION}{peer}" if isinstance(peer, str) and peer else ""


class Before:
    """Threads and descriptors at the start of a test."""

    def __init__(self) -> None:
        self._threads, self._fds = threads(), descriptors()
        self._had_loop = _has_loop()

    def left(self) -> str:
        """Return the new threads and descriptors as a sentence; "" if there are none."""
        new_threads = [each.name for each in threads() - self._threads]
        new_fds = self._new_fds()
        if new_fds:
            gc.collect()  # garbage is not a leak
            new_fds = self._new_fds()
        return " ".join([*(f"thread {name};" for name in new_threads), *(f"descriptor {fd};" for fd in new_fds)])

    def _new_fds(self) -> list[str]:
        if not self._had_loop and _has_loop():  # the first test that uses the background loop creates its socket pair
            return []
        # A kit of several tests may open one more connection to its server.
        known = {target for target in self._fds.values() if target.startswith(_CONNECTION)}
        return [
            f"{fd} ({target})"
            for fd, target in descriptors().items()
            if self._fds.get(fd) != target and target not in known
        ]


def _has_loop() -> bool:
    return any(each.name.startswith("jobkit-loop") for each in threading.enumerate())
