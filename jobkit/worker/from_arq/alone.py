"""`SuspectGate`: of jobs that share the process of their worker, which one does it not survive?

A job that kills its worker takes its neighbours along, and each of them counts a loss. So one that has been lost twice
is a suspect and runs with nothing beside it: then the next death tells whose it was, and the neighbours get through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jobkit.store.values import Ending
from jobkit.worker.attempt import RunningAttempt
from jobkit.worker.running import Held, RunningJobs

#: A suspect is put back so often, before a busy worker takes no more jobs for its sake.
_MOST_BOUNCES = 4


class SuspectGate:
    """Starts the attempts of a worker, suspects alone.

    Args:
        running: the worker's attempts. max_losses: a job is not run again after so many.
    """

    def __init__(self, running: RunningJobs, max_losses: int) -> None:
        self._running = running
        self._losses = min(2, max(1, max_losses - 1))
        self._alone: RunningAttempt | None = None

    @property
    def is_closed(self) -> bool:
        """A suspect runs, or is about to: nothing more is taken."""
        return self._alone is not None and self._running.attempts.get(self._alone.job_id) is self._alone

    def start(self, held: Sequence[Held]) -> None:
        for attempt, before in held:
            is_suspect = attempt.claimed.losses >= self._losses
            if (is_suspect and self._others(attempt)) or self.is_closed:
                if is_suspect and not self.is_closed and _bounces(attempt) >= _MOST_BOUNCES:
                    self._alone = attempt  # nothing more is taken until it has run
                    self._running.begin(attempt, self._run_when_alone(attempt, before))
                else:
                    self._put_back(attempt)
            else:
                self._alone = attempt if is_suspect else self._alone
                self._running.start([(attempt, before)])

    def _others(self, attempt: RunningAttempt) -> list[RunningAttempt]:
        attempts = self._running.attempts.values()
        return [a for a in attempts if a is not attempt and a.run is not None and not a.run.done()]

    def _put_back(self, attempt: RunningAttempt) -> None:
        reason = "a job that its workers did not survive runs with nothing beside it"
        delay_ms = min(5_000, 250 * 2 ** min(10, _bounces(attempt)))
        token = attempt.claimed.token
        self._running.endings.append(Ending(attempt.job_id, token, "released", reason=reason, delay_ms=delay_ms))
        self._running.wake.set()

    async def _run_when_alone(self, attempt: RunningAttempt, before: RunningAttempt | None) -> None:
        running = self._running
        while others := self._others(attempt):
            await asyncio.wait([other.run for other in others if other.run is not None])
            if attempt.is_lost:
                return running.forget(attempt.job_id, attempt.claimed.token)
            if attempt.is_released:
                return running.endings.append(running.release(attempt))
        await running.run(attempt, before)


def _bounces(attempt: RunningAttempt) -> int:
    """Return the number of times that it was given back."""
    claimed = attempt.claimed
    return max(0, claimed.attempt - 1 - claimed.losses - claimed.retried)
