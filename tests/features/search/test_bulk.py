"""The records of `benchmarks/million.py` are the same as after real transitions."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from benchmarks.million import ENDINGS, fill, template
from jobkit.features.search.index import Index
from jobkit.store.hub import EventHub
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from tests.store.conftest import redis_url, settings_for
from tests.store.support import clear

__all__ = ["redis_url"]


@pytest.fixture
async def redis_store(redis_url: str) -> AsyncIterator[RedisStore]:
    """Store without the check that the stream has every event: the stream keeps only 20,000."""
    store = RedisStore(settings_for(redis_url))
    yield store
    await clear(store)
    await store.close()


def shape(value: bytes) -> str:
    """Return a text without words and numbers, which differ between jobs: only its format."""
    return re.sub(r"[0-9a-z.-]+", "*", value.decode("utf-8", "replace"))


async def test_a_store_filled_in_bulk_equals_one_whose_jobs_ran(redis_store: RedisStore) -> None:
    store = redis_store
    reals = {state: await template(store, state, "real") for state in ("succeeded", "failed", "cancelled")}
    await fill(store, 2_000)
    reals["queued"] = await template(store, "queued", "real")

    counts = await store.counts()
    assert sum(counts.values()) == 2_004
    assert all(counts[state] for state in ("succeeded", *ENDINGS))
    for state, made in reals.items():
        [copied] = (await store.list(Query(states=(state,), limit=1, order="submitted"))).jobs
        assert copied.id != made
        real = await store.redis.hgetall(f"{store.prefix}job:{made}")
        copy = await store.redis.hgetall(f"{store.prefix}job:{copied.id}")
        assert real.keys() == copy.keys()
        for name, value in real.items():
            assert shape(value) == shape(copy[name]), name
        for key in ("args", "result", "preview"):
            assert await store.redis.exists(f"{store.prefix}{key}:{made}") == await store.redis.exists(
                f"{store.prefix}{key}:{copied.id}"
            )
        snapshot = (await store.snapshots([copied.id]))[0]
        assert snapshot is not None
        assert [event.seq for event in snapshot.history] == list(range(1, snapshot.seq + 1))


async def test_the_index_of_a_filled_store_finds_few_and_many(redis_store: RedisStore) -> None:
    store = redis_store
    await fill(store, 500)
    hub = EventHub(store)
    await hub.start()
    index = Index(store, hub)

    try:
        await index.whole()
        assert (await index.page(Query(search="seed=123"))).jobs[0].spec.params["seed"] == 123
        assert await index.count(Query(search="adam")) == 125
        assert [job.spec.params["seed"] for job in (await index.page(Query(owner="ada", limit=3))).jobs] == [0, 8, 16]
    finally:
        await index.close()
        await hub.close()
