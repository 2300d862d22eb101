"""`CoroutineRunner`: on the worker's own loop, or in a process of the job's own.

The loop is for code that the worker was started with: its author knows that coroutines share it. Code that came with a
job (typed in a notebook, or a module that this worker has not imported) runs in a child, like plain functions. So do
jobs that must be alone (see `Assignment.is_alone`) and functions that have blocked the loop before.
"""

from __future__ import annotations

from collections.abc import Collection

from jobkit.run.base import Assignment, Outcome, Sink
from jobkit.run.coroutines.loop import AsyncRunner
from jobkit.run.coroutines.watch import LoopWatch
from jobkit.run.process.runner import ProcessRunner
from jobkit.tasks.call import CallHead, read_head
from jobkit.tasks.registry import registry


class CoroutineRunner:
    """Runs attempts of isolation "async".

    Args:
        processes: runs those that do not share the worker's loop.
        modules: names of the modules whose functions may share it.
        block_s: seconds after which a loop that does not turn counts as blocked.
        dead_s: seconds after which a process none of whose threads runs ends; its leases are over then.
    """

    def __init__(
        self, processes: ProcessRunner, modules: Collection[str] = (), block_s: float = 1.0, dead_s: float = 15.0
    ) -> None:
        self._processes = processes
        self._modules = frozenset(modules) - {"__main__"}
        self._own = AsyncRunner()
        self.watch = LoopWatch(self._own, block_s, dead_s)
        self._barred: set[str] = set()

    async def start(self) -> None:
        await self._processes.start()
        await self._own.start()
        self.watch.start()

    async def close(self) -> None:
        self.watch.close()
        await self._own.close()

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        """Execute one attempt; see `jobkit.run.base.Runner`."""
        head, _ = read_head(assignment.call)
        function = head.ref or assignment.task
        if assignment.is_alone or function in self._barred or not self._is_known(assignment, head):
            return await self._processes.run(assignment, sink)
        try:
            return await self._own.run(assignment, sink)
        finally:
            if self.watch.take_blocked(assignment.job_id):
                self._barred.add(function)

    def _is_known(self, assignment: Assignment, head: CallHead) -> bool:
        """Return whether the call names code that the worker was started with."""
        if head.ref and assignment.allow_pickle:
            return head.ref.partition(":")[0] in self._modules
        is_by_name = head.is_named or not assignment.allow_pickle  # an unsigned call runs registered tasks alone
        return is_by_name and registry.known(assignment.task) is not None

    def cancel(self, job_id: str) -> None:
        self._own.cancel(job_id)
        self._processes.cancel(job_id)

    def kill(self, job_id: str) -> None:
        self._own.kill(job_id)
        self._processes.kill(job_id)
