"""`ZygoteLink`: the worker's end of one zygote, see `zygote`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobkit.model import JobkitError
from jobkit.run.inside.tracebacks import keeps_locals
from jobkit.run.process.child_process import ChildProcess
from jobkit.run.process.last_words import unsent
from jobkit.run.process.leftovers import OWNER, end_owned_by, new_owner
from jobkit.run.process.process_attempt import START_LIMIT_S
from jobkit.run.process.state import without_hidden
from jobkit.run.shortage import Shortage, first_file_limit, shortage
from jobkit.system.link import Link, pair

#: What found no room in the socket is tried again after this.
_AGAIN_S = 0.005

#: A zygote's process, the worker's end of its link, and the `OWNER` of its processes.
Spawned = tuple[subprocess.Popen[bytes], Link, str]


class Died(JobkitError):
    """A zygote died while it imported the task modules: it was killed, or one of them ends it."""


class UnsafeLibrary(JobkitError):
    """A zygote has imported a library after which nothing should be forked. `library`: its name."""

    def __init__(self, library: str, why: str) -> None:
        super().__init__(why)
        self.library = library


class ZygoteLink:
    """The worker's end of one zygote."""

    def __init__(self, process: subprocess.Popen[bytes], link: Link, owner: str) -> None:
        self._process, self._link, self._owner = process, link, owner
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self.forked: dict[int, ChildProcess] = {}
        self.is_alive = True
        self._ending: asyncio.Future[None] | None = None  # of what a dead zygote has left behind
        self.unsafe = ""  #: why nothing should be forked from it
        self.libraries: Sequence[str] = ()  #: what it has imported ahead
        self._installed: dict[str, int] = {}
        self.version = ""
        self._loop.add_reader(link, self._on_message)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_idle(self) -> bool:
        """Return whether it has no process with a job."""
        return not any(child.is_busy for child in self.forked.values())

    def retire(self) -> None:
        """Let no process of it get another job."""
        for child in self.forked.values():
            child.is_usable = False

    @property
    def is_stale(self) -> bool:
        """Return whether packages have been installed or removed since it has imported some."""
        try:
            return any(os.stat(path).st_mtime_ns != at_ns for path, at_ns in self._installed.items())
        except OSError:
            return True

    @classmethod
    async def launch(cls, process: subprocess.Popen[bytes], link: Link, owner: str) -> ZygoteLink:
        """Return the link when the zygote has imported the task modules. Raises JobkitError if it cannot."""
        zygote = cls(process, link, owner)
        try:
            first = await asyncio.wait_for(zygote._first, START_LIMIT_S)
            zygote.unsafe, zygote._installed, zygote.version = first["unsafe"], first["installed"], first["jobkit"]
        except BaseException as error:
            await zygote.close()
            if isinstance(error, TimeoutError):
                raise JobkitError(f"the task modules took longer than {START_LIMIT_S:g} s to import") from None
            raise
        return zygote

    def tell(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message, after those before it. A full socket is tried again a little later: the zygote is never
        long busy. Raises OSError if there are no descriptors to keep `fds` until then."""
        if not self.is_alive:
            return
        data, held = msgspec.msgpack.encode(message), []
        if self._unsent or not self._send(data, fds):
            with contextlib.ExitStack() as undo:
                for fd in fds:
                    held.append(os.dup(fd))
                    undo.callback(os.close, held[-1])
                undo.pop_all()
        elif self._link.is_behind:
            data = b""  # nothing but the rest of it
        else:
            return
        if not self._unsent:
            self._loop.call_later(_AGAIN_S, self._send_again)
        self._unsent.append((data, held))

    def _send(self, data: bytes, fds: Sequence[int]) -> bool:
        """Return False if the socket is full, or the kernel has no room for the message."""
        try:
            self._link.send(data, fds)
        except OSError as error:
            if shortage(error):
                return False
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
            if self.is_alive and self._link.is_behind:
                self._unsent.appendleft((b"", []))

    async def close(self) -> None:
        """End the zygote and all of its jobs; returns when they are gone."""
        if self.is_alive:
            self._loop.remove_reader(self._link)
            self._link.shutdown()  # it kills everything below it and exits
            self._link.close()
            self.is_alive = False
        is_early = self._first.cancelled() or not self._first.done()  # it still imports, and has no process of a job
        if is_early:
            self._process.kill()
        try:
            await asyncio.to_thread(self._process.wait, 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            is_early = True
        if is_early:
            await asyncio.to_thread(end_owned_by, self._owner)
        if self._ending is not None:  # it has died before
            await asyncio.wait([self._ending])
        self._orphan_all("the worker closed")
        self._send_again()  # closes what could not be sent

    def _on_message(self) -> None:
        while True:
            try:
                data, _ = self._link.receive()
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
                    lines = unsent(message["unsent"])
                    child.on_exit(message["code"], message["cpu_s"], message["peak_rss_bytes"], lines)
            elif not self._first.done():
                if "failed" in message:
                    self._first.set_exception(JobkitError(message["failed"]))
                elif "refused" in message:
                    self._first.set_exception(UnsafeLibrary(message["refused"], message["unsafe"]))
                else:
                    self._first.set_result(message)

    def _on_death(self) -> None:
        if not self.is_alive:
            return
        self.is_alive = False
        self._loop.remove_reader(self._link)
        self._link.close()
        if not self._first.done():
            self._first.set_exception(Died("the process that imports the task modules died while doing so"))
        self.retire()  # those that wait for a job are gone as well
        why = f"its parent, the worker's zygote (process {self.pid}), died"
        # Before another attempt can start.
        self._ending = self._loop.run_in_executor(None, end_owned_by, self._owner)
        self._ending.add_done_callback(lambda _: self._orphan_all(why))

    def _orphan_all(self, why: str) -> None:
        forked, self.forked = self.forked, {}
        is_shared = sum(child.is_busy for child in forked.values()) > 1
        for child in forked.values():
            child.on_orphaned(why, is_shared=is_shared)


def _not_started(error: OSError) -> JobkitError:
    if why := shortage(error):
        return Shortage(why)
    return JobkitError(f"Python could not be started for the jobs: {error}")


def spawn(preload: Sequence[str], start: str, executable: str, libraries: Sequence[str] = ()) -> Spawned:
    """Start a zygote. Raises JobkitError if its Python cannot be started."""
    options = {"preload": preload, "start": start, "locals": keeps_locals(), "libraries": libraries}
    arguments = msgspec.msgpack.encode({**options, "files": first_file_limit()})
    # The key that signs payloads is none of the jobs' business. Neither is our URL, which may hold a password; both
    # would stay readable in /proc/PID/environ if they were only removed later.
    environ, command = without_hidden(os.environ), [sys.executable]
    environ[OWNER] = owner = new_owner()
    if executable:  # of another environment: its programs first, nothing of ours or of the working directory to import
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            environ.pop(name, None)
        environ["PATH"] = os.pathsep.join([os.path.dirname(executable), environ.get("PATH", os.defpath)])
        command = [executable, "-P"]
    home = str(Path(__file__).parents[3])  # the directory that this jobkit was imported from
    entries = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if home not in entries and "site-packages" not in home:
        entries.append(home)
    try:
        ours, theirs = pair()
    except OSError as error:
        raise _not_started(error) from None
    try:
        process = subprocess.Popen(
            [*command, "-m", "jobkit.run.process.zygote", str(theirs.fileno()), arguments.hex()],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={**environ, "PYTHONPATH": os.pathsep.join(entries)},
        )
    except OSError as error:
        ours.close()
        raise _not_started(error) from None
    finally:
        theirs.close()
    return process, ours, owner
