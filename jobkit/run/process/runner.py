"""`ProcessRunner`: each attempt in a separate process that can always be stopped.

The runner keeps one zygote (see `zygote`) and asks it to fork; some processes are forked before their job comes. What a
job says comes up its pipes and is read here by callbacks of the event loop; nothing here waits for the receiver of the
news. Limits are kept from outside: by the loop's monotonic clock and by looking at the process tree.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobkit.files.file_store import PASSING, temporary
from jobkit.model import ErrorKind, JobkitError
from jobkit.run.attempt import Assignment, Outcome, failed, unstarted
from jobkit.run.inside.recorder import Sink
from jobkit.run.inside.tracebacks import keeps_locals
from jobkit.run.process.attempt import START_LIMIT_S, ProcessAttempt
from jobkit.run.process.child_process import ChildProcess
from jobkit.run.process.last_words import unsent
from jobkit.run.process.leftovers import OWNER, end_owned_by, new_owner
from jobkit.run.process.state import LIBRARIES_MOST, without_hidden
from jobkit.run.shortage import Shortage, first_file_limit, shortage
from jobkit.system import own, processes
from jobkit.system.link import Link, pair
from jobkit.system.memory import KernelKills, counter_file
from jobkit.tasks.call import read_head

logger = logging.getLogger("jobkit.worker")

#: So often a zygote is started that dies while it imports the task modules.
_STARTS = 3
#: How often to look at the memory of what runs.
_SAMPLE_S = 0.5
#: A warm process without a job ends after this long, as do all that wait in a worker without one. At most so many warm
#: ones wait; the longest waiting one goes first.
_IDLE_S, _IDLE_MOST = 60.0, 16
#: What found no room in the socket is tried again after this.
_AGAIN_S = 0.005


#: A zygote's process, the worker's end of its link, and the `OWNER` of its processes.
Spawned = tuple[subprocess.Popen[bytes], Link, str]


class ProcessRunner:
    """Runs attempts of isolation "process".

    Args:
        preload: modules to import in the zygote, once; their tasks start at once in every child.
        spares: so many processes wait for jobs, once there has been one. Each takes a few MB.
        start_method: "fork": from a zygote that has imported the task modules. "spawn": from one that has imported
            nothing of the user's; each process imports them by itself, so that no thread, lock or device is shared, and
            the spares wait from the beginning. "auto": fork, but spawn where the system or a task module makes that
            unsafe.
        executable: the interpreter; this process's own unless given.
        is_on_demand: the zygote starts with the first job, and ends while there are no jobs.
    """

    def __init__(
        self,
        preload: Sequence[str] = (),
        spares: int = 2,
        start_method: str = "auto",
        executable: str = "",
        *,
        is_on_demand: bool = False,
    ) -> None:
        self.executable, self._is_on_demand = executable, is_on_demand
        self._start_method = "spawn" if start_method == "auto" and not own.FORK_IS_SAFE else start_method
        self._libraries: dict[str, None] = {}  # that recent jobs have imported
        self._imports_libraries = True  # False if some of them end a process that has the others
        self._preload = tuple(preload)
        self._spares_wanted = spares
        self._zygote: ZygoteLink | None = None
        self._starting = asyncio.Lock()
        self._attempts: dict[str, ProcessAttempt] = {}
        self._waiting: dict[ChildProcess, float] = {}  # since when (of the loop's clock), the longest first
        self.kernel_kills = KernelKills(counter_file())
        self._watching: asyncio.Task[None] | None = None
        self._used_at = 0.0
        self._keys = 0
        self._spool = f"{PASSING}{secrets.token_hex(8)}"
        self._is_closed = False
        self._prepared: Spawned | None = None

    def prepare(self) -> None:
        """Start the process of the zygote, for a `start` that follows. Raises JobkitError."""
        self._prepared = self._spawn()

    def abandon(self) -> None:
        """End the process that `prepare` has started, if no `start` has followed."""
        if self._prepared is not None:
            process, link, _ = self._prepared
            self._prepared = None
            link.close()
            process.kill()
            process.wait()

    async def start(self) -> None:
        """Start the zygote and import the task modules in it. Raises JobkitError if one cannot be imported."""
        self._is_closed = False
        await self._ready()

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        try:
            zygote = await self._ready()
        except (Shortage, Died) as error:
            return unstarted(str(error))
        except JobkitError as error:
            return failed(ErrorKind.CRASH, "zygote", f"no process could be started for the job: {error}")
        self._keys += 1
        folder = os.path.dirname(assignment.log_path) or temporary()
        spool = f"{folder}/{self._spool}-{self._keys}-"
        attempt = ProcessAttempt(assignment, sink, spool, self.kernel_kills)
        self._attempts[assignment.job_id] = attempt
        self._used_at = asyncio.get_running_loop().time()
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        try:
            self._begin(attempt, zygote)
            outcome = await attempt.outcome()
            if self._imports_libraries and not self._libraries.keys() >= set(attempt.libraries):
                self._import_later(attempt.libraries)
            return outcome
        finally:
            if self._attempts.get(assignment.job_id) is attempt:
                del self._attempts[assignment.job_id]

    def stop(self, job_id: str, kind: str) -> None:
        if (attempt := self._attempts.get(job_id)) is not None:
            if kind == "ask":
                attempt.ask()
            elif kind == "kill":
                attempt.kill(kind)
            else:
                attempt.stop(kind)

    async def close(self) -> None:
        """Kill what still runs and end the zygote."""
        self._is_closed = True
        if self._watching is not None:
            self._watching.cancel()
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            await zygote.close()
        self.abandon()

    @property
    def running(self) -> int:
        """Number of attempts."""
        return len(self._attempts)

    def trees(self) -> dict[str, tuple[int, ...]]:
        """Return the processes of each attempt by job id, oldest first; from any thread."""
        return {job_id: attempt.pids for job_id, attempt in list(self._attempts.items()) if attempt.pids}

    @property
    def pid(self) -> int | None:
        """The zygote's process id while there is one."""
        return None if self._zygote is None else self._zygote.pid

    async def _ready(self) -> ZygoteLink:
        async with self._starting:
            if self._zygote is None or not self._zygote.is_alive:
                if self._is_closed:
                    raise JobkitError("the worker is shutting down")
                if self._zygote is not None:
                    await self._zygote.close()
                self._zygote = await self._launch()
                if self._start_method == "spawn":
                    self._fill(self._zygote)
            return self._zygote

    async def _launch(self) -> ZygoteLink:
        deaths = 0
        while True:
            spawned, self._prepared = self._prepared or self._spawn(), None
            try:
                zygote = await ZygoteLink.launch(*spawned)
            except Died as error:  # of memory that had run out, for instance: no reason to fail the job that waits
                deaths += 1
                if deaths == _STARTS:
                    raise
                logger.warning("%s; starting another", error)
                continue
            if not zygote.unsafe or self._start_method != "auto":
                return zygote
            logger.warning("jobs are spawned and not forked, because %s", zygote.unsafe)
            await zygote.close()
            self._start_method = "spawn"

    def _spawn(self) -> Spawned:
        return _spawn(self._preload, self._start_method, self.executable)

    # -- processes ---------------------------------------------------------------------------------------------------

    def _begin(self, attempt: ProcessAttempt, zygote: ZygoteLink) -> None:
        """Give an attempt a process: a warm one, a spare, or a new one."""
        reuse = attempt.assignment.reuse
        kind = _kind(attempt.assignment) if reuse > 1 else None
        usable = [child for child in self._waiting if child.is_usable]
        # The warm process that worked last, so that those that are not needed come to their end.
        warm = [child for child in usable if kind is not None and child.kind == kind][-1:]
        # Libraries read variables when they are imported: those of the job must be there before.
        environ = attempt.assignment.environ
        spares = [child for child in usable if child.kind is None and not (environ and child.libraries)]
        try:
            child = next(iter(warm + spares), None) or self._fork(zygote, () if environ else tuple(self._libraries))
        except OSError as error:
            attempt.finish(unstarted(shortage(error) or str(error)))
            return
        self._waiting.pop(child, None)
        child.kind = kind
        attempt.begin(child, is_last=child.jobs + 1 >= reuse)
        self._fill(zygote)

    def _fork(self, zygote: ZygoteLink, libraries: Sequence[str]) -> ChildProcess:
        self._keys += 1
        child = ChildProcess(self._keys, zygote.tell, self._wait, self._on_gone)
        child.start(libraries)
        zygote.forked[child.key] = child
        return child

    def _fill(self, zygote: ZygoteLink) -> None:
        spares = sum(child.kind is None and child.is_usable for child in self._waiting)
        with contextlib.suppress(OSError):  # no room for more at the moment
            for _ in range(self._spares_wanted - spares if zygote.is_alive else 0):
                self._wait(self._fork(zygote, tuple(self._libraries)))

    def _import_later(self, libraries: Sequence[str]) -> None:
        """Let spares import what a job has imported. Those that wait are replaced, unless they still import."""
        self._libraries |= dict.fromkeys(libraries)
        if forgotten := tuple(self._libraries)[:-LIBRARIES_MOST]:
            for name in forgotten:
                del self._libraries[name]
            return  # jobs take turns that import more than one process may: each would have all spares replaced
        for child in [child for child in self._waiting if child.kind is None and child.is_ready]:
            self._retire(child)
        if self._zygote is not None:
            self._fill(self._zygote)

    def _wait(self, child: ChildProcess) -> None:
        """Keep a process for a job that will come."""
        self._waiting[child] = asyncio.get_running_loop().time()
        warm = [child for child in self._waiting if child.kind is not None]
        if len(warm) > _IDLE_MOST:
            self._retire(warm[0])

    def _retire(self, child: ChildProcess) -> None:
        del self._waiting[child]
        child.retire()

    def _on_gone(self, child: ChildProcess, unread: Any) -> None:
        self._waiting.pop(child, None)
        if unread is not None:  # the process died before it had a job: that is not this job's affair
            if not child.is_ready and self._imports_libraries:
                logger.warning("a process died while it imported what jobs had imported; now each job does that")
                self._imports_libraries = False
                self._libraries.clear()
            if self._zygote is not None and self._zygote.is_alive:
                self._begin(unread, self._zygote)
            else:
                unread.on_orphaned("the worker closed")

    async def _watch(self) -> None:
        """Keep the limits of what runs, and end what waits for too long, until there was no job for a while."""
        loop = asyncio.get_running_loop()
        while True:
            while self._attempts or loop.time() - self._used_at < _IDLE_S:
                await asyncio.sleep(_SAMPLE_S)
                self.kernel_kills.look()
                table = processes.parents() if self._attempts else None
                for attempt in tuple(self._attempts.values()):
                    attempt.sample(table)
                for child, since in tuple(self._waiting.items()):
                    if child.kind is not None and loop.time() - since >= _IDLE_S:
                        self._retire(child)
            for child in tuple(self._waiting):  # an idle worker takes little memory
                if child.kind is not None or self._start_method != "spawn":  # which takes long to make new ones
                    self._retire(child)
            if self._is_on_demand and self._zygote is not None:
                await self._zygote.close()
            if not self._attempts:
                return


def _kind(assignment: Assignment) -> object:
    """Jobs that may share a process: of one task, from the same directory, with the same import path and variables.

    Not of several tasks, so that what one leaves behind meets nothing but itself. Not of several places: there `utils`
    may be another module.
    """
    head = read_head(assignment.call)
    code = head.code.name if head.code is not None else ""
    return assignment.task, head.ref, head.cwd, head.path, code, tuple(sorted(head.variables.items()))


class Died(JobkitError):
    """A zygote died while it imported the task modules: it was killed, or one of them ends it."""


class ZygoteLink:
    """The worker's end of one zygote."""

    def __init__(self, process: subprocess.Popen[bytes], link: Link, owner: str) -> None:
        self._process, self._link, self._owner = process, link, owner
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[str] = self._loop.create_future()
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self.forked: dict[int, ChildProcess] = {}
        self.is_alive = True
        self._ending: asyncio.Future[None] | None = None  # of what a dead zygote has left behind
        self.unsafe = ""  #: why nothing should be forked from it
        self._loop.add_reader(link, self._on_message)

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def launch(cls, process: subprocess.Popen[bytes], link: Link, owner: str) -> ZygoteLink:
        """Return the link when the zygote has imported the task modules. Raises JobkitError if it cannot."""
        zygote = cls(process, link, owner)
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
        if self._first.cancelled() or not self._first.done():  # it still imports, and has not started anything
            self._process.kill()
        try:
            await asyncio.to_thread(self._process.wait, 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
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
                    # Zygotes of other environments may have an earlier version, which sends no lines.
                    lines = unsent(message.get("unsent", b""))
                    child.on_exit(message["code"], message["cpu_s"], message["peak_rss_bytes"], lines)
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
        for child in self.forked.values():  # those that wait for a job are gone as well
            child.is_usable = False
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


def _spawn(preload: Sequence[str], start: str, executable: str) -> Spawned:
    """Start a zygote. Raises JobkitError if its Python cannot be started."""
    options = {"preload": preload, "start": start, "locals": keeps_locals()}
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
