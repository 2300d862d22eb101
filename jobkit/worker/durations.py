"""Usual duration of each task, for the remaining time of jobs that report no progress."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from statistics import median

from jobkit.model import StoreUnavailable
from jobkit.store.redis import RedisStore

#: The median of so many last runs counts. A task that takes less than this is over before anybody asks.
_RUNS, _LEAST_S = 21, 1.0
#: So many tasks are known; a median is stored again when it has moved by this share.
_TASKS, _MOVED = 1_000, 0.05


class Durations:
    """Of runs that succeeded. Starts with what workers before this one have stored."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._runs: dict[str, deque[float]] = {}
        self._stored: dict[str, float] = {}

    def add(self, task: str, seconds: float) -> None:
        runs = self._runs.get(task)
        if runs is None:
            if len(self._runs) >= _TASKS:
                return
            known = self._stored.get(task)
            runs = self._runs[task] = deque([] if known is None else [known] * 3, maxlen=_RUNS)
        runs.append(seconds)

    def typical_s(self, task: str) -> float | None:
        """Return seconds, or None if not known or too short to matter."""
        runs = self._runs.get(task)
        seconds = median(runs) if runs else self._stored.get(task)
        return None if seconds is None or seconds < _LEAST_S else round(seconds, 3)

    async def keep(self, every_s: float) -> None:
        """Read what is stored, then store what changes, until cancelled."""
        is_read = False
        while True:
            with contextlib.suppress(StoreUnavailable):
                if not is_read:
                    self._stored, is_read = await self._store.took(), True
                await self.store()
            await asyncio.sleep(every_s)

    async def store(self) -> None:
        """Raises StoreUnavailable."""
        changed = {}
        for task in self._runs:
            seconds = self.typical_s(task)
            known = self._stored.get(task)
            if seconds is not None and (known is None or abs(seconds - known) > _MOVED * known):
                changed[task] = seconds
        if changed:
            await self._store.publish_took(changed)
            self._stored |= changed
