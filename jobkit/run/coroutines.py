"""`CoroutineRunner`: where a coroutine runs. On the worker's own loop if its function has earned it, else in a host.

The worker's own loop is twice as fast as a host (`hosted`), but a coroutine that holds it up holds up every other job,
cannot be killed without the worker, and takes the worker along when it crashes. So a function first shows what it does
in a host, and moves when it has ended well often enough without ever holding the loop for long. Back it goes for good
when it does so later. What must be stoppable or alone stays in a host: jobs with a timeout, jobs that came by value
(the next one may be another function), and jobs whose worker has died.
"""

from __future__ import annotations

from jobkit.run.base import Assignment, Outcome, Sink
from jobkit.run.hosted import HostedRunner
from jobkit.run.inline import AsyncRunner
from jobkit.run.process import ProcessRunner
from jobkit.run.watch import LoopWatch
from jobkit.tasks.call import read_head

#: So many good runs in a row, none of which held the loop for longer than this, move a function to the own loop.
TRUST_RUNS, TRUST_STEP_S = 20, 0.02


class CoroutineRunner:
    """Runs attempts of isolation "async".

    Args:
        processes: forks the hosts.
        block_s: a loop that is held for longer counts as blocked.
        dead_s: a worker none of whose threads runs for so long ends; its leases are over then.
    """

    def __init__(self, processes: ProcessRunner, block_s: float = 1.0, dead_s: float = 15.0) -> None:
        self._hosted = HostedRunner(processes, block_s)
        self._own = AsyncRunner()
        self.watch = LoopWatch(self._own, block_s, dead_s)
        self._block_s = block_s
        self._runs: dict[str, int] = {}  # good ones in a row, by function
        self._barred: set[str] = set()

    async def start(self) -> None:
        await self._hosted.start()
        await self._own.start()
        self.watch.start()

    async def close(self) -> None:
        self.watch.close()
        await self._own.close()
        await self._hosted.close()

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        ref = read_head(assignment.call)[0].ref
        if self.is_trusted(ref) and assignment.timeout_s is None and not assignment.is_suspect:
            outcome, spent = await self._own.measured(assignment, sink)
            if spent.longest_s > self._block_s:
                self._barred.add(ref)
            return outcome
        outcome = await self._hosted.run(assignment, sink)
        if ref:
            is_good = outcome.outcome == "succeeded" and outcome.longest_step_s <= TRUST_STEP_S
            self._runs[ref] = self._runs.get(ref, 0) + 1 if is_good else 0
        return outcome

    def is_trusted(self, ref: str) -> bool:
        """Whether this function (`module:name`, "" for one that travels by value) runs on the worker's own loop."""
        return self._runs.get(ref, 0) >= TRUST_RUNS and ref not in self._barred

    def cancel(self, job_id: str) -> None:
        self._own.cancel(job_id)
        self._hosted.cancel(job_id)

    def kill(self, job_id: str) -> None:
        self._own.kill(job_id)
        self._hosted.kill(job_id)
