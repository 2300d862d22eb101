"""The worker's ends of its zygote and of the processes that this forks.

`ZygoteLink` starts a zygote (see `zygote`), sends it requests and hands on what it says. A `ChildProcess` gets one
attempt at a time. Without one it is a spare (forked in advance, no job has run in it) or warm (`reuse=`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from jobkit.model import JobkitError
from jobkit.run.inside.tracebacks import keeps_locals
from jobkit.run.process import frames, tree
from jobkit.run.process.state import without_hidden

#: The task modules may take so long to import.
START_LIMIT_S = 120.0
#: What found no room in the socket is tried again after this.
_AGAIN_S = 0.005
READ_BYTES = 65_536
#: Of a dead process's pipes at most this much is still read.
_LAST_BYTES = 4 << 20


class Closed(Exception):
    """The other end of a pipe is closed."""


class Died(JobkitError):
    """A zygote died while it imported the task modules: it was killed, or one of them ends it."""


class ZygoteLink:
    """The worker's end of one zygote."""

    def __init__(self, process: subprocess.Popen[bytes], link: socket.socket) -> None:
        self._process = process
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self.forked: dict[int, ChildProcess] = {}
        self.is_alive = True
        self.unsafe = ""  #: why nothing should be forked from it
        self._loop.add_reader(link, self._on_message)

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def launch(
        cls, preload: Sequence[str], path: Sequence[str], spool: str, start: str, executable: str = ""
    ) -> ZygoteLink:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            process = _spawn(theirs.fileno(), preload, path, spool, start, executable)
        except OSError as error:
            ours.close()
            raise JobkitError(f"Python could not be started for the jobs: {error}") from None
        finally:
            theirs.close()
        zygote = cls(process, ours)
        try:
            first = await asyncio.wait_for(asyncio.shield(zygote._first), START_LIMIT_S)
        except BaseException as error:
            await zygote.close()
            if isinstance(error, TimeoutError):
                raise JobkitError(f"the task modules took longer than {START_LIMIT_S:g} s to import") from None
            raise
        if "failed" in first:
            await zygote.close()
            raise JobkitError(first["failed"])
        zygote.unsafe = first["unsafe"]
        return zygote

    def tell(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message, after those before it. A full socket is tried again a little later: the zygote is never
        long busy."""
        if not self.is_alive:
            return
        data = msgspec.msgpack.encode(message)
        if self._unsent or not self._send(data, fds):
            if not self._unsent:
                self._loop.call_later(_AGAIN_S, self._send_again)
            self._unsent.append((data, [os.dup(fd) for fd in fds]))

    def _send(self, data: bytes, fds: Sequence[int]) -> bool:
        """Return False if the socket is full."""
        try:
            socket.send_fds(self._link, [data], list(fds))
        except BlockingIOError:
            return False
        except OSError:
            self._on_death()
        return True

    def _send_again(self) -> None:
        while self._unsent:
            data, fds = self._unsent[0]
            if self.is_alive and not self._send(data, fds):
                self._loop.call_later(_AGAIN_S, self._send_again)
                return
            self._unsent.popleft()
            for fd in fds:
                os.close(fd)

    async def close(self) -> None:
        """End the zygote and all of its jobs; returns when they are gone."""
        if self.is_alive:
            self._loop.remove_reader(self._link)
            self._link.shutdown(socket.SHUT_RDWR)  # it kills everything below it and exits
            self._link.close()
            self.is_alive = False
        try:
            await asyncio.to_thread(self._process.wait, 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._orphan_all("the worker closed")
        self._send_again()  # closes what could not be sent

    def _on_message(self) -> None:
        while True:
            try:
                data = self._link.recv(65_536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._on_death()
                return
            message = msgspec.msgpack.decode(data)
            if "started" in message:
                key, pid = message["started"], message["pid"]
                child = self.forked.get(key) if pid else self.forked.pop(key, None)
                if child is not None:
                    child.on_started(pid, message.get("problem", ""))
            elif "exited" in message:
                child = self.forked.pop(message["exited"], None)
                if child is not None:
                    child.on_exit(message["code"], message["cpu_s"], message["peak_rss_bytes"])
            elif not self._first.done():
                self._first.set_result(message)

    def _on_death(self) -> None:
        if not self.is_alive:
            return
        self.is_alive = False
        self._loop.remove_reader(self._link)
        self._link.close()
        if not self._first.done():
            self._first.set_exception(Died("the process that imports the task modules died while doing so"))
        self._orphan_all(f"its parent, the worker's zygote (process {self.pid}), died")

    def _orphan_all(self, why: str) -> None:
        forked, self.forked = self.forked, {}
        for child in forked.values():
            child.on_orphaned(why)


def _spawn(
    fd: int, preload: Sequence[str], path: Sequence[str], spool: str, start: str, executable: str
) -> subprocess.Popen[bytes]:
    arguments = msgspec.msgpack.encode(
        {"preload": preload, "path": path, "spool": spool, "start": start, "locals": keeps_locals()}
    ).hex()
    # The key that signs payloads is none of the jobs' business. Neither is our URL, which may hold a password; both
    # would stay readable in /proc/PID/environ if they were only removed later.
    environ = without_hidden(os.environ)
    if executable:
        environ = _of_other_python(environ, executable)
    environ["PYTHONPATH"] = os.pathsep.join(_import_path(environ))
    # The worker's working directory belongs to the tasks of its own environment.
    command = [executable, "-P"] if executable else [sys.executable]
    return subprocess.Popen(
        [*command, "-m", "jobkit.run.process.zygote", str(fd), arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=[fd],
        start_new_session=True,
        env=environ,
    )


def _of_other_python(environ: Mapping[str, str], executable: str) -> dict[str, str]:
    """Return the variables for a Python of another environment: its programs first, nothing of ours to import."""
    kept = {name: value for name, value in environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    path = os.path.dirname(executable), environ.get("PATH", os.defpath)
    return {**kept, "PATH": os.pathsep.join(path)}


def _import_path(environ: dict[str, str]) -> list[str]:
    """`PYTHONPATH` for the zygote: the directory that this jobkit was imported from must be in it."""
    home = str(Path(__file__).parents[3])
    entries = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return entries if home in entries or "site-packages" in home else [*entries, home]


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
