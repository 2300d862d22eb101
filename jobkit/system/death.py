"""Processes that end with their parent, however that ends: by the kernel on Linux, elsewhere by a `Guard`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable

#: Linux's call, None elsewhere.
_prctl = getattr(ctypes.CDLL(None) if os.name == "posix" else None, "prctl", None)
IS_BY_KERNEL = _prctl is not None
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def end_with_parent(parent: int, number: int) -> bool:
    """Let this process get a signal when its parent (the thread that has started it) ends; False if it has already.

    Only for a new process. Does nothing on a system without such a call: see `Guard`.
    """
    if _prctl is None:
        return True
    _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    return os.getppid() == parent


def adopt_orphans() -> bool:
    """Let processes whose parent ends, below this one, become its children. Returns False if the system cannot."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return _prctl is not None


class Guard:
    """Sends signals to processes when this one ends, on a system whose kernel does not (`end_with_parent`).

    A shell holds the other end of a pipe, which the kernel closes however this process ends. It has the newest list of
    processes, and runs even while this process or the others do nothing but C code. It ends with the last of them.
    """

    #: A line is a whole list of `SIGNAL:PID`.
    _SCRIPT = (
        'while read -r line; do last=$line; done; for each in $last; do kill -s "${each%%:*}" -- "${each#*:}"; done'
    )

    def __init__(self) -> None:
        self._targets: dict[int, int] = {}
        self._shell: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Start the shell: to be called before a process starts, so that it is in the list at once."""
        if _prctl is None and self._shell is None:
            self._shell = self._started()

    def enlist(self, number: int) -> None:
        """Add the process that calls this: a fresh fork, whose parent may end before it can add the fork."""
        if self._shell is not None and self._shell.stdin is not None:
            self._targets[os.getpid()] = number
            with contextlib.suppress(OSError):
                os.write(self._shell.stdin.fileno(), self._list())

    def add(self, pid: int, number: int) -> None:
        """Add a process, or with a negative id a group, and the signal that it is to get."""
        if _prctl is None:
            self._targets[pid] = number
            self._tell()

    def remove(self, pid: int) -> None:
        """Remove a process that has ended."""
        if self._targets.pop(pid, None) is not None:
            self._tell()
        if self._shell is not None and not self._targets:
            self._close(self._shell)
            self._shell = None

    def _list(self) -> bytes:
        targets = (f"{signal.Signals(number).name[3:]}:{pid}" for pid, number in self._targets.items())
        return f"{' '.join(targets)}\n".encode()

    def _tell(self) -> None:
        for _ in range(2):
            self.prepare()
            assert self._shell is not None
            assert self._shell.stdin is not None
            try:
                os.write(self._shell.stdin.fileno(), self._list())
                return
            except BrokenPipeError:  # it was killed
                self._close(self._shell)
                self._shell = None

    def _close(self, shell: subprocess.Popen[bytes]) -> None:
        """End the shell, which sends the signals of its list."""
        assert shell.stdin is not None
        shell.stdin.close()
        shell.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", "-c", self._SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},  # it must not count as a process of a job
            start_new_session=True,
        )


def end_forks_with(number: int, is_meant: Callable[[], bool]) -> None:
    """Let processes that are forked from this one get a signal when it ends. `is_meant` is called in each of them."""
    if not hasattr(os, "register_at_fork"):  # on Windows, on which nothing forks
        return
    parent = os.getpid()
    ours, theirs = (-1, -1) if _prctl is not None else os.pipe()

    def forked() -> None:
        nonlocal theirs
        if _prctl is not None:
            if is_meant() and not end_with_parent(parent, number):
                os.kill(os.getpid(), number)
            return
        if theirs >= 0:  # else it is a fork of a fork, where the number may be that of another file
            os.close(theirs)
            theirs = -1
        if is_meant():
            threading.Thread(target=wait, name="jobkit-parent", daemon=True).start()

    def wait() -> None:
        os.read(ours, 1)  # until all ends that write have been closed
        os.kill(os.getpid(), number)

    os.register_at_fork(after_in_child=forked)
