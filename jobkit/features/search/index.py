"""`Index`: answers queries, fills its database from a store, and updates it by the store's events.

Jobs are read from the store and matched again, so the index may be late but never wrong: a job that no longer matches
is left out, a job that it does not know yet is missing for a moment. While it is being filled, newest first, a page
reports how many jobs it has searched.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from jobkit.features.search.database import ASK, COUNT, WRITE, Hit, IndexDatabase
from jobkit.model import JobEvent, JobkitError, JobSnapshot
from jobkit.runners import Runners
from jobkit.store.activity import Activity
from jobkit.store.hub import EventHub
from jobkit.store.query import MAX_US, STATES, Query, QueryPage, matches, write_cursor
from jobkit.store.redis import RedisStore

logger = logging.getLogger("jobkit.search")

#: Number of version entries that one call reads, and of records that one read or write handles.
_VERSIONS, _SLICE = 1_000, 200

#: Seconds for which events are collected before their jobs are read.
_GATHER_S = 0.25
#: The same for reports of progress.
_PROGRESS_S = 5.0
#: Seconds that a first page waits for the index to be filled.
_PATIENCE_S = 0.4
#: Seconds between two comparisons of the index with the store.
_SWEEP_S = 600.0
#: The index is deleted after so many seconds without a query.
_IDLE_S = 1_800.0

#: Maximum number of reads of the store for a page if most of the hits no longer match.
_ROUNDS = 6


class Index:
    """Search index of a store, on the store's event loop; created empty on first use. See the module's docstring."""

    def __init__(self, store: RedisStore, hub: EventHub) -> None:
        self._store, self._hub = store, hub
        self._database: IndexDatabase | None = None
        self._runners = Runners(self._failed)
        self._stops: list[Callable[[], None]] = []
        self._dirty: dict[str, None] = {}
        self._moving: dict[str, None] = {}
        self._gathering = False
        self._settling = asyncio.Lock()
        self._filled = asyncio.Event()
        self._asked_at = 0.0
        self._place = ""

    @property
    def is_begun(self) -> bool:
        """True if it is kept, or being filled: a query does not begin it."""
        return self._database is not None

    @property
    def is_whole(self) -> bool:
        """True if it has all jobs."""
        return self._filled.is_set()

    @property
    def size(self) -> int:
        """Number of jobs in the index."""
        return self._database.size if self._database else 0

    async def whole(self) -> None:
        """Wait until it has all jobs; starts filling it if necessary."""
        if self._database is None:
            self._start()
        await self._filled.wait()

    # -- questions ----------------------------------------------------------------------------------------------------

    async def page(self, query: Query) -> QueryPage:
        """Return a page of jobs like `RedisStore.list`; with `searched` set while the index is incomplete."""
        query.checked()
        if query.is_plain or query.limit < 1:
            return await self._store.list(query)
        try:
            return await self._page(query)
        except sqlite3.Error as error:  # for example, the disk is full
            logger.warning("the index of jobs cannot be used (%s); all jobs are looked at instead", error)
            await self.close()
            return await self._store.list(query)

    async def _page(self, query: Query) -> QueryPage:
        db = await self._ready()
        now_ms = await self._store.now_ms()
        found: list[JobSnapshot] = []
        searched = None if self.is_whole else db.size
        asked = query
        for _ in range(_ROUNDS):
            wanted = max(10, query.limit - len(found)) + 1
            hits = await db.call(ASK, db.page, asked, now_ms, wanted)
            for hit, snapshot in zip(hits[: wanted - 1], await self._read(hits[: wanted - 1]), strict=True):
                if len(found) == query.limit:
                    return QueryPage(tuple(found), asked.cursor, searched)
                asked = replace(asked, cursor=write_cursor(query, hit.value, hit.us))
                if snapshot is not None and matches(snapshot, query, now_ms):
                    found.append(snapshot)
            if len(hits) < wanted:
                return QueryPage(tuple(found), "", searched)
            if len(found) == query.limit:
                break
        return QueryPage(tuple(found), asked.cursor, searched)

    async def count(self, query: Query, for_s: float = 0.15) -> int | None:
        """Return the number of matches; None if counting takes over `for_s` seconds or the index is incomplete."""
        if query.is_plain and not query.is_aging:
            counts = await self._store.counts()
            return sum(counts[state] for state in query.states or counts)
        db = await self._ready()
        if not self.is_whole:
            return None
        now_ms = await self._store.now_ms()
        return await db.call(COUNT, db.count, query, now_ms, for_s)

    async def activity(self, query: Query, for_s: float) -> Activity | None:
        """Return when the jobs that match changed last; None if counting takes over `for_s` seconds."""
        db = await self._ready()
        found = await db.call(COUNT, db.activity, query, await self._store.now_ms(), for_s)
        return found if found is None or self.is_whole else replace(found, searched=db.size)

    async def tally(self, query: Query, fields: Sequence[str], for_s: float) -> Counter[tuple[str, ...]] | None:
        """Return the number of matches by their values of fields, see `query.indexed`; None as for `count`.

        While the index is incomplete, the values of one field are those of the jobs so far.
        """
        db = await self._ready()
        query = replace(query, limit=Query().limit, cursor="", order="")
        if not self.is_whole and (query != Query() or len(fields) > 1):
            return None
        rows = await db.call(COUNT, db.tally, query, fields, await self._store.now_ms(), for_s)
        return None if rows is None else await asyncio.to_thread(_named, rows, fields)

    async def _read(self, hits: list[Hit]) -> list[JobSnapshot | None]:
        """Return the current snapshots; deleted jobs are removed from the index."""
        snapshots = await self._store.snapshots([hit.id for hit in hits])
        gone = [hit.id for hit, snapshot in zip(hits, snapshots, strict=True) if snapshot is None]
        if gone:
            self._dirty |= dict.fromkeys(gone)
            self._gather()
        return snapshots

    async def _ready(self) -> IndexDatabase:
        """Return the database with all events applied that arrived before this call."""
        self._asked_at = time.monotonic()
        if self._database is None:
            self._start()
        if not self.is_whole:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._filled.wait()
            except TimeoutError:
                pass
        await self._settle()
        assert self._database is not None
        return self._database

    # -- filling and following ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._database = IndexDatabase()
        self._filled.clear()
        on_loop = asyncio.get_running_loop().call_soon_threadsafe
        self._stops = [
            self._hub.listen(lambda event: on_loop(self._heard, event)),
            self._hub.on_status(lambda is_live: on_loop(self._told, is_live)),
        ]
        self._runners.run(self._keep())

    async def close(self) -> None:
        """Delete the database; the next query starts a new one."""
        for stop in self._stops:
            stop()
        self._stops = []
        self._runners.cancel()
        if self._database is not None:
            self._database.close()
        self._database = None
        self._filled.clear()
        self._dirty.clear()
        self._moving.clear()

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, JobkitError):
            logger.debug("the index of jobs waits for its store: %s", error)
        else:
            logger.error("the index of jobs is made anew", exc_info=error)
            await self.close()

    async def _keep(self) -> None:
        """Fill the index, then compare it with the store at intervals."""
        await self._hub.ready(None)
        while True:
            try:
                place = await self._store.place()
                if self._place not in ("", place):  # the store was wiped or replaced
                    self._place = place
                    await self._begin_again()
                    return
                self._place = place
                await self._sweep()
                self._filled.set()
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
        """Compare all jobs of the store with the index, newest first, and read those that differ."""
        db = self._database
        if db is None:
            return
        below, high = "", MAX_US
        while True:
            found, last = await self._store.finder.versions(below, _VERSIONS)
            low = int(last) if last else -1
            known = await db.call(WRITE, db.versions, low, high)
            gone = known.keys() - {job_id for job_id, _, _ in found}
            differ = [job_id for job_id, us, seq in found if known.get(job_id) != (us, seq)]
            for start in range(0, len(differ), _SLICE):
                read = await self._store.finder.candidates(differ[start : start + _SLICE])
                await db.call(WRITE, db.put, [one for one in read if one], is_fill=not self.is_whole)
            if gone:
                self._dirty |= dict.fromkeys(gone)
                self._gather()
            if not last:
                return
            below, high = last, low
            await asyncio.sleep(0.02 if self.is_whole else 0)

    def _told(self, is_live: bool) -> None:
        """After a reconnect: compare everything, because events may have been missed."""
        if is_live and self._database is not None:
            self._runners.run(self._catch_up())

    async def _catch_up(self) -> None:
        if await self._store.place() != self._place:
            self._place = ""
            await self._begin_again()
        elif self.is_whole:
            await self._sweep()

    def _heard(self, event: JobEvent) -> None:
        if self._database is None:
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
        """Read the jobs of all events so far and write them to the database."""
        async with self._settling:
            db = self._database
            if not self.is_whole and (db is None or not db.size):
                return  # the first jobs must be the newest
            ids = list(self._dirty)
            self._dirty.clear()
            for start in range(0, len(ids), _SLICE):
                some = ids[start : start + _SLICE]
                try:
                    read = await self._store.finder.candidates(some)
                    repeated = [one.job.spec.retry_of for one in read if one]
                    read += await self._store.finder.candidates(list(filter(None, repeated)))  # no event says so
                except BaseException:
                    self._dirty |= dict.fromkeys(ids[start:])
                    raise
                gone = [job_id for job_id, one in zip(some, read, strict=False) if one is None]
                if db is not None:
                    await db.call(WRITE, db.put, [one for one in read if one], gone)


def _named(rows: Sequence[tuple[Any, ...]], fields: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Return the numbers of rows `(*values, number)` by their values; there may be as many as jobs."""
    return Counter(
        {
            tuple(STATES[each] if name == "state" else each for name, each in zip(fields, row, strict=False)): row[-1]
            for row in rows
        }
    )
