"""One worker claims when a job is due; the others come later, in case it has died."""

from __future__ import annotations

from jobkit.store.redis import RedisStore

from .support import come_due, ending, started, submit, worker
from .test_handover import inbox


async def wait_s(store: RedisStore, by: str) -> float:
    return (await store.claim(worker(by), 1))[1]


async def test_one_worker_waits_for_a_due_time_and_the_others_for_longer(store: RedisStore) -> None:
    await submit(store, "a", delay_ms=3_000)

    assert await wait_s(store, "w1") <= 3
    assert await wait_s(store, "w2") > 3.5
    assert await wait_s(store, "w3") > 3.5
    assert await wait_s(store, "w1") <= 3


async def test_an_earlier_job_may_be_watched_by_another_worker(store: RedisStore) -> None:
    await submit(store, "a", delay_ms=30_000)
    assert await wait_s(store, "w1") > 25
    async with inbox(store, "w1"):
        await submit(store, "b", delay_ms=3_000)

    assert await wait_s(store, "w2") <= 3
    assert await wait_s(store, "w1") > 3.5


async def test_the_claim_of_the_worker_that_watches_gives_the_job_to_an_idle_one(store: RedisStore) -> None:
    running = await started(store, "busy")
    await submit(store, "a", delay_ms=60_000)
    await store.claim(worker("w1"), 0)  # it has no free slot, and watches
    async with inbox(store, "w2") as box:
        await wait_s(store, "w2")
        await come_due(store, "a")
        await store.claim(worker("w1"), 0)

        assert (await box.job()).spec.id == "a"
    await store.finish([ending(running)])


async def test_another_worker_watches_when_the_watching_one_leaves_or_is_late(store: RedisStore) -> None:
    await submit(store, "a", "b", delay_ms=3_000)
    await wait_s(store, "w1")
    await store.leave("w1")
    assert await wait_s(store, "w2") <= 3

    await store.redis.hset(f"{store.prefix}watching", "default", "1 w2")  # it should have come long ago
    assert await wait_s(store, "w3") <= 3


async def test_a_worker_of_an_earlier_version_that_wakes_for_each_job_is_no_obstacle(store: RedisStore) -> None:
    await submit(store, "a", delay_ms=60_000)
    await wait_s(store, "w1")
    await come_due(store, "a")

    claimed, _ = await store.claim(worker("old"), 1)  # without a word of `watching`
    assert [one.spec.id for one in claimed] == ["a"]
