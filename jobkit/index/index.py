"""`Index`: answers queries from the shelf, fills it from a store, and keeps it up by the store's events.

What a page shows is read from the store and checked again, so the index may be late, never wrong: a job that has moved
on is left out, one that the index has not heard of yet is missing for a moment. While it is being filled, newest first,
a page says how far it has come.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jobkit.index.shelf import ASK, COUNT, WRITE, Hit, Shelf
from jobkit.model import JobEvent, JobkitError, JobSnapshot
from jobkit.runners import Runners
from jobkit.store.base import Store
from jobkit.store.hub import Hub
from jobkit.store.query import Brief, Page, Query, matches, write_cursor

logger = logging.getLogger("jobkit.index")

#: Entries of the store that one call looks at, and records that one read and write are of.
_VERSIONS, _SLICE = 1_000, 200

#: Seconds: events are gathered so long; reports of progress; a first page waits so long for a small store to be read;
#: between two looks whether the index still knows what the store does; without a question, the index goes.
_GATHER_S, _PROGRESS_S, _PATIENCE_S, _SWEEP_S, _IDLE_S = 0.25, 5.0, 0.4, 600.0, 1_800.0

#: Looks at the store that a page may cost where most of what the index finds has moved on.
_ROUNDS = 6


class Index:
    """See the module's docstring. Lives on the loop of its store and hub; nothing is made before the first question."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store, self._hub = store, hub
        self._shelf: Shelf | None = None
        self._runners = Runners(self._failed)
        self._stops: list[Callable[[], None]] = []
        self._dirty: dict[str, None] = {}
        self._moving: dict[str, None] = {}
        self._early: dict[str, None] = {}
        self._gathering = False
        self._settling = asyncio.Lock()
        self._filled = asyncio.Event()
        self._floor = float("inf")
        self._asked_at = 0.0
        self._place = ""

    @property
    def is_whole(self) -> bool:
        """Whether it knows all jobs."""
        return self._filled.is_set()

    @property
    def size(self) -> int:
        """How many jobs it knows."""
        return self._shelf.size if self._shelf else 0

    async def whole(self) -> None:
        """Returns when it knows all jobs; begins where nobody has asked yet."""
        if self._shelf is None:
            self._start()
        await self._filled.wait()

    # -- questions ----------------------------------------------------------------------------------------------------

    async def page(self, query: Query) -> Page:
        """A page of jobs, as `Store.list` gives it; with `searched` while the index is not whole.

        Raises:
            InvalidParams: the order is none, or the cursor is of another order.
            StoreUnavailable: the server does not answer.
        """
        query.checked()
        if query.is_plain or query.limit < 1:
            return await self._store.list(query)
        try:
            return await self._page(query)
        except sqlite3.Error as error:  # a full disk, say
            logger.warning("the index of jobs cannot be used (%s); all jobs are looked at instead", error)
            await self.close()
            return await self._store.list(query)

    async def _page(self, query: Query) -> Page:
        shelf = await self._ready()
        now_ms = await self._store.now_ms()
        found: list[JobSnapshot] = []
        searched = None if self.is_whole else shelf.size
        asked = query
        for _ in range(_ROUNDS):
            wanted = max(10, query.limit - len(found)) + 1
            hits = await self._do(shelf, ASK, lambda asked=asked, wanted=wanted: shelf.page(asked, now_ms, wanted))  # type: ignore[misc]
            for hit, snapshot in zip(hits[: wanted - 1], await self._read(hits[: wanted - 1]), strict=True):
                if len(found) == query.limit:
                    return Page(tuple(found), asked.cursor, searched)
                asked = replace(asked, cursor=write_cursor(query, hit.value, hit.us))
                if snapshot is not None and matches(Brief.of(snapshot, hit.us), query, now_ms):
                    found.append(snapshot)
            if len(hits) < wanted:
                return Page(tuple(found), "", searched)
            if len(found) == query.limit:
                break
        return Page(tuple(found), asked.cursor, searched)

    async def count(self, query: Query, for_s: float = 0.15) -> int | None:
        """How many jobs a query finds; None where `for_s` seconds do not do, or not all are known yet."""
        if query.is_plain and query.newer_s is None and query.older_s is None:
            counts = await self._store.counts()
            return sum(counts[state] for state in query.states or counts)
        shelf = await self._ready()
        if not self.is_whole:
            return None
        now_ms = await self._store.now_ms()
        found: int | None = await self._do(shelf, COUNT, lambda: shelf.count(query, now_ms, for_s))
        return found

    async def _read(self, hits: list[Hit]) -> list[JobSnapshot | None]:
        """The jobs as they are now; what has gone leaves the index."""
        snapshots = await self._store.snapshots([hit.id for hit in hits])
        gone = [hit.id for hit, snapshot in zip(hits, snapshots, strict=True) if snapshot is None]
        if gone:
            self._dirty |= dict.fromkeys(gone)
            self._gather()
        return snapshots

    async def _ready(self) -> Shelf:
        """The shelf, with all in it that was heard of before this moment."""
        self._asked_at = time.monotonic()
        if self._shelf is None:
            self._start()
        if not self.is_whole:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._filled.wait()
            except TimeoutError:
                pass
        await self._settle()
        assert self._shelf is not None
        return self._shelf

    @staticmethod
    async def _do(shelf: Shelf, urgency: int, function: Callable[[], Any]) -> Any:
        return await asyncio.wrap_future(shelf.do(urgency, function))

    # -- filling and following ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._shelf = Shelf()
        self._floor = float("inf")
        self._filled.clear()
        loop = asyncio.get_running_loop()

        def heard(event: JobEvent) -> None:  # in memory, from whichever thread
            loop.call_soon_threadsafe(self._heard, event)

        def told(is_live: bool) -> None:
            loop.call_soon_threadsafe(self._told, is_live)

        self._stops = [self._hub.listen(heard, None), self._hub.on_status(told)]
        self._runners.run(self._keep())

    async def close(self) -> None:
        """Forget all; the next question begins anew."""
        for stop in self._stops:
            stop()
        self._stops = []
        self._runners.cancel()
        if self._shelf is not None:
            self._shelf.close()
        self._shelf = None
        self._filled.clear()
        for heard in (self._dirty, self._moving, self._early):
            heard.clear()

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, JobkitError):
            logger.debug("the index of jobs waits for its store: %s", error)
        else:
            logger.error("the index of jobs is made anew", exc_info=error)
            await self.close()

    async def _keep(self) -> None:
        """Fill it, and look now and then whether it still knows what the store does."""
        await self._hub.ready(None)
        while True:
            try:
                place = await self._store.place()
                if self._place not in ("", place):  # the store was wiped, or is another one
                    self._place = place
                    await self._begin_again()
                    return
                self._place = place
                await self._sweep()
                self._filled.set()
                self._dirty |= self._early
                self._early.clear()
                await self._settle()
                await asyncio.sleep(_SWEEP_S)
            except JobkitError:
                await asyncio.sleep(1.0)
            if time.monotonic() - self._asked_at > _IDLE_S:
                await self.close()
                return

    async def _begin_again(self) -> None:
        await self.close()
        self._start()

    async def _sweep(self) -> None:
        """Compare all that the store has with what is here, newest first, and read what differs."""
        shelf = self._shelf
        if shelf is None:
            return
        below, is_first = "", not self.is_whole
        if is_first and self._floor != float("inf"):
            below = str(int(self._floor))
        high = float(below or "inf")
        while True:
            found, last = await self._store.versions(below, _VERSIONS)
            low = int(last) if last else -1
            known = {}
            if not is_first:
                known = await self._do(shelf, WRITE, lambda low=low, high=high: shelf.versions(low, high))  # type: ignore[misc]
            gone = known.keys() - {job_id for job_id, _, _ in found}
            differ = [job_id for job_id, us, seq in found if known.get(job_id) != (us, seq)]
            for start in range(0, len(differ), _SLICE):
                briefs = [brief for brief in await self._store.briefs(differ[start : start + _SLICE]) if brief]
                if is_first:
                    briefs.sort(key=lambda brief: brief.us, reverse=True)
                    await self._do(shelf, WRITE, lambda briefs=briefs: shelf.append(briefs))  # type: ignore[misc]
                    if briefs:
                        self._floor = briefs[-1].us
                else:
                    await self._do(shelf, WRITE, lambda briefs=briefs: shelf.put(briefs))  # type: ignore[misc]
            if gone:
                self._dirty |= dict.fromkeys(gone)
                self._gather()
            if not last:
                return
            below, high = last, low
            await asyncio.sleep(0 if is_first else 0.02)

    def _told(self, is_live: bool) -> None:
        """After a cut connection: what was said meanwhile is among the kept events, or all is compared."""
        if is_live and self._shelf is not None:
            self._runners.run(self._catch_up())

    async def _catch_up(self) -> None:
        if await self._store.place() != self._place:
            self._place = ""
            await self._begin_again()
        elif self.is_whole:
            await self._sweep()

    def _heard(self, event: JobEvent) -> None:
        if self._shelf is None:
            return
        if event.type.is_news:
            self._moving[event.job_id] = None
        else:
            self._dirty[event.job_id] = None
        self._gather()

    def _gather(self) -> None:
        if not self._gathering:
            self._gathering = True
            self._runners.run(self._later())

    async def _later(self) -> None:
        try:
            await asyncio.sleep(_GATHER_S if self._dirty else _PROGRESS_S)
            while self._dirty or self._moving:
                await self._settle()
                if self._moving:
                    moving, self._moving = self._moving, {}
                    self._dirty |= moving
                    await asyncio.sleep(_PROGRESS_S if len(self._dirty) == len(moving) else _GATHER_S)
                else:
                    await asyncio.sleep(_GATHER_S)
        finally:
            self._gathering = False

    async def _settle(self) -> None:
        """Read and write what was heard of up to now."""
        async with self._settling:
            shelf = self._shelf
            ids = list(self._dirty)
            self._dirty.clear()
            for start in range(0, len(ids), _SLICE):
                some = ids[start : start + _SLICE]
                try:
                    read = await self._store.briefs(some)
                except BaseException:
                    self._dirty |= dict.fromkeys(ids[start:])
                    raise
                briefs = [brief for brief in read if brief is not None]
                if not self.is_whole:  # the filling may be on its way with what was read before the news
                    self._early |= dict.fromkeys(brief.id for brief in briefs if brief.us < self._floor)
                    briefs = [brief for brief in briefs if brief.us >= self._floor]
                gone = [job_id for job_id, brief in zip(some, read, strict=True) if brief is None]
                if shelf is not None:
                    await self._do(shelf, WRITE, lambda briefs=briefs, gone=gone: shelf.put(briefs, gone))  # type: ignore[misc]
