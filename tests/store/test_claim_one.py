"""`claim_one`, with which `sync://` runs the job just submitted, whatever its position in the queue or its time."""

from __future__ import annotations

from jobkit.model import Gate
from jobkit.store.redis import RedisStore

from .support import ending, job, snapshot, submit, types, worker


async def test_it_starts_the_job_before_longer_waiting_ones(store: RedisStore) -> None:
    await submit(store, "first", "second")

    claimed, _ = await store.claim_one(worker("me", "another queue"), "second")

    assert claimed is not None
    assert (claimed.spec.id, claimed.token, claimed.payload) == ("second", "me:1", b"arguments of second")
    assert (await snapshot(store, "first")).state == "queued"
    assert await store.finish([ending(claimed)]) == [1]


async def test_it_starts_a_scheduled_job_before_its_time(store: RedisStore) -> None:
    await submit(store, "a", delay_ms=60_000)

    claimed, _ = await store.claim_one(worker("me"), "a")

    assert claimed is not None
    found = await snapshot(store, "a")
    assert types(found) == ["submitted", "queued", "started"]
    assert found.state == "running"


async def test_it_starts_only_waiting_jobs(store: RedisStore) -> None:
    await store.submit([job("runs"), job("gone")])
    await store.claim_one(worker("me"), "runs")
    await store.cancel(["gone"])

    assert await store.claim_one(worker("me"), "runs") == (None, False)
    assert await store.claim_one(worker("me"), "gone") == (None, False)
    assert await store.claim_one(worker("me"), "no") == (None, False)


async def test_it_ignores_limits(store: RedisStore) -> None:
    limits = (Gate("task:simulate", n=1),)
    await store.submit([job("a", limits=limits), job("b", limits=limits)])
    await store.claim_one(worker("me"), "a")

    claimed, _ = await store.claim_one(worker("me"), "b")

    assert claimed is not None
    assert claimed.spec.id == "b"


async def test_it_starts_no_paused_job(store: RedisStore) -> None:
    await store.set_rule("queue:default", {"paused": {"by": "ada"}})
    await submit(store, "a")

    assert await store.claim_one(worker("me"), "a") == (None, True)
    await store.set_rule("queue:default", {"paused": None})
    claimed, is_paused = await store.claim_one(worker("me"), "a")

    assert (claimed is not None, is_paused) == (True, False)
