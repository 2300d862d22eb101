"""`ChildProcess`: one forked process, as its worker sees it: its pipes, the call that it gets and what it says.

It gets one attempt (`ProcessAttempt`) at a time. Without one it is a spare (forked in advance, no job has run in it)
or warm (`reuse=`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from jobkit.model import LogLine
from jobkit.run.attempt import Outcome, unstarted
from jobkit.run.process import frames

_READ_BYTES = 65_536
#: Of a dead process's output at most this much is still read: a process that it has left behind may write without end.
_LAST_BYTES = 4 << 20
#: Of messages that it does not read so many wait; further ones are dropped.
_UNREAD_MOST = 1000


class Occupant(Protocol):
    """The attempt in a process, as the process knows it."""

    stop_kind: str
    damage: str

    def on_ready(self) -> None: ...

    def on_output(self, source: str, data: bytes) -> None: ...

    def on_frame(self, kind: bytes, content: Any) -> None: ...

    def on_exit(self, code: int, cpu_s: float, peak_rss_bytes: int, unsent: Sequence[LogLine] = ()) -> None: ...

    def on_orphaned(self, why: str, *, is_shared: bool = False) -> None: ...

    def finish(self, outcome: Outcome) -> None: ...


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
        on_gone: Callable[[ChildProcess, Occupant | None], None],
    ) -> None:
        self.key = key
        self.pid = 0
        self.kind: object = None  #: which jobs it is kept for
        self.is_usable = True
        self.is_ready = False  #: it is set up and has imported what it has to
        self.libraries: Sequence[str] = ()  #: what else it imports, see `spawned`
        self.spent_cpu_s = 0.0  #: by jobs that have ended in it
        self.jobs = 0
        self._tell, self._on_vacant, self._on_gone = tell, on_vacant, on_gone
        self._loop = asyncio.get_running_loop()
        self._attempt: Occupant | None = None
        self._frames = frames.Frames()
        self._control: socket.socket | None = None
        self._outputs: dict[int, str] = {}
        self._unsent: deque[bytes] = deque()
        self._sending = memoryview(b"")
        self._is_damaged = False
        self._is_unread = False

    def start(self, libraries: Sequence[str] = (), threads: int = 0) -> None:
        """Ask the zygote for the process. Raises OSError if there are no descriptors for its pipes.

        Args:
            threads: of BLAS and OpenMP that its job will probably have; 0 if that is not known.
        """
        self.libraries = libraries
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as undo:
            ours, control = socket.socketpair()
            undo.callback(ours.close)
            theirs.callback(control.close)
            ends = []
            for _ in range(2):
                ends.append(os.pipe())
                undo.callback(os.close, ends[-1][0])
                theirs.callback(os.close, ends[-1][1])
            (out, out_end), (err, err_end) = ends
            message = {"op": "fork", "key": self.key, "libraries": libraries, "threads": threads}
            self._tell(message, (control.fileno(), out_end, err_end))
            undo.pop_all()
        ours.setblocking(False)
        self._control = ours
        self._loop.add_reader(ours, self._read_control)
        for fd, source in ((out, "stdout"), (err, "stderr")):
            os.set_blocking(fd, False)
            self._outputs[fd] = source
            self._loop.add_reader(fd, self._read_output, fd)

    def begin(self, attempt: Occupant, call: Iterator[bytes]) -> None:
        """Send it a call. It need not be there yet."""
        self.jobs += 1
        self._attempt = attempt
        self._unsent.extend(call)
        self._send()

    def send(self, data: bytes) -> None:
        """Send the process a message, after those that are on their way."""
        if len(self._unsent) < _UNREAD_MOST:
            self._unsent.append(data)
        self._send()

    def leave(self, *, is_fit: bool) -> None:
        """The attempt has ended and needs it no more; `is_fit`: it waits for the next call, else it exits by itself."""
        self._attempt = None
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

    def stop(self, op: str) -> None:
        """Ask the zygote for a SIGTERM to its group ("term"), for the end of its tree ("kill"), or to let the job stop
        at a safe point ("ask")."""
        self.is_usable = False  # the signal may arrive late, and must not find another job
        self._tell({"op": op, "key": self.key})

    @property
    def is_busy(self) -> bool:
        return self._attempt is not None

    # -- told by the zygote ------------------------------------------------------------------------------------------

    def on_started(self, pid: int, problem: str) -> None:
        self.pid = pid
        if not pid:
            self._end(lambda attempt: attempt.finish(unstarted(problem)))

    def on_exit(self, code: int, cpu_s: float, peak_rss_bytes: int, unsent: Sequence[LogLine] = ()) -> None:
        """The zygote has reaped it and killed what was left of its tree."""
        self._drain()
        attempt = self._attempt
        is_early = self._is_unread if self.is_ready else code < 0 and len(self.libraries) > 0
        if is_early and attempt is not None and not attempt.stop_kind:
            self._end(None)  # it died while it waited, or of what other jobs have imported: not this job's affair
        else:
            spent_s = max(0.0, cpu_s - self.spent_cpu_s)
            self._end(lambda attempt: attempt.on_exit(code, spent_s, peak_rss_bytes, unsent))

    def on_orphaned(self, why: str, *, is_shared: bool) -> None:
        """The zygote is gone, and with it this process (`PR_SET_PDEATHSIG`)."""
        self._drain()
        self._end(lambda attempt: attempt.on_orphaned(why, is_shared=is_shared))

    def _end(self, tell: Callable[[Occupant], None] | None) -> None:
        """Close all pipes and tell the attempt; None: its call was not read, and the runner has to see to it."""
        self._close_all()
        attempt, self._attempt = self._attempt, None
        if attempt is not None and tell is not None:
            tell(attempt)
        self._on_gone(self, attempt if tell is None else None)

    # -- its pipes ---------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Read all that it has said: its pipes to their end, or until nothing is left in them."""
        self.drain_output()
        while self._read_control():
            pass

    def drain_output(self) -> None:
        """The same of what C code and other processes have printed, of which at most `_LAST_BYTES`."""
        for fd in tuple(self._outputs):
            for _ in range(_LAST_BYTES // _READ_BYTES):
                if not self._read_output(fd):
                    break

    def _read_output(self, fd: int) -> bool:
        """Return whether there may be more."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close_output(fd)
        elif self._attempt is not None:  # else no attempt's output
            self._attempt.on_output(self._outputs[fd], data)
        return bool(data)

    def _read_control(self) -> bool:
        """Return whether there may be more."""
        if self._control is None:
            return False
        try:
            data = self._control.recv(4 * _READ_BYTES)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # it ended, and not all that we had sent was read
            data, self._is_unread = b"", True
        if not data:
            self.is_usable = False
            self._close_control()
        elif not self._is_damaged:
            self._take(data)
        return bool(data)

    def _take(self, data: bytes) -> None:
        try:
            for kind, content in self._frames.feed(data):
                if kind == frames.READY:
                    self.is_ready = True
                    if self._attempt is not None:
                        self._attempt.on_ready()
                elif self._attempt is not None:
                    self._attempt.on_frame(kind, content)
        except (frames.FrameError, LookupError, TypeError, ValueError, OverflowError) as error:
            self._is_damaged = True
            if self._attempt is not None:
                self._attempt.damage = str(error) or type(error).__name__
            self.stop("kill")

    def _send(self) -> None:
        if self._control is None:
            return
        try:
            while True:
                if not self._sending:
                    if not self._unsent:
                        break
                    self._sending = memoryview(self._unsent.popleft())
                self._sending = self._sending[self._control.send(self._sending) :]
        except BlockingIOError:
            self._loop.add_writer(self._control, self._send)
            return
        except OSError:  # it died before it had read everything; its exit says how
            self._is_unread = True
        self._loop.remove_writer(self._control)

    def _close_all(self) -> None:
        self.is_usable = False
        for fd in tuple(self._outputs):
            self._close_output(fd)
        self._close_control()

    def _close_output(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        del self._outputs[fd]
        os.close(fd)

    def _close_control(self) -> None:
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._loop.remove_writer(self._control)
            self._control.close()
            self._control = None
