"""`BoardFeed`: a page of jobs, kept up to date once for all sessions that look at it: one feed per query."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from jobkit.model import JobEvent, JobSnapshot, Pause
from jobkit.store.query import Query, QueryPage, is_pattern
from jobkit.store.values import CONTROL
from jobkit.tasks.info import defaults_of
from jobkit.ui.jobs.board import Board
from jobkit.ui.live.shared_feed import QueryFeed, Subscriber, answered

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


class BoardFeed(QueryFeed[Subscriber]):
    """Keeps one `Board` up to date. Delivers `page` as a whole text and `delta` as a part.

    Args:
        kit, query, only: as of `QueryFeed`; the query says also where the page begins.
    """

    CHANNELS: ClassVar[tuple[str | None, ...]] = (None, CONTROL)
    WINDOW_S = 0.05

    def __init__(self, kit: Kit, query: Query, only: str | None = None) -> None:
        super().__init__(kit, query, only, _COUNTS_S if only is None else _OWN_COUNTS_S)
        self.board = Board(self.query, only=only)
        self._total_at = 0.0

    def tell(self, subscriber: Subscriber, version: Any = None) -> None:
        if not self.is_loading and version != self.board.n:
            subscriber.deliver({"page": self.board.page_json(_now())}, {})

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
        if self.board.searched is not None:
            self.reload_in(_FILLING_S)
        elif self.is_aging:
            span = min(filter(None, (self.query.newer_s, self.query.older_s)), default=0.0)
            self.reload_in(min(60.0, max(2.0, span / 50)))

    async def _look_at_pauses(self) -> None:
        rules = await answered(self.kit.verbs.store.rules)
        pauses = [pause for rule in rules if (pause := Pause.of(rule)) is not None and pause.kind == "queue"]
        by = {pause.name: f" by {pause.by}" if pause.by else "" for pause in pauses}
        self.board.pause({name: f"queue {name} is paused{who}" for name, who in by.items()})
        self.poke()

    async def _page(self) -> tuple[QueryPage, dict[str, int], int | None]:
        page, counts = await asyncio.gather(self.kit.verbs.page(self.query), self.kit.verbs.counts(self.only))
        if not page.next_cursor and not self.query.cursor and page.searched is None:
            return page, counts, len(page.jobs)
        return page, counts, await self._total(counts)

    async def _total(self, counts: dict[str, int]) -> int | None:
        if self.only is not None and is_pattern(self.only):
            return None  # a name, and no pattern: others' jobs are not to be counted
        if self.query.is_plain and not self.is_aging:
            return sum(counts.get(state, 0) for state in self.query.states or counts)
        return await self.kit.verbs.count(self.query)

    def take(self, event: JobEvent) -> None:
        if event.job_id == CONTROL:
            self.runners.run(self._look_at_pauses())
            return
        self.board.take(event)
        if not event.type.is_news:
            self.recount()
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
        super().flush()
        if self.board.is_thin and not self.is_due_to_reload:
            self.reload_in(_THIN_S)

    def to_read(self) -> list[str]:
        return self.board.to_read()

    def learn(self, snapshots: list[JobSnapshot | None]) -> None:
        self.board.learn(snapshots, _now())

    async def count(self) -> None:
        counts, total = await self.kit.verbs.counts(self.only), self.board.total
        now = asyncio.get_running_loop().time()
        if self.query.is_plain or now - self._total_at > _TOTAL_S:
            total = await self._total(counts)
            self._total_at = now
        self.board.count(counts, total)
        self.poke()


def _now() -> datetime:
    return datetime.now(UTC)
