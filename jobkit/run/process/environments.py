"""Jobs of a local worker in the environment of their submitter: a zygote for each other Python, started on demand.

Only for workers on the submitter's own machine. Elsewhere a job runs in the environment of its worker.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from jobkit.model import ErrorKind, JobkitError
from jobkit.run.attempt import failed
from jobkit.run.base import Assignment, Outcome, Runner, Sink
from jobkit.run.process.runner import ProcessRunner
from jobkit.tasks.call import Environment, own_environment, read_head

#: Seconds after its last job for which the zygote of another environment is kept.
_IDLE_S = 60.0


@dataclass(slots=True)
class _Other:
    """The processes of one other environment."""

    runner: ProcessRunner
    jobs: set[str] = field(default_factory=set)
    idle: asyncio.TimerHandle | None = None

    def stay(self) -> None:
        if self.idle is not None:
            self.idle.cancel()
            self.idle = None


class Environments:
    """The environments other than the worker's own, by `sys.prefix`.

    Args:
        start_method: see `ProcessRunner`.
    """

    def __init__(self, start_method: str = "auto") -> None:
        self._start_method = start_method
        self._others: dict[str, _Other] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def around(self, own: Mapping[str, Runner]) -> dict[str, Runner]:
        """Return runners that give a job of another environment to that one, any other to the worker's `own`."""
        return {isolation: _Placed(runner, self) for isolation, runner in own.items()}

    async def run(self, environment: Environment, assignment: Assignment, sink: Sink) -> Outcome:
        """Run an attempt in a process of `environment`, whatever its isolation: no other one of it is here."""
        prefix, executable = environment.prefix, environment.executable
        if not os.access(executable, os.X_OK):
            return failed(
                ErrorKind.REJECTED,
                "Rejected",
                f"the Python environment {prefix}, from which this job was submitted, is gone (there is no "
                f"{executable}): create it again, then retry the job",
            )
        other = self._others.get(prefix)
        if other is None:
            other = _Other(ProcessRunner(spares=0, start_method=self._start_method, executable=executable))
            self._others[prefix] = other
        other.stay()
        other.jobs.add(assignment.job_id)
        try:
            await other.runner.start()
            return await other.runner.run(replace(assignment, isolation="process"), sink)
        except JobkitError as error:
            return failed(ErrorKind.CRASH, "zygote", f"{executable} could not be started for the job: {error}")
        finally:
            other.jobs.discard(assignment.job_id)
            if not other.jobs:
                other.stay()
                other.idle = asyncio.get_running_loop().call_later(_IDLE_S, self._retire, prefix, other)

    def cancel(self, job_id: str) -> None:
        for other in self._others.values():
            other.runner.cancel(job_id)

    def kill(self, job_id: str) -> None:
        for other in self._others.values():
            other.runner.kill(job_id)

    async def close(self) -> None:
        """End all of them. May be called again."""
        others, self._others = self._others, {}
        for other in others.values():
            other.stay()
            await other.runner.close()
        if self._closing:
            await asyncio.wait(self._closing)

    def _retire(self, prefix: str, other: _Other) -> None:
        if not other.jobs and self._others.get(prefix) is other:
            del self._others[prefix]
            closing = asyncio.ensure_future(other.runner.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


class _Placed:
    """The runner of one isolation in front of the worker's own."""

    def __init__(self, own: Runner, others: Environments) -> None:
        self._own = own
        self._others = others

    async def start(self) -> None:
        await self._own.start()

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        mine = own_environment()
        # An unsigned call does not choose a program to start.
        asked = read_head(assignment.call)[0].environment if assignment.allow_pickle else None
        if asked is None or asked.prefix == mine.prefix:
            ran_in, outcome = mine, await self._own.run(assignment, sink)
        else:
            ran_in, outcome = asked, await self._others.run(asked, assignment, sink)
        return replace(outcome, usage={**outcome.usage, "python": f"{ran_in.version} ({ran_in.prefix})"})

    def cancel(self, job_id: str) -> None:
        self._own.cancel(job_id)
        self._others.cancel(job_id)

    def kill(self, job_id: str) -> None:
        self._own.kill(job_id)
        self._others.kill(job_id)

    async def close(self) -> None:
        await self._own.close()
        await self._others.close()
