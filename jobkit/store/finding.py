"""Pages of jobs: by age from the sorted sets, any other filter or order by reading and comparing records."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from functools import partial

from jobkit.model import StoreUnavailable
from jobkit.store import wire
from jobkit.store.namespace import StorePart
from jobkit.store.query import (
    ASKING,
    Candidate,
    Query,
    change_bounds,
    in_order,
    matches,
    read_cursor,
    sort_value,
    submit_bounds,
    words,
    write_cursor,
)

#: Number of records that are read at once.
_SLICE = 500

#: Maximum number of records that are read for a page by age; its cursor continues there.
_READ_MOST = 1_000_000


class JobFinder(StorePart):
    """Finds jobs; returns ids. An index finds the same faster, beside the store."""

    async def page(self, query: Query) -> tuple[list[str], str]:
        """Return the ids of a page and the cursor of the next one; see `RedisStore.list`."""
        query.checked()
        if query.limit < 1:
            return [], ""
        now_ms = await self._ns.now_ms() if query.is_aging else 0
        low, high = _bounds(query, now_ms)
        size = query.limit + 1 if query.is_plain else _SLICE
        best: list[Candidate] = []
        is_end, read, last = False, 0, ""
        while not is_end and not (query.is_by_age and (len(best) > query.limit or read >= _READ_MOST)):
            ids = await self._by_age(query, low, high, size)
            is_end = len(ids) < size
            read += len(ids)
            found = await self.candidates([job_id for job_id, _ in ids], *words(query))
            best += [one for one in found if one is not None and matches(one.job, query, now_ms)]
            best = in_order(best, query)[: query.limit + 1]
            if ids:
                last = str(ids[-1][1])
                low, high = (f"({last}", high) if query.order == "submitted" else (low, f"({last}")
        page = best[: query.limit]
        cursor = "" if is_end else last
        if len(best) > len(page):
            cursor = write_cursor(query, sort_value(page[-1], query.order), page[-1].us)
        return [one.job.id for one in page], cursor

    async def asking(self) -> int:
        """Return the number of jobs that wait for a person."""
        found: int = await self._ns.ask("ZCARD", ASKING)
        return found

    async def versions(self, below: str, limit: int) -> tuple[list[tuple[str, int, int]], str]:
        """Return `(id, us, seq)` of jobs, newest first, from a time of submit (us) down; "" for the newest.

        Also returns the us to continue from, "" at the end. Reads up to `limit` entries and leaves out expired ones.
        """
        ids = await self._by_age(Query(), "-inf", f"({below}" if below else "+inf", limit)
        found = await self._ns.fields(("seq",), [job_id for job_id, _ in ids])
        rows = [(job_id, us, wire.number(raw[0])) for (job_id, us), raw in zip(ids, found, strict=True) if raw]
        return rows, str(ids[-1][1]) if ids else ""

    async def candidates(
        self, job_ids: Sequence[str], words: Sequence[str] = (), spec_words: Sequence[str] = ()
    ) -> list[Candidate | None]:
        """Return jobs with the fields by which they are found and ordered; None for unknown ones.

        Args:
            words, spec_words: see `query.words`; jobs whose record or spec does not contain them all are also None.
        """
        found = await self._ns.fields(wire.CANDIDATE, job_ids, words, spec_words)
        await self._forget([job_id for job_id, raw in zip(job_ids, found, strict=True) if raw is None])
        return [
            self._ns.readable(f"job:{job_id}", partial(wire.candidate, job_id), raw)
            for job_id, raw in zip(job_ids, found, strict=True)
        ]

    async def _forget(self, gone: Sequence[str | bytes]) -> None:
        """Delete what is left of jobs that have expired and are not pruned yet, or whose id is not valid."""
        with contextlib.suppress(StoreUnavailable):  # a replica, or a full disk
            await self._ns.run_each("forget", gone)

    async def _by_age(self, query: Query, low: str, high: str, count: int) -> list[tuple[str, int]]:
        """Return the first `(id, us)` between two times of submit, of the states of a query and in its order of age."""
        is_oldest_first = query.order == "submitted"
        command, first, last = ("ZRANGEBYSCORE", low, high) if is_oldest_first else ("ZREVRANGEBYSCORE", high, low)
        indexes = [f"state:{state}" for state in dict.fromkeys(query.states)] or ["jobs"]
        if query.is_asking:
            indexes = [ASKING]
        found: dict[str, int] = {}  # a job that changes its state meanwhile may be in two indexes
        strange: list[bytes] = []
        for part in await self._ns.many(
            [(command, index, first, last, "WITHSCORES", "LIMIT", 0, count) for index in indexes]
        ):
            for raw, us in part:
                job_id = wire.job_id(raw)
                if job_id and math.isfinite(us):
                    found[job_id] = int(us)
                else:
                    strange.append(raw)
        if strange:
            await self._forget(strange)
        ordered = sorted(found.items(), key=lambda pair: (pair[1], pair[0]), reverse=not is_oldest_first)
        return ordered[:count]


def _bounds(query: Query, now_ms: int) -> tuple[str, str]:
    """Return the lowest and highest time of submit as arguments for Redis."""
    low, high = submit_bounds(query, now_ms)
    if (last_ms := change_bounds(query, now_ms)[1]) is not None:
        high = min(high, last_ms * 1000 + 999)  # the submit is the first change
    after = read_cursor(query) if query.is_by_age else None
    if after is not None and query.order == "submitted":
        low = max(low, after[1] + 1)
    elif after is not None:
        high = min(high, after[1] - 1)
    return str(low), str(high)
