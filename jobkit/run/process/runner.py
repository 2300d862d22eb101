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
import sys
from collections.abc import Sequence
from typing import Any

from jobkit.files.file_store import PASSING, temporary
from jobkit.model import ErrorKind, JobkitError
from jobkit.model.format import size
from jobkit.run.attempt import Assignment, Outcome, failed, unstarted
from jobkit.run.inside.imports import MOST
from jobkit.run.inside.recorder import Sink
from jobkit.run.process.ahead import MEMORY_MOST
from jobkit.run.process.child_process import ChildProcess
from jobkit.run.process.libraries import Libraries
from jobkit.run.process.process_attempt import ProcessAttempt
from jobkit.run.process.zygote_link import Died, Spawned, ZygoteLink, spawn
from jobkit.run.shortage import Shortage, shortage
from jobkit.system import own, processes
from jobkit.system.memory import KernelKills, counter_file
from jobkit.system.threads import share
from jobkit.tasks.call import read_head

logger = logging.getLogger("jobkit.worker")

#: So often a zygote is started that dies while it imports the task modules.
_STARTS = 3
#: How often to look at the memory of what runs.
_SAMPLE_S = 0.5
#: A warm process without a job ends after this long, as do all that wait in a worker without one. At most so many warm
#: ones wait; the longest waiting one goes first.
_IDLE_S, _IDLE_MOST = 60.0, 16
#: Slots that were busy this short a time ago count as busy when a job gets its share of threads.
_MOMENT_S = 0.1


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
        imports_ahead: what jobs import is imported for the next ones, see `Libraries` and `spawned`.
    """

    def __init__(
        self,
        preload: Sequence[str] = (),
        spares: int = 2,
        start_method: str = "auto",
        executable: str = "",
        *,
        is_on_demand: bool = False,
        imports_ahead: bool = True,
    ) -> None:
        self.executable, self._is_on_demand = executable, is_on_demand
        self._start_method = "spawn" if start_method == "auto" and not own.FORK_IS_SAFE else start_method
        self._ahead = Libraries(self._launch_with, self._replace_spares)
        self._libraries: dict[str, None] = {}  # that recent jobs have imported, for processes that are no forks
        self._imports_libraries = imports_ahead  # False if some of them end a process that has the others
        self._preload = tuple(preload)
        self._spares_wanted = spares
        self._zygote: ZygoteLink | None = None
        self._starting = asyncio.Lock()
        self._attempts: dict[str, ProcessAttempt] = {}
        self._waiting: dict[ChildProcess, float] = {}  # since when (of the loop's clock), the longest first
        self.kernel_kills = KernelKills(counter_file())
        self._watching: asyncio.Task[None] | None = None
        self._used_at = 0.0
        self._most_running = 0.0, 0  # when (of the loop's clock) so many attempts ran at once
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
        if self._ahead.current() is None:
            await self._ready()

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        try:
            zygote = self._with_libraries(assignment) or await self._ready()
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
        self._ahead.keep()
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        try:
            self._begin(attempt, zygote)
            outcome = await attempt.outcome()
            # What forks and still spawns imports nothing for its processes.
            if attempt.libraries and self._imports_libraries and (self._forks or not own.FORK_IS_SAFE):
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
        await self._ahead.close()
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
            if self.executable and zygote.version != (mine := sys.modules["jobkit"].__version__):
                await zygote.close()
                raise JobkitError(
                    f"it has jobkit {zygote.version}, and this worker {mine}: install the same version in both"
                )
            if not zygote.unsafe or self._start_method != "auto":
                return zygote
            logger.warning("jobs are spawned and not forked, because %s", zygote.unsafe)
            await zygote.close()
            self._start_method = "spawn"

    async def _launch_with(self, libraries: Sequence[str]) -> ZygoteLink:
        """Start a zygote that imports libraries ahead. Raises JobkitError."""
        taken = processes.rss_bytes(self._zygote.pid) if self._zygote is not None and self._zygote.is_alive else 0
        if taken > MEMORY_MOST:  # it would have the task modules a second time
            raise JobkitError(f"the task modules take {size(taken)}")
        zygote = await ZygoteLink.launch(*spawn(self._preload, self._start_method, self.executable, libraries))
        zygote.libraries = tuple(libraries)
        return zygote

    @property
    def _forks(self) -> bool:
        return self._start_method != "spawn"

    def _spawn(self) -> Spawned:
        return spawn(self._preload, self._start_method, self.executable)

    # -- processes ---------------------------------------------------------------------------------------------------

    def _begin(self, attempt: ProcessAttempt, zygote: ZygoteLink) -> None:
        """Give an attempt a process: a warm one, a spare, or a new one."""
        job = attempt.assignment
        kind = _kind(job) if job.reuse > 1 else None
        is_bare = _is_bare(job)
        usable = [child for child in self._waiting if child.is_usable and not (is_bare and child.libraries)]
        # The warm process that worked last, so that those that are not needed come to their end.
        warm = [child for child in usable if kind is not None and child.kind == kind][-1:]
        spares = [child for child in usable if child.kind is None and child.key in zygote.forked]
        try:
            child = next(iter(warm + spares), None) or self._fork(zygote, is_bare=is_bare)
        except OSError as error:
            attempt.finish(unstarted(shortage(error) or str(error)))
            return
        self._waiting.pop(child, None)
        child.kind = kind
        attempt.begin(child, is_last=child.jobs + 1 >= job.reuse, threads=self._share())
        self._fill(zygote)

    def _share(self) -> int:
        """Return the threads of BLAS for a job, by how many ran at once at most since a moment ago: between two short
        jobs a slot is empty."""
        now, running = asyncio.get_running_loop().time(), max(1, len(self._attempts))
        if running >= self._most_running[1] or now > self._most_running[0] + _MOMENT_S:
            self._most_running = now, running
        return share(self._most_running[1])

    def _with_libraries(self, job: Assignment) -> ZygoteLink | None:
        """Return the zygote that has imported libraries, if there is one and the job may have them."""
        return None if _is_bare(job) else self._ahead.current()

    def _fork(self, zygote: ZygoteLink, *, is_bare: bool = False) -> ChildProcess:
        self._keys += 1
        child = ChildProcess(self._keys, zygote.tell, self._wait, self._on_gone)
        child.start(zygote.libraries or (() if is_bare else tuple(self._libraries)), self._share())
        zygote.forked[child.key] = child
        return child

    def _fill(self, zygote: ZygoteLink) -> None:
        spares = sum(child.kind is None and child.is_usable and child.key in zygote.forked for child in self._waiting)
        with contextlib.suppress(OSError):  # no room for more at the moment
            for _ in range(self._spares_wanted - spares if zygote.is_alive else 0):
                self._wait(self._fork(zygote))

    def _import_later(self, libraries: Sequence[str]) -> None:
        """Let what a job has imported be there for the next ones: in a zygote, or in spares if those are no forks."""
        if self._forks:
            self._ahead.want(libraries)
        elif not self._libraries.keys() >= set(libraries):
            self._libraries |= dict.fromkeys(libraries)
            if forgotten := tuple(self._libraries)[:-MOST]:
                for name in forgotten:
                    del self._libraries[name]
                return  # jobs take turns that import more than one process may: each would have all spares replaced
            self._replace_spares()  # those that wait, unless they still import

    def _replace_spares(self) -> None:
        for child in [child for child in self._waiting if child.kind is None and child.is_ready]:
            self._retire(child)
        zygote = self._ahead.current() or self._zygote
        if zygote is not None and self._watching is not None and not self._watching.done():  # else they stay for ever
            self._fill(zygote)

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
                self._ahead.drop()
            zygote = self._with_libraries(unread.assignment) or self._zygote
            if zygote is not None and zygote.is_alive:
                self._begin(unread, zygote)
            else:
                unread.on_orphaned("the worker closed")

    async def _watch(self) -> None:
        """Keep the limits of what runs, and end what waits for too long, until there was no job for a while."""
        loop = asyncio.get_running_loop()
        while True:
            while self._attempts or loop.time() - self._used_at < _IDLE_S:
                await asyncio.sleep(_SAMPLE_S)
                self.kernel_kills.look()
                self._ahead.look()
                table = processes.parents() if self._attempts else None
                for attempt in tuple(self._attempts.values()):
                    attempt.sample(table)
                for child, since in tuple(self._waiting.items()):
                    if child.kind is not None and loop.time() - since >= _IDLE_S:
                        self._retire(child)
            for child in tuple(self._waiting):  # an idle worker takes little memory
                if child.kind is not None or self._start_method != "spawn":  # which takes long to make new ones
                    self._retire(child)
            self._ahead.expire()
            if self._is_on_demand and self._zygote is not None:
                await self._zygote.close()
            if not self._attempts:
                return


def _is_bare(job: Assignment) -> bool:
    """Return whether nothing may be imported before the job comes.

    Libraries read variables when they are imported: those of the job must be there before. And what was imported for
    others is not to count for its memory.
    """
    return bool(job.environ) or job.memory_limit_bytes is not None


def _kind(assignment: Assignment) -> object:
    """Jobs that may share a process: of one task, from the same directory, with the same import path and variables.

    Not of several tasks, so that what one leaves behind meets nothing but itself. Not of several places: there `utils`
    may be another module.
    """
    head = read_head(assignment.call)
    code = head.code.name if head.code is not None else ""
    return assignment.task, head.ref, head.cwd, head.path, code, tuple(sorted(head.variables.items()))
