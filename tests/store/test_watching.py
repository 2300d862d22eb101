"""One worker claims when a job is due; the others come later, in case it has died."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from jobkit.store.redis import RedisStore

from .support import claim, come_due, ending, job, started, submit, worker
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


async def test_a_worker_that_watches_for_no_job_is_no_obstacle(store: RedisStore) -> None:
    await submit(store, "a", delay_ms=60_000)
    await wait_s(store, "w1")
    await come_due(store, "a")

    claimed, _ = await store.claim(worker("other"), 1)
    assert [one.spec.id for one in claimed] == ["a"]


async def test_a_worker_that_has_come_for_its_job_does_not_watch_for_the_next_one(store: RedisStore) -> None:
    await submit(store, "a", delay_ms=200)
    await wait_s(store, "w1")
    await asyncio.sleep(0.25)
    [running], _ = await store.claim(worker("w1"), 1)

    await submit(store, "b", delay_ms=600)

    assert await wait_s(store, "w2") <= 0.6
    await store.finish([ending(running)])


async def test_one_worker_watches_for_the_later_jobs_of_one_submit(store: RedisStore) -> None:
    await store.submit([job(f"a{n}", delay_ms=3_000) for n in range(2)])
    await store.cancel(["a0"])  # each later job is due a fraction of a millisecond later, so that they keep their order

    assert await wait_s(store, "w1") <= 3.001
    assert await wait_s(store, "w2") > 3.5


async def test_as_many_idle_workers_claim_as_the_rate_of_a_queue_lets_start(store: RedisStore) -> None:
    await store.set_rule("queue:default", {"count": 4, "period_ms": 300})
    await submit(store, *"abcdefghi")
    assert len(await claim(store, 4, worker("busy"))) == 4
    async with AsyncExitStack() as stack:
        boxes = [await stack.enter_async_context(inbox(store, f"w{n}")) for n in range(4)]
        await store.claim(worker("dead"), 3)
        await store.claim(worker("w3"), 2)
        for n in range(3):
            await store.claim(worker(f"w{n}"), 1)
        await asyncio.sleep(0.35)

        await store.claim(worker("busy"), 0)

        assert [await box.next(1) for box in boxes[1:]] == [b"W"] * 3
        with pytest.raises(TimeoutError):  # the others have enough free slots
            await boxes[0].next(0.2)


async def test_another_worker_watches_when_the_loop_of_the_watching_one_is_blocked(store: RedisStore) -> None:
    await submit(store, "a", delay_ms=3_000)
    await wait_s(store, "w1")
    async with inbox(store, "w2") as box:
        assert await wait_s(store, "w2") > 3.5

        await store.run("claim", store.claim_args(worker("w1"), 0, 0, is_blocked=True))

        assert await box.next() == b"W"
        assert await wait_s(store, "w2") <= 3
