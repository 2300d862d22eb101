"""The facts of a worker: gathered once, stored for the readers of its jobs, and kept as long as these jobs are.

Jobs that start after a package was installed name newer facts.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

from jobkit.codec import Codec
from jobkit.features.provenance.contents import MadeStore
from jobkit.features.provenance.facts import Made, gatherer, in_environment, package_times, sealed
from jobkit.features.provenance.git import LIMIT_S
from jobkit.model import JobSpec, StoreUnavailable
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import Ending
from jobkit.tasks.call import Environment
from jobkit.worker.attempt import Around, RunningAttempt

#: Seconds after which facts of an environment that is still used are stored again.
_AGAIN_S = 3_600.0

#: Seconds between two comparisons of the packages, which take a few `os.stat`.
_LOOK_S = 0.01

#: Seconds between two times at which facts that were used are kept for longer.
_TOUCH_S = 600.0


class WorkerFacts(Around):
    """Facts of one worker, and those that its jobs name."""

    name = "facts"

    def __init__(self, settings: Settings, worker: str, store: RedisStore, codec: Codec) -> None:
        self._gatherer, self._worker = gatherer(settings), worker
        self._store, self._codec = store.part(MadeStore), codec
        self._ttl_ms = int(settings.result_ttl * 1000)
        self._used: dict[str, int] = {}
        self._made: Made | None = None
        self._built: dict[str, tuple[Made, float]] = {}  # facts by environment, with the time when they were stored
        self._times: tuple[tuple[int, int], ...] = ()  # of the packages that `_latest` was made from
        self._latest: Made | None = None  # None while the packages are those of `_made`
        self._latest_at = self._looked_at = -math.inf  # when it was stored, and the packages compared
        self._comparing = asyncio.Lock()

    async def begin(self, attempt: RunningAttempt) -> dict[str, Any]:
        """Return the name of the facts of an attempt, unless it has those of this worker. Raises StoreUnavailable."""
        if (environment := attempt.environment) is None:
            name = await self.of_packages()
        else:
            name = await self.of_environment(environment, attempt.folders)
        return {"made": name} if name else {}

    async def of_environment(self, environment: Environment, folders: Sequence[str]) -> str:
        """Store the facts of jobs in an environment that was built for them; return their name, "" if there are none.

        Raises StoreUnavailable.
        """
        made, stored_at = self._built.get(environment.prefix, (None, -math.inf))
        if made is None and (own := await self._gathered()) is not None:
            made = in_environment(own, environment.prefix, environment.version, folders)
        if made is not None and time.monotonic() - stored_at > _AGAIN_S:
            await self._store.keep(sealed(made, self._codec), self._ttl_ms)
            self._built[environment.prefix] = made, time.monotonic()
        return "" if made is None else made.name

    async def of_packages(self) -> str:
        """Store the facts of jobs with the present packages; return their name, "" if the worker started with these.

        Raises StoreUnavailable.
        """
        if (now := time.monotonic()) - self._looked_at < _LOOK_S:
            return "" if self._latest is None else self._latest.name
        async with self._comparing:
            if self._made is not None and (times := package_times()) != self._times:
                self._times = times
                version = platform.python_version()
                made = await asyncio.to_thread(in_environment, self._made, sys.prefix, version)
                self._latest = None if made.name == self._made.name else made
                self._latest_at = -math.inf
            if self._latest is not None and time.monotonic() - self._latest_at > _AGAIN_S:
                await self._store.keep(sealed(self._latest, self._codec), self._ttl_ms)
                self._latest_at = time.monotonic()
            self._looked_at = now
            return "" if self._latest is None else self._latest.name

    def note(self, spec: JobSpec, ending: Ending) -> None:
        """Keep the facts that a job names as long as the job, which has ended so."""
        self._ttl_ms = max(self._ttl_ms, ending.ttl_ms)
        for name in filter(None, (spec.made, ending.usage.get("made"))):
            self._used[name] = max(self._used.get(name, 0), ending.ttl_ms)

    async def _gathered(self) -> Made | None:
        if self._made is None and self._gatherer is not None:
            times = package_times()
            made = await asyncio.to_thread(self._gatherer.current, LIMIT_S)
            if self._made is None:
                self._made, self._times = made, times
        return self._made

    async def keep(self) -> None:
        """Store the facts, and what is used again and again, until cancelled."""
        while self._gatherer is not None:
            await self._gathered()
            with contextlib.suppress(StoreUnavailable):
                await self.store()
            await asyncio.sleep(_TOUCH_S)

    async def store(self) -> None:
        """Raises StoreUnavailable."""
        used, self._used = self._used, {}
        if self._made is not None:
            await self._store.keep(sealed(self._made, self._codec), self._ttl_ms, self._worker, self._made.name)
        await self._store.touch(used)


around = WorkerFacts
