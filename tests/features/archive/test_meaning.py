"""A query finds the same jobs in the archive as in the store, in the same order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from jobkit.features.archive.search import ArchiveReader
from jobkit.features.archive.writer import Archiver
from jobkit.model import TERMINAL
from jobkit.model.plain import now_ms
from jobkit.store.query import ORDERS, Query
from jobkit.store.redis import RedisStore
from tests.features.search.test_index import QUERIES, fill
from tests.store.support import lapse, structure, worker

from .conftest import write_all

ORDERED = ["", *(f"{sign}{name}" for name in ORDERS for sign in ("", "-"))]

#: The others are asked in few orders.
EVERY_ORDER: list[dict[str, Any]] = [{}]


async def end_all(store: RedisStore) -> None:
    """Cancel every job that has not ended."""
    where = await structure(store)
    await store.cancel(sorted(where.jobs))
    await lapse(store, *where.leases)
    while (await structure(store)).leases:
        await store.claim(worker("sweeper", "nothing"), 0)
    await store.leave("sweeper")


async def test_every_filter_in_every_order_means_the_same(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver
) -> None:
    await fill(store, 30)
    await fill(store, 30, start=30)
    await end_all(store)
    await write_all(store, archive)
    states = tuple(map(str, TERMINAL))
    queries: list[dict[str, Any]] = [{}, {"states": ("succeeded",)}, {"owner": ""}, {"flag": "asking"}]
    queries += [query for query in QUERIES if "flag" not in query]  # the archive does not keep it

    for given in queries:
        for order in ORDERED if given in EVERY_ORDER else ("", "-took"):
            query = replace(Query(**given), order=order, limit=50)
            asked = query if query.states else replace(query, states=states)
            expected = [job.id for job in (await store.list(asked)).jobs]
            found, _ = await asyncio.to_thread(archive.dumps, query, now_ms())
            assert [dump.id for dump in found] == expected, f"{given} in order {order!r}"


@pytest.mark.parametrize("text", ["*", "a*b", "[a]*"])
async def test_a_pattern_has_one_wildcard(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, text: str
) -> None:
    await fill(store, 10)
    await end_all(store)
    await write_all(store, archive)

    found = archive.find(Query(task=text), now_ms())

    assert found.total == (10 if text == "*" else 0)


@pytest.mark.parametrize("order", ["", "-took", "state", "started", "owner"])
async def test_pages_of_the_archive_follow_each_other(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, order: str
) -> None:
    await fill(store, 20)
    await end_all(store)
    await write_all(store, archive)
    whole, _ = archive.page(Query(order=order, limit=100), now_ms())
    found: list[str] = []
    query = Query(order=order, limit=6)

    while True:
        page, seen = archive.page(query, now_ms())
        found += [job.id for job in page.jobs]
        assert seen.total == 20
        if not page.next_cursor:
            break
        query = replace(query, cursor=page.next_cursor).checked()

    assert found == [job.id for job in whole.jobs]
