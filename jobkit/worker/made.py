"""The facts of a worker: gathered once, stored for the readers of its jobs, and kept as long as these jobs are."""

from __future__ import annotations

import asyncio
import contextlib

from jobkit.codec import Codec
from jobkit.made.facts import Made, gatherer
from jobkit.made.git import LIMIT_S
from jobkit.made.sealed import sealed
from jobkit.model import JobSpec, StoreUnavailable
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import Ending

#: Seconds between two times at which facts that were used are kept for longer.
_TOUCH_S = 600.0


class WorkerFacts:
    """Facts of one worker, and those that its jobs name."""

    def __init__(self, settings: Settings, worker: str, store: RedisStore, codec: Codec) -> None:
        self._gatherer, self._worker = gatherer(settings), worker
        self._store, self._codec = store, codec
        self._ttl_ms = int(settings.result_ttl * 1000)
        self._used: dict[str, int] = {}
        self._made: Made | None = None

    def note(self, spec: JobSpec, ending: Ending) -> None:
        """Keep the facts that a job names as long as the job, which has ended so."""
        self._ttl_ms = max(self._ttl_ms, ending.ttl_ms)
        if spec.made:
            self._used[spec.made] = max(self._used.get(spec.made, 0), ending.ttl_ms)

    async def keep(self) -> None:
        """Store the facts, and what is used again and again, until cancelled."""
        while self._gatherer is not None:
            if self._made is None:
                self._made = await asyncio.to_thread(self._gatherer.current, LIMIT_S)
            with contextlib.suppress(StoreUnavailable):
                await self.store()
            await asyncio.sleep(_TOUCH_S)

    async def store(self) -> None:
        """Raises StoreUnavailable."""
        used, self._used = self._used, {}
        if self._made is not None:
            await self._store.made.keep(sealed(self._made, self._codec), self._ttl_ms, self._worker, self._made.name)
        await self._store.made.touch(used)
