"""`claim_one`: how `sync://` runs the job that was just submitted, whatever its place in the line or its time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobkit.settings import Settings
from jobkit.store.memory import MemoryStore

from .support import check_laws, clear, ending, job, snapshot, submit, types, worker


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    store = MemoryStore(Settings(url="sync://"))
    yield store
    await check_laws(store)
    await clear(store)


async def test_it_starts_the_one_job_before_those_who_wait_longer(store: MemoryStore) -> None:
    await submit(store, "first", "second")

    claimed = await store.claim_one(worker("me", "another queue"), "second")

    assert claimed is not None
    assert (claimed.spec.id, claimed.token, claimed.payload) == ("second", "me:1", b"arguments of second")
    assert (await snapshot(store, "first")).state == "queued"
    assert await store.finish([ending(claimed)]) == [1]


async def test_it_does_not_wait_for_the_time_of_a_scheduled_job(store: MemoryStore) -> None:
    await submit(store, "a", delay_ms=60_000)

    claimed = await store.claim_one(worker("me"), "a")

    assert claimed is not None
    found = await snapshot(store, "a")
    assert types(found) == ["submitted", "queued", "started"]
    assert found.state == "running"


async def test_it_gives_nothing_that_does_not_wait(store: MemoryStore) -> None:
    await store.submit([job("runs"), job("gone")])
    await store.claim_one(worker("me"), "runs")
    await store.cancel(["gone"])

    assert await store.claim_one(worker("me"), "runs") is None
    assert await store.claim_one(worker("me"), "gone") is None
    assert await store.claim_one(worker("me"), "no") is None
