"""Keeps pages of jobs up to date: one feed for each query, on the background loop, for all who look at it.

A delta is made once per flush, however many sessions look. With nobody left who looks, a feed ends.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from jobkit.client.loop import background
from jobkit.model import JobEvent, JobkitError, Pause
from jobkit.runners import Runners
from jobkit.store.query import Page, Query, is_pattern, narrowed
from jobkit.store.values import CONTROL
from jobkit.ui.jobs.board import Board
from jobkit.ui.live.pace import Pacer, answered, on_loop
from jobkit.ui.words.format import defaults_of

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")

#: Seconds, at least: between two deltas; two looks at the counters; at those of one owner, which cost more; at how many
#: match; two readings of a page whose rows have left; of one whose index is being filled.
_WINDOW_S, _COUNTS_S, _OWN_COUNTS_S, _TOTAL_S, _THIN_S, _FILLING_S = 0.05, 0.5, 3.0, 3.0, 1.0, 1.5


class BoardFeed:
    """Keeps one `Board` up to date for all who subscribed. Lives on the background loop."""

    def __init__(self, kit: Kit, query: Query, only: str | None = None) -> None:
        self._kit = kit
        self._only = only
        self.board = Board(query, only=only)
        self._subscribers: dict[int, Callable[[str, bool], None]] = {}
        self._next = 0
        self._pacer = Pacer(_WINDOW_S, self._flush)
        self._stops: list[Callable[[], None]] = []
        self._runners = Runners(self._failed)
        self._early: list[JobEvent] | None = []
        self._is_loading = self._again = False
        self._reading = False
        self._counts_due = False
        self._counting = False
        self._total_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deliver: Callable[[str, bool], None]) -> int:
        """Call `deliver(text, is_page)` with the page and then each delta; returns the key for `leave` and `tell`."""
        self._next += 1
        key = self._next
        self._subscribers[key] = deliver
        if len(self._subscribers) == 1:
            self._stops = [
                self._kit.hub.listen(lambda event: on_loop(self._take, event), None),
                self._kit.hub.listen(
                    lambda event: on_loop(lambda _: self._runners.run(self._look_at_pauses()), event), CONTROL
                ),
                self._kit.hub.on_status(lambda is_live: on_loop(self._status, is_live)),
            ]
            self._early = []
            self._runners.run(self._open())
            if not self._kit.hub.is_live:
                self._status(False)
        else:
            self.tell(key)
        return key

    def tell(self, key: int, n: int = 0) -> None:
        """The whole page to one of them, unless `n` says that it has missed nothing."""
        if self._early is None and key in self._subscribers and n != self.board.n:
            self._subscribers[key](self.board.page_json(_now()), True)

    def leave(self, key: int) -> None:
        if self._subscribers.pop(key, None) is not None and not self._subscribers:
            self._pacer.stop()
            if self._timer is not None:
                self._timer.cancel()
            for stop in self._stops:
                stop()
            self._runners.cancel()
            _forget(self._kit, self)

    async def _open(self) -> None:
        """The page, then what happened while it was read."""
        self._kit.verbs.use_index()
        await self._kit.hub.ready(None)
        self.board.defaults = defaults_of(await answered(self._kit.aio.tasks))
        await self._look_at_pauses()
        await self._read()

    async def _look_at_pauses(self) -> None:
        rules = await answered(self._kit.verbs.store.rules)
        pauses = [pause for rule in rules if (pause := Pause.of(rule)) is not None and pause.kind == "queue"]
        by = {pause.name: f" by {pause.by}" if pause.by else "" for pause in pauses}
        self.board.pause({name: f"queue {name} is paused{who}" for name, who in by.items()})
        self._pacer.poke()

    async def _read(self) -> None:
        """One after the other: what is under way when somebody asks may be older than his reason to ask."""
        self._again = True
        if self._is_loading:
            return
        self._is_loading = True
        try:
            while self._again:
                self._again, self._early = False, []
                page, counts, total = await answered(self._page)
        finally:
            self._is_loading = False
        self._total_at = asyncio.get_running_loop().time()
        self.board.load(page, counts, total)
        self.board.is_away = not self._kit.hub.is_live
        for event in self._early or ():
            self.board.take(event)
        self._early = None
        self._publish(self.board.page_json(_now()), True)
        self._pacer.poke()
        if page.searched is not None:
            self._read_in(_FILLING_S)
        elif self.board.query.newer_s is not None or self.board.query.older_s is not None:
            span = min(filter(None, (self.board.query.newer_s, self.board.query.older_s)), default=0.0)
            self._read_in(min(60.0, max(2.0, span / 50)))  # jobs grow older by themselves

    async def _page(self) -> tuple[Page, dict[str, int], int | None]:
        query = self.board.query
        page, counts = await asyncio.gather(self._kit.verbs.page(query), self._kit.verbs.counts(self._only))
        if not page.next_cursor and not query.cursor and page.searched is None:
            return page, counts, len(page.jobs)
        return page, counts, await self._total(counts)

    async def _total(self, counts: dict[str, int]) -> int | None:
        query = self.board.query
        if self._only is not None and is_pattern(self._only):
            return None  # a name, and no pattern: others' jobs are not to be counted
        if query.is_plain and query.newer_s is None and query.older_s is None:
            return sum(counts.get(state, 0) for state in query.states or counts)
        return await self._kit.verbs.count(query)

    def _read_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_has_come)

    def _time_has_come(self) -> None:
        self._timer = None
        self._runners.run(self._read())

    def _take(self, event: JobEvent) -> None:
        if self._early is not None:
            self._early.append(event)
            return
        self.board.take(event)
        self._counts_due = self._counts_due or not event.type.is_news
        self._pacer.poke()

    def _status(self, is_live: bool) -> None:
        if is_live:
            self._runners.run(self._read())
        else:
            self.board.is_away = True
            self._pacer.poke()

    def _flush(self) -> None:
        text = self.board.delta_json(_now())
        if text:
            self._publish(text, False)
        if self.board.unknown and not self._reading:
            self._reading = True
            self._runners.run(self._learn())
        if self.board.is_thin and self._timer is None:
            self._read_in(_THIN_S)
        if self._counts_due and not self._counting:
            self._counting = True
            self._runners.run(self._count())

    async def _learn(self) -> None:
        try:
            ids = self.board.to_read()
            found = await answered(lambda: self._kit.verbs.store.snapshots(ids))
            self.board.learn(found, _now())
        finally:
            self._reading = False
        self._pacer.poke()

    async def _count(self) -> None:
        try:
            self._counts_due = False
            counts = await answered(lambda: self._kit.verbs.counts(self._only))
            total = self.board.total
            now = asyncio.get_running_loop().time()
            if self.board.query.is_plain or now - self._total_at > _TOTAL_S:
                self._total_at = now
                total = await answered(lambda: self._total(counts))
            self.board.count(counts, total)
            self._pacer.poke()
            await asyncio.sleep(_COUNTS_S if self._only is None else _OWN_COUNTS_S)
        finally:
            self._counting = False
        if self._counts_due:
            self._pacer.poke()

    def _publish(self, text: str, is_page: bool) -> None:
        for deliver in list(self._subscribers.values()):
            deliver(text, is_page)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, JobkitError):
            raise error
        logger.warning("a page of jobs could not be read: %s", error)


_feeds: weakref.WeakKeyDictionary[Kit, dict[tuple[Query, str | None], BoardFeed]] = weakref.WeakKeyDictionary()


class Watching:
    """One table's hold on a page of jobs; from any thread.

    Args:
        kit, query: which.
        deliver: called with each text, and whether it is the whole page.
        only: the owner whose jobs are shown and counted, whatever the query says; None for everybody's.
    """

    def __init__(
        self, kit: Kit, query: Query, deliver: Callable[[str, bool], None], *, only: str | None = None
    ) -> None:
        self._kit = kit
        self._key = (query if only is None else narrowed(query, only), only)
        self._deliver = deliver
        self._feed: BoardFeed | None = None
        self._place = 0
        self._is_stopped = False
        background.start().call_soon_threadsafe(self._begin)

    def stop(self) -> None:
        self._is_stopped = True
        background.start().call_soon_threadsafe(self._end)

    def resend(self, n: int) -> None:
        """Deliver the page again, unless `n` is the number of the last delta."""
        background.start().call_soon_threadsafe(lambda: self._again(n))

    def _begin(self) -> None:
        if not self._is_stopped:
            feeds = _feeds.setdefault(self._kit, {})
            self._feed = feeds.get(self._key) or feeds.setdefault(self._key, BoardFeed(self._kit, *self._key))
            self._place = self._feed.add(self._deliver)

    def _end(self) -> None:
        if self._feed is not None:
            self._feed.leave(self._place)

    def _again(self, n: int) -> None:
        if self._feed is not None and not self._is_stopped:
            self._feed.tell(self._place, n)


def _forget(kit: Kit, feed: BoardFeed) -> None:
    feeds = _feeds.get(kit, {})
    for key in [key for key, each in feeds.items() if each is feed]:
        del feeds[key]


def _now() -> datetime:
    return datetime.now(UTC)
