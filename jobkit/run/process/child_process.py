"""A process in which jobs run, seen from the worker: its pipes and its end.

It gets one attempt at a time. Without one it is a spare (forked in advance, no job has run in it) or warm (`reuse=`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from jobkit.run.process import frames, tree
from jobkit.run.process.pipe import READ_BYTES, Closed

#: Of a dead process's pipes at most this much is still read.
_LAST_BYTES = 4 << 20


class ProcessClient(Protocol):
    """The attempt that has the process."""

    @property
    def is_stopping(self) -> bool: ...

    def read_output(self, source: str, fd: int) -> None:
        """Raises Closed at its end, BlockingIOError if nothing has come."""
        ...

    def on_ready(self) -> None: ...

    def on_frame(self, kind: bytes, content: Any) -> None: ...

    def on_damage(self, problem: str) -> None: ...

    def on_exit(self, code: int, cpu_s: float, peak_rss_bytes: int) -> None: ...

    def on_refused(self, problem: str) -> None: ...

    def on_orphaned(self, why: str) -> None: ...


class ChildProcess:
    """Made by `ProcessRunner`, told of its end by the zygote.

    Args:
        key: what the zygote knows the process by.
        tell: sends a message, with descriptors, to the zygote.
        on_vacant: called when it can take another job.
        on_gone: called once it has ended, with the attempt whose call it never read.
    """

    def __init__(
        self,
        key: int,
        tell: Callable[..., None],
        on_vacant: Callable[[ChildProcess], None],
        on_gone: Callable[[ChildProcess, ProcessClient | None], None],
    ) -> None:
        self.key = key
        self.pid = 0
        self.kind: object = None  #: which jobs it is kept for
        self.is_usable = True
        self.is_ready = False  #: it is set up and has imported what it has to
        self.spent_cpu_s = 0.0  #: by jobs that have ended in it
        self.jobs = 0
        self._tell, self._on_vacant, self._on_gone = tell, on_vacant, on_gone
        self._loop = asyncio.get_running_loop()
        self._occupant: ProcessClient | None = None
        self._frames = frames.Frames()
        self._control: socket.socket | None = None
        self._outputs: dict[int, str] = {}
        self._unsent: Iterator[bytes] = iter(())
        self._sending = memoryview(b"")
        self._is_writing = False
        self._is_damaged = False
        self._is_unread = False

    def start(self) -> None:
        """Ask the zygote for the process."""
        ours, theirs = socket.socketpair()
        out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        try:
            self._tell({"op": "fork", "key": self.key}, (theirs.fileno(), out[1], err[1]))
        finally:
            theirs.close()
            os.close(out[1])
            os.close(err[1])
        ours.setblocking(False)
        self._control = ours
        self._loop.add_reader(ours, self._on_control)
        for fd, source in ((out[0], "stdout"), (err[0], "stderr")):
            os.set_blocking(fd, False)
            self._outputs[fd] = source
            self._loop.add_reader(fd, self._on_output, fd)

    def begin(self, occupant: ProcessClient, call: Iterator[bytes]) -> None:
        """Send it a call. It need not be there yet."""
        self.jobs += 1
        self._occupant = occupant
        self._unsent = call
        self._send()

    def leave(self, *, is_fit: bool) -> None:
        """The attempt has ended and needs it no more; `is_fit`: it waits for the next call, else it exits by itself."""
        self._occupant = None
        if is_fit and self.is_usable:
            self._on_vacant(self)
        else:  # it sends nothing more, and its end need not wake this loop
            self._close_all()

    def retire(self) -> None:
        """End it, while it waits for a call."""
        self.is_usable = False
        if self._control is not None:
            with contextlib.suppress(OSError):  # it has ended just now
                self._control.shutdown(socket.SHUT_WR)

    def ask_to_stop(self) -> None:
        self.is_usable = False  # the signal may arrive late, and must not find another job
        self._tell({"op": "term", "key": self.key})

    def kill(self) -> None:
        self.is_usable = False
        self._tell({"op": "kill", "key": self.key})

    # -- told by the zygote ------------------------------------------------------------------------------------------

    def on_started(self, pid: int, problem: str) -> None:
        self.pid = pid
        if not pid:
            occupant = self._end()
            if occupant is not None:
                occupant.on_refused(problem)
            self._on_gone(self, None)

    def on_exit(self, code: int, cpu_s: float, peak_rss_bytes: int) -> None:
        """The zygote has reaped it and killed what was left of its tree."""
        self.drain()
        is_unread = self._is_unread and self.is_ready
        occupant = self._end()
        if occupant is not None and not (is_unread and not occupant.is_stopping):
            occupant.on_exit(code, max(0.0, cpu_s - self.spent_cpu_s), peak_rss_bytes)
            occupant = None
        self._on_gone(self, occupant)

    def on_orphaned(self, why: str) -> None:
        """The zygote is gone, and with it this process (`PR_SET_PDEATHSIG`); see to what came from that."""
        if self.pid:
            tree.kill([self.pid])
        self.drain()
        occupant = self._end()
        if occupant is not None:
            occupant.on_orphaned(why)
        self._on_gone(self, None)

    def _end(self) -> ProcessClient | None:
        """Close all pipes; return the attempt that had the process."""
        self._close_all()
        occupant, self._occupant = self._occupant, None
        return occupant

    def _close_all(self) -> None:
        self.is_usable = False
        for fd in tuple(self._outputs):
            self._close_output(fd)
        self._close_control()

    # -- its pipes ---------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Read all that it has said: its pipes to their end, or until nothing is left in them."""
        self.drain_output()
        try:
            while self._control is not None:
                self._read_control()
        except BlockingIOError:
            pass

    def drain_output(self) -> None:
        """The same of what C code and other processes have printed, of which at most `_LAST_BYTES`: a process that it
        has left behind may write without end."""
        for fd in tuple(self._outputs):
            with contextlib.suppress(BlockingIOError):
                try:
                    for _ in range(_LAST_BYTES // READ_BYTES):
                        self._read_output(fd)
                except Closed:
                    self._close_output(fd)

    def _on_output(self, fd: int) -> None:
        try:
            self._read_output(fd)
        except BlockingIOError:
            pass
        except Closed:
            self._close_output(fd)

    def _read_output(self, fd: int) -> None:
        if self._occupant is not None:
            self._occupant.read_output(self._outputs[fd], fd)
        elif not os.read(fd, READ_BYTES):  # no attempt's output
            raise Closed

    def _close_output(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        del self._outputs[fd]
        os.close(fd)

    def _close_control(self) -> None:
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._stop_writing()
            self._control.close()
            self._control = None

    def _on_control(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._read_control()

    def _read_control(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(4 * READ_BYTES)
        except ConnectionResetError:  # it ended, and not all that we had sent was read
            data, self._is_unread = b"", True
        if not data:
            self.is_usable = False
            self._close_control()
            return
        if self._is_damaged:
            return
        try:
            for kind, content in self._frames.feed(data):
                if kind == frames.READY:
                    self.is_ready = True
                    if self._occupant is not None:
                        self._occupant.on_ready()
                elif self._occupant is not None:
                    self._occupant.on_frame(kind, content)
        except (frames.FrameError, LookupError, TypeError, ValueError, AttributeError) as error:
            self._is_damaged = True
            if self._occupant is not None:
                self._occupant.on_damage(str(error))
            self.kill()

    def _send(self) -> None:
        if self._control is None:
            return
        try:
            while True:
                if not self._sending:
                    part = next(self._unsent, None)
                    if part is None:
                        self._stop_writing()
                        return
                    self._sending = memoryview(part)
                self._sending = self._sending[self._control.send(self._sending) :]
        except BlockingIOError:
            if not self._is_writing:
                self._is_writing = True
                self._loop.add_writer(self._control, self._send)
        except OSError:  # it died before it had read everything; its exit says how
            self._is_unread = True
            self._stop_writing()

    def _stop_writing(self) -> None:
        if self._is_writing and self._control is not None:
            self._is_writing = False
            self._loop.remove_writer(self._control)
