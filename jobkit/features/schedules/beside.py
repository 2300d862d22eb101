"""Fires schedules whose slot has come.

Every worker does, whatever its queues and however busy its slots are: a slot is not late because one of them is
frozen. The store gives a due schedule to the first worker and lets its slot fire once. A worker's own clock is never
asked: it sleeps for as long as the store told it, or until it hears of an earlier slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from jobkit.codec import Codec
from jobkit.features.schedules.firing import decide, firing, without_jobs
from jobkit.features.schedules.model import ScheduleSnapshot
from jobkit.features.schedules.store import ScheduleStore
from jobkit.model import SignatureError, StoreUnavailable
from jobkit.store.redis import RedisStore
from jobkit.tasks.call import with_own_seed
from jobkit.worker.about import RetryPause

logger = logging.getLogger("jobkit.worker")

#: Look at least this often: a net under the wake-ups for new schedules.
SAFETY_LOOK_S = 5.0

#: Later than this, it is worth a line in the log.
_LATE_S = 1.0


class Scheduler:
    """Fires what is due, beside a worker's loop."""

    name = "scheduler"

    def __init__(self, store: RedisStore, codec: Codec, pause: RetryPause) -> None:
        self._schedules, self._codec, self._pause = store.part(ScheduleStore), codec, pause
        self._wake = asyncio.Event()
        self._told: set[tuple[str, str]] = set()  # schedules that cannot be read here

    def wake(self) -> None:
        """There may be an earlier slot than was known."""
        self._wake.set()

    async def keep(self) -> None:
        """Fire what is due, until cancelled."""
        failures = 0
        while True:
            self._wake.clear()
            try:
                wait_s = await self.look()
                failures = 0
            except StoreUnavailable:  # the worker says it
                await self._pause.wait(failures)
                failures += 1
                continue
            if wait_s > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait_s, SAFETY_LOOK_S)):
                        await self._wake.wait()

    async def look(self) -> float:
        """Fire what is due now; return the seconds until the next slot. Raises StoreUnavailable."""
        due, wait_s = await self._schedules.due()
        await asyncio.gather(*map(self._fire, due))  # together, for many are due at midnight
        return 0.0 if due else wait_s

    async def _fire(self, due: ScheduleSnapshot) -> None:
        name = due.name
        try:
            decision = decide(due)
            try:
                made = firing(due, decision, self._codec, with_own_seed)
            except SignatureError as error:
                logger.warning("schedule %s: its slot is left out: %s", name, error)
                made = firing(due, without_jobs(decision, str(error)), self._codec, with_own_seed)
        except Exception:  # a damaged timing, for instance
            if (name, due.rev) not in self._told and len(self._told) < 1_000:
                self._told.add((name, due.rev))
                logger.exception("schedule %s: this worker cannot fire it", name)
            return
        replies = await self._schedules.fire(made)
        late_s = (due.now_ms - due.next_ms) / 1000
        if replies is not None and made.jobs and late_s > _LATE_S:
            logger.info("schedule %s: fired %.1f s late", name, late_s)


#: Makes what runs beside a worker, see `jobkit/feature.py`.
beside = Scheduler
