"""`ProcessRunner`: each attempt in a separate process that can always be stopped.

The runner keeps one zygote (see `zygote`) and asks it to fork; some processes are forked before their job comes. What a
job says comes up its pipes and is read here by callbacks of the event loop; nothing here waits for the receiver of the
news. Limits are kept from outside: by the loop's monotonic clock and by looking at the process tree.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence

from jobkit.model import ErrorKind, JobkitError
from jobkit.run.attempt import Assignment, Outcome, Sink, failed
from jobkit.run.process.attempt import ProcessAttempt
from jobkit.run.process.link import ChildProcess, Died, ProcessClient, ZygoteLink
from jobkit.run.process.tree import KernelKills, counter_file
from jobkit.tasks.call import read_head

logger = logging.getLogger("jobkit.worker")

#: So often a zygote is started that dies while it imports the task modules.
_STARTS = 3
#: How often to look at the memory of what runs.
_SAMPLE_S = 0.5
#: A warm process without a job ends after this long, as do spares of a worker without one. At most so many warm ones
#: wait; the longest waiting one goes first.
_IDLE_S, _IDLE_MOST = 60.0, 16


class ProcessRunner:
    """Runs attempts of isolation "process".

    Args:
        preload: modules to import in the zygote, once; their tasks start at once in every child.
        path: directories that are put in front of `sys.path` for that.
        spares: so many processes wait for jobs, once there has been one. Each takes a few MB.
        start_method: "fork": from a zygote that has imported the task modules. "spawn": from one that has imported
            nothing of the user's; each process imports them by itself, so that no thread, lock or device is shared, and
            the spares wait from the beginning. "auto": fork, but spawn where a task module makes that unsafe.
        executable: the interpreter; this process's own unless given.
    """

    def __init__(
        self,
        preload: Sequence[str] = (),
        path: Sequence[str] = (),
        spares: int = 2,
        start_method: str = "auto",
        executable: str = "",
    ) -> None:
        self._executable = executable
        self._start_method = start_method
        self._preload = tuple(preload)
        self._path = tuple(path)
        self._spares_wanted = spares
        self._zygote: ZygoteLink | None = None
        self._starting = asyncio.Lock()
        self._attempts: dict[str, ProcessAttempt] = {}
        self._spares: list[ChildProcess] = []
        self._warm: dict[ChildProcess, asyncio.TimerHandle] = {}  # the longest waiting first
        self.kernel_kills = KernelKills(counter_file())
        self._sampling: asyncio.TimerHandle | None = None
        self._resting: asyncio.TimerHandle | None = None
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
        attempt = ProcessAttempt(assignment, sink, spool, self.kernel_kills)
        self._attempts[assignment.job_id] = attempt
        if self._sampling is None:
            self._sampling = asyncio.get_running_loop().call_later(_SAMPLE_S, self._sample)
        self._stay_awake()
        try:
            self._begin(attempt, zygote)
            return await attempt.outcome()
        finally:
            if self._attempts.get(assignment.job_id) is attempt:
                del self._attempts[assignment.job_id]

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
        self._stay_awake()
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None
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

    async def _ready(self) -> ZygoteLink:
        zygote = self._zygote
        if zygote is not None and zygote.is_alive:
            return zygote
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
            how = self._preload, self._path, self._spool, self._start_method, self._executable
            try:
                zygote = await ZygoteLink.launch(*how)
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

    # -- processes ---------------------------------------------------------------------------------------------------

    def _begin(self, attempt: ProcessAttempt, zygote: ZygoteLink) -> None:
        """Give an attempt a process: a warm one, a spare, or a new one."""
        reuse = attempt.assignment.reuse
        kind = _kind(attempt.assignment) if reuse > 1 else None
        child = self._take_warm(kind) or self._take_spare() or self._fork(zygote)
        child.kind = kind
        attempt.begin(child, is_last=child.jobs + 1 >= reuse)
        self._fill(zygote)

    def _fork(self, zygote: ZygoteLink) -> ChildProcess:
        self._keys += 1
        child = ChildProcess(self._keys, zygote.tell, self._on_vacant, self._on_gone)
        zygote.forked[child.key] = child
        child.start()
        return child

    def _fill(self, zygote: ZygoteLink) -> None:
        while len(self._spares) < self._spares_wanted and zygote.is_alive:
            self._spares.append(self._fork(zygote))

    def _take_spare(self) -> ChildProcess | None:
        while self._spares:
            child = self._spares.pop(0)
            if child.is_usable:
                return child
        return None

    def _take_warm(self, kind: object) -> ChildProcess | None:
        """Return the warm process that worked last, so that those that are not needed come to their end."""
        if kind is None:
            return None
        child = next((child for child in reversed(self._warm) if child.kind == kind and child.is_usable), None)
        if child is not None:
            self._warm.pop(child).cancel()
        return child

    def _on_vacant(self, child: ChildProcess) -> None:
        self._warm[child] = asyncio.get_running_loop().call_later(_IDLE_S, self._retire, child)
        if len(self._warm) > _IDLE_MOST:
            self._retire(next(iter(self._warm)))

    def _retire(self, child: ChildProcess) -> None:
        timer = self._warm.pop(child, None)
        if timer is not None:
            timer.cancel()
        child.retire()

    def _on_gone(self, child: ChildProcess, unread: ProcessClient | None) -> None:
        if child in self._spares:
            self._spares.remove(child)
        timer = self._warm.pop(child, None)
        if timer is not None:
            timer.cancel()
        if isinstance(unread, ProcessAttempt):  # the process died while it waited: that is not this job's affair
            if self._zygote is not None and self._zygote.is_alive:
                self._begin(unread, self._zygote)
            else:
                unread.on_orphaned("the worker closed")

    def _sample(self) -> None:
        self._sampling = None
        self.kernel_kills.look()
        for attempt in tuple(self._attempts.values()):
            attempt.sample()
        loop = asyncio.get_running_loop()
        if self._attempts:
            self._sampling = loop.call_later(_SAMPLE_S, self._sample)
        elif self._start_method != "spawn":  # those are made in advance because they take long
            self._resting = loop.call_later(_IDLE_S, self._rest)

    def _rest(self) -> None:
        """There was no job for a while: an idle worker takes little memory."""
        self._resting = None
        spares, self._spares = self._spares, []
        for child in spares:
            child.retire()

    def _stay_awake(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None


def _kind(assignment: Assignment) -> object:
    """Jobs that may share a process: of one task, from the same directory, with the same import path.

    Not of several tasks, so that what one leaves behind meets nothing but itself. Not of several places: there `utils`
    may be another module.
    """
    head, _ = read_head(assignment.call)
    return assignment.task, head.ref, head.cwd, head.path
