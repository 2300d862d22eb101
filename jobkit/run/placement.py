"""Choice of where an attempt runs: on the worker's own loop, in a thread, in a child, in another Python environment.

The loop is for coroutines that the worker was started with: their author knows that they share it. Code that came with
a job (typed in a notebook, or a module that this worker has not imported) runs in a child, like plain functions. So do
jobs that must be alone (see `Assignment.is_alone`) and functions that have blocked or killed a loop before. A local
worker also has a zygote for each other Python of its jobs, started on demand; elsewhere a job runs in its worker's
environment. A suspect has a separate zygote, so that what it does to it harms no other job, and none harms it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence, Set

from msgspec.structs import replace

from jobkit.model import ErrorKind, JobkitError
from jobkit.run.attempt import Assignment, Outcome, failed, unstarted
from jobkit.run.inside.recorder import Sink
from jobkit.run.process.leftovers import end_orphans
from jobkit.run.process.runner import ProcessRunner
from jobkit.run.shared import AsyncRunner, SharedProcess, ThreadRunner
from jobkit.run.shortage import Shortage, most_processes
from jobkit.run.watch import LoopWatch, function_of
from jobkit.tasks.call import Environment, own_environment, read_head
from jobkit.tasks.registry import registry

#: So many zygotes for suspects at most, for each Python; further suspects share them.
_APART_MOST = 8


class Placement:
    """Runs attempts of every isolation; see `jobkit.run.attempt.Runner`.

    Args:
        preload, spares, start_method: see `ProcessRunner`.
        block_s: seconds after which a loop that does not turn counts as blocked.
        dead_s: seconds after which a process none of whose threads runs ends; its leases are over then.
        is_local: jobs run in the Python environment that they were submitted from.
        imports_ahead: see `ProcessRunner`.
    """

    def __init__(
        self,
        preload: Sequence[str],
        *,
        spares: int,
        start_method: str,
        block_s: float,
        dead_s: float,
        is_local: bool,
        imports_ahead: bool = True,
    ) -> None:
        self._processes = ProcessRunner(preload, spares, start_method, imports_ahead=imports_ahead)
        self._most_processes = most_processes()
        self._threads, self._loop = ThreadRunner(), AsyncRunner()
        self._others: dict[str, ProcessRunner] = {}  # by `sys.prefix`
        self._apart: Counter[ProcessRunner] = Counter()  # attempts of suspects, by their zygote
        self._preload = preload
        self.watch = LoopWatch(self._loop, block_s, dead_s)
        self._modules: Set[str] = frozenset()
        self._start_method, self._is_local, self._imports_ahead = start_method, is_local, imports_ahead

    @property
    def _all(self) -> list[ProcessRunner | SharedProcess]:
        return [self._processes, self._threads, self._loop, *self._others.values(), *self._apart]

    @property
    def room(self) -> float:
        running = (runner.running for runner in self._all if isinstance(runner, ProcessRunner))
        return self._most_processes - sum(running)

    def trees(self) -> dict[str, tuple[int, ...]]:
        """Return the processes of each attempt that has its own, by job id; from any thread."""
        return {job_id: pids for runner in self._all for job_id, pids in runner.trees().items()}

    def prepare(self) -> None:
        """Start what takes long already, before there is a loop."""
        self._processes.prepare()

    def abandon(self) -> None:
        """End what `prepare` has started, if the worker does not serve."""
        self._processes.abandon()

    async def start(self) -> None:
        self._modules = sys.modules.keys() - {"__main__"}
        sweeping = asyncio.create_task(asyncio.to_thread(end_orphans))
        for runner in self._all:
            await runner.start()
        await sweeping
        self.watch.start()

    async def close(self) -> None:
        """End all of them. May be called again."""
        self.watch.close()
        closing, self._others, self._apart = self._all, {}, Counter()
        for runner in closing:
            await runner.close()

    def stop(self, job_id: str, kind: str) -> None:
        for runner in self._all:
            runner.stop(job_id, kind)

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        mine, asked = own_environment(), assignment.environment
        if asked is None and not self._is_local:
            return await self._run_here(assignment, sink)
        if asked is None and assignment.allow_pickle:  # an unsigned call does not choose a program to start
            asked = read_head(assignment.call).environment
        if asked is None or asked.prefix == mine.prefix:
            ran_in, outcome = mine, await self._run_here(assignment, sink)
        else:
            ran_in, outcome = asked, await self._run_elsewhere(asked, assignment, sink)
        return replace(outcome, usage={**outcome.usage, "python": f"{ran_in.version} ({ran_in.prefix})"})

    async def _run_here(self, assignment: Assignment, sink: Sink) -> Outcome:
        if assignment.is_suspect:
            outcome = await self._run_apart(assignment, sink)
            has_crashed = outcome.error is not None and outcome.error.kind is ErrorKind.CRASH
            if has_crashed and assignment.isolation == "async" and self._is_known(assignment):
                self.watch.bar(assignment)
            return outcome
        if assignment.isolation == "thread":
            return await self._threads.run(assignment, sink)
        if assignment.isolation == "async" and self._may_share(assignment):
            return await self._loop.run(assignment, sink)
        return await self._processes.run(assignment, sink)

    def _may_share(self, assignment: Assignment) -> bool:
        """Return whether the call may run on the loop."""
        if assignment.is_alone or not self._is_known(assignment):
            return False
        barred = self.watch.barred
        return not barred or function_of(assignment.task, read_head(assignment.call)) not in barred

    def _is_known(self, assignment: Assignment) -> bool:
        """Return whether the call names code that the worker was started with."""
        head = read_head(assignment.call)
        if head.ref and assignment.allow_pickle:
            return head.ref.partition(":")[0] in self._modules
        is_by_name = head.is_named or not assignment.allow_pickle  # an unsigned call runs registered tasks alone
        return is_by_name and registry.known(assignment.task) is not None

    async def _run_elsewhere(self, environment: Environment, assignment: Assignment, sink: Sink) -> Outcome:
        """Run an attempt in a process of `environment`, whatever its isolation: no other one of it is here."""
        prefix, executable = environment.prefix, environment.executable
        if not os.access(executable, os.X_OK):
            return failed(
                ErrorKind.REJECTED,
                "Rejected",
                f"the Python environment {prefix}, from which this job was submitted, is gone (there is no "
                f"{executable}): create it again, then retry the job",
            )
        if assignment.is_suspect:
            return await self._run_apart(assignment, sink, executable)
        runner = self._others.get(prefix)
        if runner is None:
            runner = self._others[prefix] = self._on_demand(executable, imports_ahead=self._imports_ahead)
        try:
            await runner.start()
        except Shortage as error:
            return unstarted(str(error))
        except JobkitError as error:
            return failed(ErrorKind.CRASH, "zygote", f"{executable} could not be started for the job: {error}")
        return await runner.run(replace(assignment, isolation="process"), sink)

    async def _run_apart(self, assignment: Assignment, sink: Sink, executable: str = "") -> Outcome:
        """Run a suspect in a process of a zygote that runs nothing else, unless there are too many of them."""
        mine = [runner for runner in self._apart if runner.executable == executable]
        runner = min(mine, key=self._apart.__getitem__, default=None)
        if runner is None or (self._apart[runner] and len(mine) < _APART_MOST):
            runner = self._on_demand(executable)
        self._apart[runner] += 1
        try:
            return await runner.run(replace(assignment, isolation="process"), sink)
        finally:
            self._apart[runner] -= 1

    def _on_demand(self, executable: str, *, imports_ahead: bool = False) -> ProcessRunner:
        preload = () if executable else self._preload  # another Python may not have these modules
        return ProcessRunner(preload, 0, self._start_method, executable, is_on_demand=True, imports_ahead=imports_ahead)
