"""Counters of ended jobs for Prometheus: outcomes and run times of each task, read from the events at each scrape."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from jobkit.model import EventsExpired, JobSnapshot
from jobkit.store.redis import RedisStore

#: Upper bounds of the buckets of run times, in seconds.
BOUNDS_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)

#: Maximum number of tasks with their own label. All others have the label "other".
MOST_TASKS = 100

#: Events of one read.
_SLICE = 1000


class Endings:
    """Counts the jobs of a namespace that have ended since this process was first asked.

    A job that is deleted before the next `read` is not counted.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        """By task, state, and kind of the error ("" without one)."""
        self._durations: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()
        self._tasks: set[str] = set()
        self._position = ""
        self._reading = asyncio.Lock()

    async def read(self, store: RedisStore) -> None:
        """Count the jobs that have ended since the last read. Must always be called on the same loop."""
        async with self._reading:
            is_behind = bool(self._position)
            try:
                while is_behind:
                    events = await store.events(self._position, _SLICE)
                    for snapshot in await store.snapshots([event.job_id for event in events if event.type.is_end]):
                        if snapshot is not None:
                            self._count(snapshot)
                    self._position = events[-1].id if events else self._position
                    is_behind = len(events) == _SLICE
            except EventsExpired:
                self._position = ""
            self._position = self._position or await store.last_event_id()

    def _count(self, snapshot: JobSnapshot) -> None:
        task = snapshot.spec.task
        if task not in self._tasks and len(self._tasks) >= MOST_TASKS:
            task = "other"
        self._tasks.add(task)
        self.outcomes[task, snapshot.state, snapshot.error.kind if snapshot.error else ""] += 1
        if snapshot.started_at is not None and snapshot.finished_at is not None:
            took_s = (snapshot.finished_at - snapshot.started_at).total_seconds()
            self._durations.setdefault(task, [0] * (len(BOUNDS_S) + 1))[bisect_left(BOUNDS_S, took_s)] += 1
            self._seconds[task] += took_s  # type: ignore[assignment]  # a Counter may have floats

    def histogram(self) -> Iterator[tuple[dict[str, str], float, str]]:
        """Yield the samples of the run times: labels, value and suffix of the name."""
        for task, counts in self._durations.items():
            for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], accumulate(counts), strict=True):
                yield {"task": task, "le": bound}, count, "_bucket"
            yield {"task": task}, self._seconds[task], "_sum"
            yield {"task": task}, sum(counts), "_count"
