"""`TimelineFeed`: one `TimelineModel`, kept up to date once for all sessions that look at the same jobs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from jobkit.client import Kit
from jobkit.model import JobEvent, JobSnapshot
from jobkit.model.plain import dumps
from jobkit.store.query import Query, QueryPage, is_pattern
from jobkit.tasks.info import defaults_of
from jobkit.ui.live.shared_feed import QueryFeed, Subscriber
from jobkit.ui.timeline.timeline_model import ATTEMPTS, RANGES_MS, TimelineModel, fit, series

#: Seconds between two counts of the series, at least.
_SERIES_S = 1.0

#: The same for those of some of the jobs, which cost more.
_NARROW_SERIES_S = 3.0

#: Seconds until everything is read again while the index is being filled.
_FILLING_S = 1.5

#: Jobs that are read at once.
_READ = 200

#: Waiting jobs whose time of submission is known.
_WAITING = 500

#: New jobs that may wait to be read.
_OUTSTANDING = 2_000

_EPOCH = datetime.fromtimestamp(0, UTC)

_ENDED = ("succeeded", "failed", "cancelled")

_ALL = Query()


@dataclass(eq=False, slots=True)
class TimelineSubscriber(Subscriber):
    """One timeline; `range` is one of `RANGES_MS`, or "fit"."""

    range: str = "fit"


class TimelineFeed(QueryFeed[TimelineSubscriber]):
    """Delivers `series` as well, as a whole text.

    Args:
        kit, query, only: as of `QueryFeed`.
    """

    LOOK_S = 15.0

    def __init__(self, kit: Kit, query: Query = _ALL, only: str | None = None) -> None:
        self.model = TimelineModel(only=only, query=query)
        super().__init__(kit, query, only, _NARROW_SERIES_S if self.model.is_narrow else _SERIES_S)
        self._searched: int | None = None  # only the newest so many were looked at, while the index is being filled
        self._skew_ms = 0
        self._counted: dict[str, str] = {}  # the newest series by range, for subscribers that come before the next

    def tell(self, subscriber: TimelineSubscriber, version: Any = None) -> None:
        super().tell(subscriber, version)
        counted = self._counted.get(subscriber.range)
        if counted and version != self.n:
            subscriber.deliver({"series": counted}, {})
        self.recount()

    # -- what is read --------------------------------------------------------------------------------------------------

    async def read(self) -> None:
        if not self.query.is_plain:
            self.kit.verbs.use_index()
        self._searched = None
        self.model.defaults = defaults_of(await self.kit.aio.tasks())
        jobs, since_ms, depth_since_ms = await self._read_jobs()
        self.model.load(jobs, since_ms, self.model.queued, depth_since_ms)

    def loaded(self) -> None:
        super().loaded()
        if self._searched is not None:
            self.reload_in(_FILLING_S)
        self.recount()

    async def _page(self, states: tuple[str, ...], limit: int, cursor: str = "") -> QueryPage:
        """Return some of the jobs in these states that the query finds."""
        asked = self.query.states
        wanted = tuple(state for state in states if not asked or state in asked)
        if not wanted:
            return QueryPage(())
        read = await self.kit.verbs.page(replace(self.query, states=wanted, limit=limit, cursor=cursor, order=""))
        if read.searched is not None:
            self._searched = read.searched
        return read

    async def _look_at_queues(self) -> None:
        if not self.model.is_narrow:
            self.model.queued = (await self.kit.verbs.counts()).get("queued", 0)
        elif is_pattern(self.model.only or "") or (self.query.states and "queued" not in self.query.states):
            self.model.queued = 0  # a name, and no pattern: others' jobs are not to be counted
        elif (count := await self.kit.verbs.count(replace(self.query, states=("queued",)))) is not None:
            self.model.queued = count

    async def _read_jobs(self) -> tuple[list[JobSnapshot], int | None, int]:
        """Return the newest jobs, and the times (ms) before which ended and waiting ones are missing."""
        await self._look_at_queues()
        page = self._page
        found: list[JobSnapshot] = []
        depth_since_ms = 0
        for state, limit in (("running", _WAITING), ("scheduled", 100), ("queued", _WAITING)):
            read = await page((state,), limit)
            found += read.jobs
            if state == "queued" and read.next_cursor and read.jobs:
                depth_since_ms = _submitted_ms(read.jobs[-1])
        since_ms, cursor, attempts = None, "", 0
        oldest_ms = self._now_ms() - RANGES_MS["24h"]
        while attempts < ATTEMPTS:
            read = await page(_ENDED, _READ, cursor)
            found += read.jobs
            attempts += sum(max(1, snapshot.attempt) for snapshot in read.jobs)
            cursor = read.next_cursor
            if not cursor or all((s.finished_at or _EPOCH).timestamp() * 1000 < oldest_ms for s in read.jobs):
                break
            since_ms = _submitted_ms(read.jobs[-1]) if read.jobs and attempts >= ATTEMPTS else None
        return found, since_ms, max(depth_since_ms, since_ms or 0)

    def to_read(self) -> list[str]:
        return self.model.to_read(_READ)

    def learn(self, snapshots: list[JobSnapshot | None]) -> None:
        self.model.learn(snapshots)

    def look(self) -> None:
        self.recount()
        if self.is_aging:
            self.reload()

    # -- what is delivered ---------------------------------------------------------------------------------------------

    def take(self, event: JobEvent) -> None:
        if not event.type.is_news:
            self._skew_ms = max(self._skew_ms, event.at_ms - time.time_ns() // 1_000_000)
            self.model.take(event)
            self.poke()
            self.recount()

    def whole(self) -> dict[str, Any]:
        return {**self.model.whole(self._now_ms()), "searched": self._searched}

    def delta(self) -> dict[str, Any]:
        return self.model.delta(self._now_ms())

    def flush(self) -> None:
        if len(self.model.unknown) > _OUTSTANDING:
            self.model.skip(self._now_ms())
        super().flush()

    async def count(self) -> None:
        await self._look_at_queues()
        workers = () if self.model.is_narrow else await self.kit.verbs.store.workers()
        slots = sum(worker.slots for worker in workers if worker.takes_jobs)
        now_ms = self._now_ms()
        self._counted = {}
        for subscriber in list(self.subscribers):
            if subscriber.range not in self._counted:
                self._counted[subscriber.range] = self._series(subscriber.range, now_ms, slots)
            subscriber.deliver({"series": self._counted[subscriber.range]}, {})

    def _series(self, name: str, now_ms: int, slots: int) -> str:
        if name in RANGES_MS:
            start_ms = now_ms - RANGES_MS[name]
        else:
            start_ms, now_ms = fit(self.model.all_bars(), now_ms, self.model.since_ms)
        return dumps({"range": name, "slots": slots, "now": now_ms, **series(self.model, start_ms, now_ms)})

    def _now_ms(self) -> int:
        """Return the time of this machine's clock, but never before an event that has been received."""
        return time.time_ns() // 1_000_000 + self._skew_ms


def _submitted_ms(snapshot: JobSnapshot) -> int:
    return round((snapshot.submitted_at or _EPOCH).timestamp() * 1000)
