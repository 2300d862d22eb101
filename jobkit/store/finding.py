"""Pages of jobs: by age from the sorted sets, any other filter or order by reading records."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from jobkit.model import StoreUnavailable
from jobkit.store import wire
from jobkit.store.namespace import RedisNamespace
from jobkit.store.query import (
    Brief,
    Names,
    Query,
    in_order,
    is_pattern,
    names,
    read_cursor,
    sort_value,
    write_cursor,
)

_json = msgspec.json.encode

#: Maximum number of records that one call of `list` reads, and maximum number of calls for a page.
_LIST_BUDGET, _LIST_CALLS = 5_000, 200

#: Number of records that are read at once if all must be compared.
_SLICE = 500


class JobFinder:
    """Finds jobs; returns ids. `jobkit.index` finds the same faster, beside the store."""

    def __init__(self, namespace: RedisNamespace) -> None:
        self._ns = namespace

    async def page(self, query: Query) -> tuple[list[str], str]:
        """Return the ids of a page and the cursor of the next one; see `RedisStore.list`."""
        query.checked()
        if query.limit < 1:
            return [], ""
        bounds = await self._bounds(query)
        if not query.is_by_age:
            return await self._compared(query, bounds)
        found, floor = await self._by_age(query, bounds, query.limit)
        if floor is None:
            return [job_id for job_id, _ in found], ""
        return [job_id for job_id, _ in found], str(found[-1][1] if len(found) == query.limit else floor)

    async def versions(self, below: str, limit: int) -> tuple[list[tuple[str, int, int]], str]:
        """Return `(id, us, seq)` of jobs, newest first, from a time of submit (us) down; "" for the newest.

        Also returns the us to continue from, "" at the end. Reads up to `limit` entries and leaves out expired ones.
        """
        last, *found = await self._ns.run("versions", [f"({below}" if below else "+inf", limit])
        rows = zip(found[::3], found[1::3], found[2::3], strict=True)
        return [(job_id.decode("utf-8", "replace"), int(us), int(seq)) for job_id, us, seq in rows], last.decode()

    async def briefs(self, job_ids: Sequence[str]) -> list[Brief | None]:
        """Return the fields by which jobs are found and ordered; None for unknown jobs."""
        if not job_ids:
            return []
        return [
            wire.readable(f"the record of job {job_id}", partial(wire.brief, job_id), record)
            for job_id, record in zip(job_ids, await self._ns.run("briefs", job_ids), strict=True)
        ]

    async def _compared(self, query: Query, bounds: tuple[str, str]) -> tuple[list[str], str]:
        """Return a page in an order without an index: reads and compares all matches."""
        best: list[Brief] = []
        by_age = replace(query, order="", cursor="", limit=_SLICE)
        while True:
            found, floor = await self._by_age(by_age, bounds, _SLICE)
            ids = [job_id for job_id, _ in found]
            briefs = [brief for brief in await self.briefs(ids) if brief is not None]
            best = in_order([*best, *briefs], query)[: query.limit + 1]
            if floor is None:
                break
            bounds = bounds[0], f"({floor}"
        page = best[: query.limit]
        cursor = ""
        if len(best) > len(page):
            cursor = write_cursor(query, sort_value(page[-1], query.order), page[-1].us)
        return [brief.id for brief in page], cursor

    async def _by_age(
        self, query: Query, bounds: tuple[str, str], limit: int
    ) -> tuple[list[tuple[str, int]], int | None]:
        """Return matching `(id, us)` in order, and the us to continue from; None at the end."""
        indexes = [f"state:{state}" for state in dict.fromkeys(query.states)] or ["jobs"]
        found: dict[str, int] = {}  # a job that changes its state meanwhile may be in two indexes
        floors: list[int] = []  # the index has not been read beyond it
        for index in indexes:
            ids, cursor = await self._list_index(index, query, bounds, limit)
            found |= ids
            if cursor:
                floors.append(int(cursor))
        newest = query.is_newest_first
        floor = (max(floors) if newest else min(floors)) if floors else None
        ordered = sorted(found.items(), key=lambda pair: (pair[1], pair[0]), reverse=newest)
        if floor is not None:
            ordered = [pair for pair in ordered if (pair[1] >= floor if newest else pair[1] <= floor)]
        if len(ordered) > limit:
            floor = ordered[limit - 1][1]
            ordered = ordered[:limit]
        return ordered, floor

    async def _list_index(
        self, index: str, query: Query, bounds: tuple[str, str], limit: int
    ) -> tuple[dict[str, int], str]:
        """Return matching `id: us` of one index, and the last us read ("" at its end)."""
        found: dict[str, int] = {}
        wanted = filter_of(query)
        low, high = bounds
        cursor = ""
        for _ in range(_LIST_CALLS):
            options = {
                "index": index,
                "newest": query.is_newest_first,
                "low": low,
                "high": high,
                "limit": limit - len(found),
                "budget": _LIST_BUDGET,
                "filter": wanted,
            }
            reply, gone = await self._ns.run("list", [_json(options)])
            if gone:
                with contextlib.suppress(StoreUnavailable):  # a replica, or a full disk
                    await self._ns.run("forget", gone)
            cursor = reply[0].decode()
            found |= {
                job_id.decode("utf-8", "replace"): int(us) for job_id, us in zip(reply[1::2], reply[2::2], strict=True)
            }
            if not cursor or len(found) >= limit:
                break
            low, high = (low, f"({cursor}") if query.is_newest_first else (f"({cursor}", high)
        return found, cursor

    async def _bounds(self, query: Query) -> tuple[str, str]:
        """Return the lowest and highest time of submit as arguments for Redis."""
        low, high = "-inf", "+inf"
        if query.newer_s is not None or query.older_s is not None:
            now_ms = await self._ns.now_ms()
            if query.newer_s is not None:
                low = str(int(now_ms - query.newer_s * 1000) * 1000)
            if query.older_s is not None:
                high = str(int(now_ms - query.older_s * 1000) * 1000 + 999)
        after = read_cursor(query) if query.is_by_age else None
        if after is not None and query.is_newest_first:
            high = f"({after[1]}" if high == "+inf" or after[1] <= int(high) else high
        elif after is not None:
            low = f"({after[1]}" if low == "-inf" or after[1] >= int(low) else low
        return low, high


def filter_of(query: Query) -> dict[str, Any]:
    """Return the filters for the verb `list`; unused filters are left out."""
    wanted: dict[str, Any] = {}
    for name in ("task", "queue", "owner", "tag", "error"):
        if asked := getattr(query, name):
            wanted[name] = [_name(one) for one in names(asked)]
    if query.worker:
        wanted["worker"] = [_name(one) for name in names(query.worker) for one in (name, f"{name}.*")]
    if query.took_min_s is not None or query.took_max_s is not None:
        most = () if query.took_max_s is None else (query.took_max_s * 1000,)
        wanted["took"] = [(query.took_min_s or 0) * 1000, *most]
    if (hint := _hint(query.task) or _hint(query.owner) or _hint(query.tag)) is not None:
        wanted["hint"] = hint
    if query.texts:
        wanted["texts"] = [
            {"text": text, "parts": [_json(part)[1:-1].decode() for part in text.split("=") if part]}
            for text in query.texts
        ]
    return wanted


def _hint(asked: Names) -> str | None:
    """Return a text that the spec's JSON contains if the name matches, to avoid decoding other records."""
    found = names(asked)
    if len(found) != 1 or is_pattern(found[0]):
        return None
    return _json(found[0])[1:-1].decode()


def _name(name: str) -> dict[str, str]:
    if not is_pattern(name):
        return {"exact": name}
    parts = [re.sub(r"([^\w\s])", r"%\1", part, flags=re.ASCII) for part in name.split("*")]
    return {"pattern": "^" + ".*".join(parts) + "$"}
