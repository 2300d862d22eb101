"""Keeps one `TimelineModel` up to date for all who look at a kit's timeline: read once, written once."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from jobkit.client.loop import background
from jobkit.model import JobEvent, JobkitError, JobSnapshot
from jobkit.runners import Runners
from jobkit.store.query import Page, Query, is_pattern, narrowed
from jobkit.ui.live.pace import Pacer, answered, on_loop
from jobkit.ui.timeline.timeline_model import ATTEMPTS, TimelineModel
from jobkit.ui.timeline.timeline_series import RANGES_MS, fit, series
from jobkit.ui.words.format import defaults_of

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")

#: Shortest time between two deltas, and between two looks at the series (at those of some jobs, which cost more); the
#: longest, since time goes on; from a look at an index that is being filled to the next.
_WINDOW_S, _SERIES_S, _NARROW_SERIES_S, _IDLE_S, _FILLING_S = 0.25, 1.0, 3.0, 15.0, 1.5

#: Jobs that are read at once, those that wait of which the comings are known, and new ones that may be outstanding.
_READ, _WAITING, _OUTSTANDING = 200, 500, 2_000

_EPOCH = datetime.fromtimestamp(0, UTC)

_ENDED = ("succeeded", "failed", "cancelled")

_ALL = Query()


class DeliverTimeline(Protocol):
    """Takes texts to a browser; `whole` holds any of `page` and `series`, `parts` at most `delta`."""

    def __call__(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None: ...


@dataclass(eq=False, slots=True)
class _Looker:
    deliver: DeliverTimeline
    range: str


class TimelineFeed:
    """Lives on the background loop, from the first who looks to the last.

    Args:
        kit, query: which jobs.
        only: the owner whose jobs are shown and counted, whatever the query says; None for everybody's.
    """

    def __init__(self, kit: Kit, query: Query = _ALL, only: str | None = None) -> None:
        self._kit = kit
        self._query = query if only is None else narrowed(query, only)
        self.model = TimelineModel(only=only, query=query)
        self._n = time.time_ns() // 1_000_000
        self._lookers: list[_Looker] = []
        self._pacer = Pacer(_WINDOW_S, self._flush)
        self._counter = Pacer(_NARROW_SERIES_S if self.model.is_narrow else _SERIES_S, self._count)
        self._stops: list[Callable[[], None]] = []
        self._runners = Runners(self._failed)
        self._early: list[JobEvent] | None = []
        self._is_loading = self._again = False
        self._is_reading = self._is_counting = False
        self._searched: int | None = None  # only the newest so many were looked at, while the index is being filled
        self._skew_ms = 0
        self._counted: dict[str, str] = {}  # the newest series by range, for who comes before the next

    # -- who looks ----------------------------------------------------------------------------------------------------

    def add(self, looker: _Looker) -> None:
        self._lookers.append(looker)
        if len(self._lookers) == 1:
            self._stops = [
                self._kit.hub.listen(lambda event: on_loop(self._take, event), None),
                self._kit.hub.on_status(lambda is_live: on_loop(self._status, is_live)),
            ]
            self._runners.run(self._open())
            self._runners.run(self._go_on())
        else:
            self.tell(looker)

    def tell(self, looker: _Looker, n: int = 0) -> None:
        """Everything, unless `n` says that nothing was missed."""
        if self._early is not None:
            return
        if n != self._n:
            counted = self._counted.get(looker.range)
            looker.deliver({"page": self._whole(), **({"series": counted} if counted else {})}, {})
        self._counter.poke()

    def leave(self, looker: _Looker) -> None:
        if looker in self._lookers:
            self._lookers.remove(looker)
            if not self._lookers:
                self._pacer.stop()
                self._counter.stop()
                for stop in self._stops:
                    stop()
                self._runners.cancel()
                _forget(self._kit, self)

    def recount(self) -> None:
        """Somebody looks at another range."""
        self._counter.poke()

    # -- what is read -------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """What was, then what happened while it was read; one after the other, since what is under way when the
        connection comes back may be from before."""
        self._again = True
        if self._is_loading:
            return
        self._is_loading = True
        try:
            while self._again:
                self._again = False
                await self._kit.hub.ready(None)
                self._early = []
                if not self._query.is_plain:
                    self._kit.verbs.use_index()
                self._searched = None
                self.model.defaults = defaults_of(await answered(self._kit.aio.tasks))
                jobs, since_ms, depth_since_ms = await answered(self._read_jobs)
        finally:
            self._is_loading = False
        if self._searched is not None:
            self._runners.run(self._open_again())
        self.model.load(jobs, since_ms, self.model.queued, depth_since_ms)
        for event in self._early or ():
            self.model.take(event)
        self._early = None
        self._n += 1
        page = self._whole()
        for looker in list(self._lookers):
            looker.deliver({"page": page}, {})
        self._counter.poke()
        self._pacer.poke()

    async def _open_again(self) -> None:
        """The index that knows whose jobs are whose is only being made."""
        await asyncio.sleep(_FILLING_S)
        await self._open()

    async def _page(self, states: tuple[str, ...], limit: int, cursor: str = "") -> Page:
        """Some of the jobs in these states that the query finds."""
        asked = self._query.states
        wanted = tuple(state for state in states if not asked or state in asked)
        if not wanted:
            return Page(())
        read = await self._kit.verbs.page(replace(self._query, states=wanted, limit=limit, cursor=cursor, order=""))
        if read.searched is not None:
            self._searched = read.searched
        return read

    async def _look_at_queues(self) -> None:
        if not self.model.is_narrow:
            self.model.queued = (await self._kit.verbs.counts()).get("queued", 0)
        elif is_pattern(self.model.only or "") or (self._query.states and "queued" not in self._query.states):
            self.model.queued = 0  # a name, and no pattern: others' jobs are not to be counted
        elif (count := await self._kit.verbs.count(replace(self._query, states=("queued",)))) is not None:
            self.model.queued = count

    async def _read_jobs(self) -> tuple[list[JobSnapshot], int | None, int]:
        """The newest jobs; before when there are more that have ended, and more that wait."""
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

    async def _learn(self) -> None:
        try:
            ids = self.model.to_read(_READ)
            self.model.learn(await answered(lambda: self._kit.verbs.store.snapshots(ids)))
        finally:
            self._is_reading = False
        self._pacer.poke()

    async def _go_on(self) -> None:
        """Time goes on where nothing happens, too."""
        while True:
            await asyncio.sleep(_IDLE_S)
            self._counter.poke()
            if self._query.newer_s is not None or self._query.older_s is not None:
                await self._open()  # jobs grow older by themselves

    # -- what is told -------------------------------------------------------------------------------------------------

    def _take(self, event: JobEvent) -> None:
        if self._early is not None:
            self._early.append(event)
        elif not event.type.is_news:
            self._skew_ms = max(self._skew_ms, event.at_ms - time.time_ns() // 1_000_000)
            self.model.take(event)
            self._pacer.poke()
            self._counter.poke()

    def _status(self, is_live: bool) -> None:
        if is_live:
            self._runners.run(self._open())

    def _whole(self) -> str:
        return _dumps({**self.model.whole(self._now_ms()), "searched": self._searched, "n": self._n})

    def _flush(self) -> None:
        if len(self.model.unknown) > _OUTSTANDING:
            self.model.skip(self._now_ms())
        delta = self.model.delta(self._now_ms())
        if delta is not None:
            self._n += 1
            text = _dumps({**delta, "n": self._n})
            for looker in list(self._lookers):
                looker.deliver({}, {"delta": text})
        if self.model.unknown and not self._is_reading:
            self._is_reading = True
            self._runners.run(self._learn())

    def _count(self) -> None:
        if not self._is_counting and self._early is None:
            self._is_counting = True
            self._runners.run(self._tell_series())

    async def _tell_series(self) -> None:
        try:
            await self._look_at_queues()
            workers = () if self.model.is_narrow else await self._kit.verbs.workers()
            slots = sum(worker.slots for worker in workers if worker.takes_jobs)
            now_ms = self._now_ms()
            self._counted = {}
            for looker in list(self._lookers):
                if looker.range not in self._counted:
                    self._counted[looker.range] = self._series(looker.range, now_ms, slots)
                looker.deliver({"series": self._counted[looker.range]}, {})
        finally:
            self._is_counting = False

    def _series(self, name: str, now_ms: int, slots: int) -> str:
        if name in RANGES_MS:
            start_ms = now_ms - RANGES_MS[name]
        else:
            start_ms, now_ms = fit(self.model.all_bars(), now_ms, self.model.since_ms)
        return _dumps({"range": name, "slots": slots, "now": now_ms, **series(self.model, start_ms, now_ms)})

    def _now_ms(self) -> int:
        """By this machine's clock, but never before an event that was already heard of."""
        return time.time_ns() // 1_000_000 + self._skew_ms

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, JobkitError):
            raise error
        # The header says that the server is away; the hub tells us when it is back.
        logger.debug("the timeline could not be read: %s", error)


#: By query, and the owner whose jobs alone are shown, None for everybody's.
_feeds: weakref.WeakKeyDictionary[Kit, dict[tuple[Query, str | None], TimelineFeed]] = weakref.WeakKeyDictionary()


def _forget(kit: Kit, feed: TimelineFeed) -> None:
    feeds = _feeds.get(kit, {})
    for key in [key for key, each in feeds.items() if each is feed]:
        del feeds[key]
    if not feeds:
        _feeds.pop(kit, None)


class Looking:
    """One page's hold on the feed; from any thread."""

    def __init__(
        self, kit: Kit, range: str, deliver: DeliverTimeline, *, query: Query = _ALL, only: str | None = None
    ) -> None:
        self._kit, self._key = kit, (query, only)
        self._looker = _Looker(deliver, range)
        self._feed: TimelineFeed | None = None
        self._is_stopped = False
        background.start().call_soon_threadsafe(self._begin)

    def resend(self, n: int) -> None:
        """Everything again, unless `n` is the number of the last delta."""
        background.start().call_soon_threadsafe(self._again, n)

    def look(self, range: str) -> None:
        """At another range: one of `RANGES_MS`, or "fit"."""
        background.start().call_soon_threadsafe(self._turn, range)

    def stop(self) -> None:
        self._is_stopped = True
        background.start().call_soon_threadsafe(self._end)

    def _begin(self) -> None:
        if not self._is_stopped:
            feeds = _feeds.setdefault(self._kit, {})
            self._feed = feeds.get(self._key) or feeds.setdefault(self._key, TimelineFeed(self._kit, *self._key))
            self._feed.add(self._looker)

    def _again(self, n: int) -> None:
        if self._feed is not None and not self._is_stopped:
            self._feed.tell(self._looker, n)

    def _turn(self, range: str) -> None:
        self._looker.range = range
        if self._feed is not None and not self._is_stopped:
            self._feed.recount()

    def _end(self) -> None:
        if self._feed is not None:
            self._feed.leave(self._looker)


def _submitted_ms(snapshot: JobSnapshot) -> int:
    return round((snapshot.submitted_at or _EPOCH).timestamp() * 1000)


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
