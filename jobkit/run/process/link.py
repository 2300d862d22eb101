"""`ZygoteLink`: the worker's end of its zygote (see `zygote`), which it starts and sends requests."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobkit.model import JobkitError
from jobkit.run.inside.tracebacks import keeps_locals
from jobkit.run.process.attempt import START_LIMIT_S, ChildProcess
from jobkit.run.process.state import without_hidden

#: What found no room in the socket is tried again after this.
_AGAIN_S = 0.005


class Died(JobkitError):
    """A zygote died while it imported the task modules: it was killed, or one of them ends it."""


class ZygoteLink:
    """The worker's end of one zygote."""

    def __init__(self, process: subprocess.Popen[bytes], link: socket.socket) -> None:
        self._process = process
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[str] = self._loop.create_future()
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
        arguments = msgspec.msgpack.encode(
            {"preload": preload, "path": path, "spool": spool, "start": start, "locals": keeps_locals()}
        )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            process = _spawn(theirs.fileno(), arguments, executable)
        except OSError as error:
            ours.close()
            raise JobkitError(f"Python could not be started for the jobs: {error}") from None
        finally:
            theirs.close()
        zygote = cls(process, ours)
        try:
            zygote.unsafe = await asyncio.wait_for(zygote._first, START_LIMIT_S)
        except BaseException as error:
            await zygote.close()
            if isinstance(error, TimeoutError):
                raise JobkitError(f"the task modules took longer than {START_LIMIT_S:g} s to import") from None
            raise
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
                if "failed" in message:
                    self._first.set_exception(JobkitError(message["failed"]))
                else:
                    self._first.set_result(message["unsafe"])

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


def _spawn(fd: int, arguments: bytes, executable: str) -> subprocess.Popen[bytes]:
    # The key that signs payloads is none of the jobs' business. Neither is our URL, which may hold a password; both
    # would stay readable in /proc/PID/environ if they were only removed later.
    environ, command = without_hidden(os.environ), [sys.executable]
    if executable:  # of another environment: its programs first, nothing of ours or of the working directory to import
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            environ.pop(name, None)
        environ["PATH"] = os.pathsep.join([os.path.dirname(executable), environ.get("PATH", os.defpath)])
        command = [executable, "-P"]
    home = str(Path(__file__).parents[3])  # the directory that this jobkit was imported from
    entries = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if home not in entries and "site-packages" not in home:
        entries.append(home)
    return subprocess.Popen(
        [*command, "-m", "jobkit.run.process.zygote", str(fd), arguments.hex()],
        stdin=subprocess.DEVNULL,
        pass_fds=[fd],
        start_new_session=True,
        env={**environ, "PYTHONPATH": os.pathsep.join(entries)},
    )
