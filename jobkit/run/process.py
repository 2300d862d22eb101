"""`ProcessRunner`: each attempt in a process of its own that can always be stopped.

The runner keeps one zygote (see `zygote`) and asks it to fork. What a job says comes up its pipes and is read here by
callbacks of the event loop; nothing here waits for whoever gets the news. Limits are kept from outside: by the loop's
monotonic clock and by looking at the process tree.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from jobkit.model import ErrorKind, JobkitError
from jobkit.run.attempt import failed
from jobkit.run.base import Assignment, Outcome, Sink
from jobkit.run.supervised import Supervised

_START_LIMIT_S = 120.0


class Forked(Protocol):
    """What the zygote has a process for."""

    key: int

    def start(self) -> None: ...

    def on_started(self, pid: int, problem: str) -> None: ...

    def on_exit(self, code: int, cpu_s: float, peak_rss_bytes: int) -> None: ...

    def on_orphaned(self, why: str) -> None: ...


Adopted = TypeVar("Adopted", bound=Forked)


class ProcessRunner:
    """Runs attempts of isolation "process".

    Args:
        preload: modules to import in the zygote, once; their tasks start at once in every child.
        path: directories that are put in front of `sys.path` for that.
    """

    def __init__(self, preload: Sequence[str] = (), path: Sequence[str] = ()) -> None:
        self._preload = tuple(preload)
        self._path = tuple(path)
        self._zygote: _Zygote | None = None
        self._starting = asyncio.Lock()
        self._attempts: dict[str, Supervised] = {}
        self._keys = 0
        self._spool = ""
        self._is_closed = False

    async def start(self) -> None:
        """Start the zygote and import the task modules in it.

        Raises:
            JobkitError: one of them cannot be imported; the message has the error's text.
        """
        self._is_closed = False
        if not self._spool:
            self._spool = tempfile.mkdtemp(prefix="jobkit-")  # mode 0700
        await self._ready()

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        try:
            zygote = await self._ready()
        except JobkitError as error:
            return failed(ErrorKind.CRASH, "zygote", f"no process could be started for the job: {error}")
        self._keys += 1
        spool = os.path.join(self._spool, f"{self._keys}.result")
        attempt = Supervised(self._keys, assignment, sink, spool, zygote.tell)
        zygote.attempts[attempt.key] = attempt
        self._attempts[assignment.job_id] = attempt
        try:
            attempt.start()
            return await attempt.outcome()
        finally:
            if self._attempts.get(assignment.job_id) is attempt:
                del self._attempts[assignment.job_id]

    async def adopt(self, make: Callable[[int, str, Callable[..., None]], Adopted]) -> Adopted:
        """Fork a process for something else than one job.

        Args:
            make: gets a key, a path that is free for its files, and what sends messages to the zygote. What it makes
                is started here, and told of its end.

        Raises:
            JobkitError: there is no zygote.
        """
        zygote = await self._ready()
        self._keys += 1
        made = make(self._keys, os.path.join(self._spool, f"{self._keys}.host"), zygote.tell)
        zygote.attempts[made.key] = made
        made.start()
        return made

    def cancel(self, job_id: str) -> None:
        attempt = self._attempts.get(job_id)
        if attempt is not None:
            attempt.stop("cancel")

    def kill(self, job_id: str) -> None:
        attempt = self._attempts.get(job_id)
        if attempt is not None:
            attempt.kill("kill")

    async def close(self) -> None:
        """Kill what still runs and end the zygote."""
        self._is_closed = True
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            await zygote.close()
        if self._spool:
            shutil.rmtree(self._spool, ignore_errors=True)
            self._spool = ""

    @property
    def pid(self) -> int | None:
        """The zygote's process id while there is one."""
        return None if self._zygote is None else self._zygote.pid

    async def _ready(self) -> _Zygote:
        zygote = self._zygote
        if zygote is not None and zygote.is_alive:
            return zygote
        async with self._starting:
            if self._zygote is None or not self._zygote.is_alive:
                if self._is_closed:
                    raise JobkitError("the worker is shutting down")
                if self._zygote is not None:
                    await self._zygote.close()
                self._zygote = await _Zygote.launch(self._preload, self._path, self._spool)
            return self._zygote


class _Zygote:
    """The worker's end of one zygote."""

    def __init__(self, process: subprocess.Popen[bytes], link: socket.socket) -> None:
        self._process = process
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self.attempts: dict[int, Forked] = {}
        self.is_alive = True
        self._loop.add_reader(link, self._on_message)

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def launch(cls, preload: Sequence[str], path: Sequence[str], spool: str) -> _Zygote:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            process = _spawn(theirs.fileno(), preload, path, spool)
        except OSError as error:
            ours.close()
            raise JobkitError(f"Python could not be started for the jobs: {error}") from None
        finally:
            theirs.close()
        zygote = cls(process, ours)
        try:
            first = await asyncio.wait_for(asyncio.shield(zygote._first), _START_LIMIT_S)
        except BaseException as error:
            await zygote.close()
            if isinstance(error, TimeoutError):
                raise JobkitError(f"the task modules took longer than {_START_LIMIT_S:g} s to import") from None
            raise
        if "failed" in first:
            await zygote.close()
            raise JobkitError(first["failed"])
        return zygote

    def tell(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message. A full socket is tried again a little later: the zygote is never long busy."""
        if not self.is_alive:
            return
        try:
            socket.send_fds(self._link, [msgspec.msgpack.encode(message)], list(fds))
        except BlockingIOError:
            kept = [os.dup(fd) for fd in fds]
            self._loop.call_later(0.005, self._tell_again, message, kept)
        except OSError:
            self._on_death()

    def _tell_again(self, message: dict[str, Any], fds: list[int]) -> None:
        try:
            self.tell(message, fds)
        finally:
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
        self._fail_attempts("the worker closed")

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
                attempt = self.attempts.get(message["started"])
                if attempt is not None:
                    attempt.on_started(message["pid"], message.get("problem", ""))
                    if not message["pid"]:
                        del self.attempts[attempt.key]
            elif "exited" in message:
                attempt = self.attempts.pop(message["exited"], None)
                if attempt is not None:
                    attempt.on_exit(message["code"], message["cpu_s"], message["peak_rss_bytes"])
            elif not self._first.done():
                self._first.set_result(message)

    def _on_death(self) -> None:
        if not self.is_alive:
            return
        self.is_alive = False
        self._loop.remove_reader(self._link)
        self._link.close()
        if not self._first.done():
            self._first.set_result({"failed": "the process that imports the task modules died while doing so"})
        self._fail_attempts(f"its parent, the worker's zygote (process {self.pid}), died")

    def _fail_attempts(self, why: str) -> None:
        attempts, self.attempts = self.attempts, {}
        for attempt in attempts.values():
            attempt.on_orphaned(why)


def _spawn(fd: int, preload: Sequence[str], path: Sequence[str], spool: str) -> subprocess.Popen[bytes]:
    arguments = msgspec.msgpack.encode({"preload": list(preload), "path": list(path), "spool": spool}).hex()
    # The key that signs payloads is none of the jobs' business. Neither is our URL, which may hold a password; both
    # would stay readable in /proc/PID/environ if they were only removed later.
    environ = {k: v for k, v in os.environ.items() if k not in ("JOBKIT_SECRET", "JOBKIT_URL")}
    environ["PYTHONPATH"] = os.pathsep.join(_import_path(environ))
    return subprocess.Popen(
        [sys.executable, "-m", "jobkit.run.zygote", str(fd), arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=[fd],
        start_new_session=True,
        env=environ,
    )


def _import_path(environ: dict[str, str]) -> list[str]:
    """`PYTHONPATH` for the zygote: the directory that this jobkit was imported from must be in it."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    entries = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return entries if home in entries or "site-packages" in home else [*entries, home]
