"""A worker whose jobs share its process: which of them does it not survive?

A job that kills its worker takes its neighbours along, and each of them counts a loss. So one that has been lost twice
is a suspect and runs with nothing beside it: then the next death tells whose it was, and the neighbours get through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from jobkit.store.values import Ending
from jobkit.worker.attempt import Attempt
from jobkit.worker.worker import Worker as JobWorker

#: A suspect is put back so often, before a busy worker takes no more jobs for its sake.
_MOST_BOUNCES = 4


class LoneWorker(JobWorker):
    """See the module's docstring."""

    _alone: Attempt | None = None

    def _free(self, running: int) -> int:
        return 0 if self._is_alone() else super()._free(running)

    def _run_all(self, held: Sequence[tuple[Attempt, Attempt | None]]) -> None:
        for attempt, before in held:
            is_suspect = attempt.claimed.losses >= min(2, max(1, self.settings.max_losses - 1))
            if (is_suspect and self._others(attempt)) or self._is_alone():
                if is_suspect and not self._is_alone() and _bounces(attempt) >= _MOST_BOUNCES:
                    self._alone = attempt  # nothing more is taken until it has run
                    self._begin_run(attempt, self._run_when_alone(attempt, before))
                else:
                    self._put_back(attempt)
            else:
                self._alone = attempt if is_suspect else self._alone
                super()._run_all([(attempt, before)])

    def _others(self, attempt: Attempt) -> list[Attempt]:
        return [a for a in self._attempts.values() if a is not attempt and a.run is not None and not a.run.done()]

    def _is_alone(self) -> bool:
        return self._alone is not None and self._attempts.get(self._alone.job_id) is self._alone

    def _put_back(self, attempt: Attempt) -> None:
        reason = "a job that its workers did not survive runs with nothing beside it"
        delay_ms = min(5_000, 250 * 2 ** min(10, _bounces(attempt)))
        self._endings.append(
            Ending(attempt.job_id, attempt.claimed.token, "released", reason=reason, delay_ms=delay_ms)
        )
        self._wake.set()

    def _begin_run(self, attempt: Attempt, run: Coroutine[Any, Any, None]) -> None:
        attempt.run = self.loop.create_task(run)
        self._runs.add(attempt.run)
        attempt.run.add_done_callback(self._runs.discard)

    async def _run_when_alone(self, attempt: Attempt, before: Attempt | None) -> None:
        while others := self._others(attempt):
            await asyncio.wait([other.run for other in others if other.run is not None])
            if attempt.is_lost:
                return self._forget(attempt.job_id, attempt.claimed.token)
            if attempt.is_released:
                return self._endings.append(self._release(attempt))
        await self._run_attempt(attempt, before)


def _bounces(attempt: Attempt) -> int:
    """How often it was given back."""
    claimed = attempt.claimed
    return max(0, claimed.attempt - 1 - claimed.losses - claimed.retried)
