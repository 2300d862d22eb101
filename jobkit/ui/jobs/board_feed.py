"""`BoardFeed`: a page of jobs, kept up to date once for all sessions that look at it: one feed per query.

A delta is made once per flush, however many sessions get it.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from jobkit.model import JobEvent, Pause
from jobkit.store.query import Query, QueryPage, is_pattern, narrowed
from jobkit.store.values import CONTROL
from jobkit.tasks.info import defaults_of
from jobkit.ui.jobs.board import Board
from jobkit.ui.live.pace import answered
from jobkit.ui.live.shared_feed import Deliver, FeedSubscription, SharedFeed, Subscriber

if TYPE_CHECKING:
    from jobkit.client import Kit

#: Seconds between two reads of the counters, at least.
_COUNTS_S = 0.5

#: The same for the counters of one owner, which cost more.
_OWN_COUNTS_S = 3.0

#: Seconds between two counts of the jobs that match, at least.
_TOTAL_S = 3.0

#: Seconds until a page is read again that many rows have left.
_THIN_S = 1.0

#: Seconds until a page is read again while its index is being filled.
_FILLING_S = 1.5


class BoardFeed(SharedFeed[Subscriber]):
    """Keeps one `Board` up to date. Delivers `page` as a whole text and `delta` as a part.

    Args:
        kit, query: which jobs, and where the page begins.
        only: the owner whose jobs alone are shown and counted, whatever the query says; None for everybody's.
    """

    CHANNELS: ClassVar[tuple[str | None, ...]] = (None, CONTROL)
    WINDOW_S = 0.05

    def __init__(self, kit: Kit, query: Query, only: str | None = None) -> None:
        super().__init__(kit)
        self._only = only
        self.board = Board(query, only=only)
        self._is_learning = False
        self._counts_due = False
        self._counting = False
        self._total_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, subscriber: Subscriber, version: Any = None) -> None:
        if not self.is_loading and version != self.board.n:
            subscriber.deliver({"page": self.board.page_json(_now())}, {})

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def read(self) -> None:
        if not self.has_read:
            self.kit.verbs.use_index()
            self.board.defaults = defaults_of(await self.kit.aio.tasks())
        await self._look_at_pauses()
        page, counts, total = await self._page()
        self._total_at = asyncio.get_running_loop().time()
        self.board.load(page, counts, total)
        self.board.is_away = not self.kit.hub.is_live

    def loaded(self) -> None:
        self.publish({"page": self.board.page_json(_now())})
        self.poke()
        query = self.board.query
        if self.board.searched is not None:
            self._reload_in(_FILLING_S)
        elif query.newer_s is not None or query.older_s is not None:
            span = min(filter(None, (query.newer_s, query.older_s)), default=0.0)
            self._reload_in(min(60.0, max(2.0, span / 50)))  # jobs grow older by themselves

    async def _look_at_pauses(self) -> None:
        rules = await answered(self.kit.verbs.store.rules)
        pauses = [pause for rule in rules if (pause := Pause.of(rule)) is not None and pause.kind == "queue"]
        by = {pause.name: f" by {pause.by}" if pause.by else "" for pause in pauses}
        self.board.pause({name: f"queue {name} is paused{who}" for name, who in by.items()})
        self.poke()

    async def _page(self) -> tuple[QueryPage, dict[str, int], int | None]:
        query = self.board.query
        page, counts = await asyncio.gather(self.kit.verbs.page(query), self.kit.verbs.counts(self._only))
        if not page.next_cursor and not query.cursor and page.searched is None:
            return page, counts, len(page.jobs)
        return page, counts, await self._total(counts)

    async def _total(self, counts: dict[str, int]) -> int | None:
        query = self.board.query
        if self._only is not None and is_pattern(self._only):
            return None  # a name, and no pattern: others' jobs are not to be counted
        if query.is_plain and query.newer_s is None and query.older_s is None:
            return sum(counts.get(state, 0) for state in query.states or counts)
        return await self.kit.verbs.count(query)

    def _reload_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_has_come)

    def _time_has_come(self) -> None:
        self._timer = None
        self.reload()

    def take(self, event: JobEvent) -> None:
        if event.job_id == CONTROL:
            self.runners.run(self._look_at_pauses())
            return
        self.board.take(event)
        self._counts_due = self._counts_due or not event.type.is_news
        self.poke()

    def status(self, is_live: bool) -> None:
        if not is_live:
            self.board.is_away = True
            self.poke()
        super().status(is_live)

    def flush(self) -> None:
        text = self.board.delta_json(_now())
        if text:
            self.publish({}, {"delta": text})
        if self.board.unknown and not self._is_learning:
            self._is_learning = True
            self.runners.run(self._learn())
        if self.board.is_thin and self._timer is None:
            self._reload_in(_THIN_S)
        if self._counts_due and not self._counting:
            self._counting = True
            self.runners.run(self._count())

    async def _learn(self) -> None:
        try:
            ids = self.board.to_read()
            found = await answered(lambda: self.kit.verbs.store.snapshots(ids))
            self.board.learn(found, _now())
        finally:
            self._is_learning = False
        self.poke()

    async def _count(self) -> None:
        try:
            self._counts_due = False
            counts = await answered(lambda: self.kit.verbs.counts(self._only))
            total = self.board.total
            now = asyncio.get_running_loop().time()
            if self.board.query.is_plain or now - self._total_at > _TOTAL_S:
                self._total_at = now
                total = await answered(lambda: self._total(counts))
            self.board.count(counts, total)
            self.poke()
            await asyncio.sleep(_COUNTS_S if self._only is None else _OWN_COUNTS_S)
        finally:
            self._counting = False
        if self._counts_due:
            self.poke()


def watch_board(
    kit: Kit, query: Query, deliver: Deliver, *, only: str | None = None
) -> FeedSubscription[BoardFeed, Subscriber]:
    """Subscribe to a page of jobs; see `BoardFeed`."""
    query = query if only is None else narrowed(query, only)
    return FeedSubscription(kit, BoardFeed, Subscriber(deliver), query, only).start()


def _now() -> datetime:
    return datetime.now(UTC)
