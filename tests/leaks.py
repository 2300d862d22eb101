"""What a test may leave behind in its own process: nothing. Cheap, since every test asks."""

from __future__ import annotations

import gc
import os
import socket
import threading

#: Threads that live as long as the process, by the beginning of their names: the background loop and who calls watchers
#: for it, the executors of loops, pytest's own, tqdm's monitor, playwright's, IPython's.
_STAY = (
    "jobkit-loop",
    "jobkit-watchers",
    "asyncio_",
    "ThreadPoolExecutor",
    "pytest",
    "Thread-",
    "playwright",
    "tqdm",
    "IPythonHistorySavingThread",
)

#: Descriptors that come with loops and threads that stay.
_STAY_FDS = ("anon_inode:[event", "/dev/", "/proc/")

#: Files that libraries keep open for their own use: fonts, IPython's history.
_STAY_FILES = (".ttf", ".otf", "/history.sqlite", "/history.sqlite-journal")


def threads() -> set[threading.Thread]:
    """Those that are expected to end."""
    return {each for each in threading.enumerate() if not each.name.startswith(_STAY)}


def descriptors() -> dict[int, str]:
    """Open files, pipes and sockets, and what each is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the one that read the directory
            continue
        if target.startswith("socket:"):
            # Pairs of loops and browsers' connections end in their own time: a late one looks like a lost one. But who
            # connects to a Redis has to close that, and says so.
            target = _server_of(int(name))
        if target and not target.startswith(_STAY_FDS) and not target.endswith(_STAY_FILES):
            found[int(name)] = target
    return found


def _server_of(fd: int) -> str:
    """Path of the server's socket that this one is connected to; "" for any other."""
    try:
        with socket.socket(fileno=os.dup(fd)) as copy:
            peer = copy.getpeername() if copy.family == socket.AF_UNIX else ""
    except OSError:  # closed meanwhile, or not connected
        return ""
    return f"connection to {peer}" if isinstance(peer, str) and peer else ""


class Before:
    """What was there when a test began."""

    def __init__(self) -> None:
        self._threads, self._fds = threads(), descriptors()
        self._had_loop = _has_loop()

    def left(self) -> str:
        """What is there now and was not, as a sentence; "" where nothing is."""
        new_threads = [each.name for each in threads() - self._threads]
        new_fds = self._new_fds()
        if new_fds:
            gc.collect()  # what only waits for the collector is not lost
            new_fds = self._new_fds()
        return " ".join([*(f"thread {name};" for name in new_threads), *(f"descriptor {fd};" for fd in new_fds)])

    def _new_fds(self) -> list[str]:
        if (
            not self._had_loop and _has_loop()
        ):  # the first test that needs it: the loop has a pair of sockets for itself
            return []
        return [f"{fd} ({target})" for fd, target in descriptors().items() if self._fds.get(fd) != target]


def _has_loop() -> bool:
    return any(each.name.startswith("jobkit-loop") for each in threading.enumerate())
