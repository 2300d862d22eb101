"""Hand-over: a submit gives the job to an idle worker in the same step, by a message on the worker's own channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jobkit.model import JobState
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed
from jobkit.store.wire import read_claimed

from .support import claim, come_due, ending, job, lapse, numbers, snapshot, started, submit, types, worker


class Inbox:
    """Messages on a worker's own channel: jobs (J), a wake-up (W), a cancel (C)."""

    def __init__(self, pubsub: object) -> None:
        self._pubsub = pubsub

    async def next(self, timeout_s: float = 5.0) -> bytes:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout_s)  # type: ignore[attr-defined]
                if message is not None:
                    return bytes(message["data"])

    async def job(self) -> Claimed:
        message = await self.next()
        assert message[:1] == b"J", message
        return read_claimed(message[1:])


@asynccontextmanager
async def inbox(store: RedisStore, id: str = "w1") -> AsyncIterator[Inbox]:
    async with store.redis.pubsub() as pubsub:
        await pubsub.subscribe(store.channel("inbox", id))
        message = await pubsub.get_message(timeout=5.0)
        assert message is not None
        assert message["type"] == "subscribe"
        yield Inbox(pubsub)


async def test_an_idle_worker_gets_the_job_with_the_submit(store: RedisStore) -> None:
    async with inbox(store) as box:
        await store.claim(worker(), 1)

        await submit(store, "a", client="me", params={"n": 1})

        claimed = await box.job()
        found = await snapshot(store, "a")
        assert (claimed.spec, claimed.token, claimed.payload) == (found.spec, "w1:1", b"arguments of a")
        assert (found.state, found.worker, types(found)) == ("running", "w1", ["submitted", "started"])
        assert await store.finish([ending(claimed)]) == [1]


async def test_an_idle_worker_learns_once_of_the_times_of_all_jobs_of_a_submit(store: RedisStore) -> None:
    async with inbox(store) as box:
        await store.claim(worker(), 1)

        await store.submit([job(f"later{n}", delay_ms=60_000) for n in range(3)])
        await submit(store, "now")

        assert [(await box.next())[:1] for _ in range(2)] == [b"W", b"J"]


async def test_a_worker_gets_no_more_jobs_than_it_has_free_slots(store: RedisStore) -> None:
    async with inbox(store) as box:
        await store.claim(worker(), 2)

        await submit(store, "a", "b", "c")

        assert [(await box.job()).spec.id for _ in range(2)] == ["a", "b"]
        assert (await snapshot(store, "c")).state is JobState.QUEUED


async def test_jobs_on_their_way_fill_slots_that_the_worker_thinks_are_free(store: RedisStore) -> None:
    """A claim crosses a hand-over: without the count of received jobs, the worker would take one too many."""
    async with inbox(store) as box:
        await store.claim(worker(), 1)
        await submit(store, "a", "b")

        crossing, _ = await store.claim(worker(), 1, received=0)
        await box.job()
        after, _ = await store.claim(worker(), 1, received=1)

        assert crossing == []
        assert [claimed.spec.id for claimed in after] == ["b"]


async def test_a_worker_that_resubscribes_restarts_its_count(store: RedisStore) -> None:
    async with inbox(store) as box:
        await store.claim(worker(), 1)
        await submit(store, "a")
        await box.job()

    await submit(store, "b")
    claimed, _ = await store.claim(worker(), 1, received=-1)

    assert [one.spec.id for one in claimed] == ["b"]


async def test_a_dead_idle_worker_never_gets_a_job(store: RedisStore) -> None:
    """The worker is registered as idle, but no longer listens on its channel."""
    await store.claim(worker("dead"), 4)

    await submit(store, "a")

    found = await snapshot(store, "a")
    assert (found.state, found.attempt) == ("queued", 0)
    assert [claimed.spec.id for claimed in await claim(store, by=worker("w2"))] == ["a"]


async def test_the_next_idle_worker_is_tried_when_one_is_dead(store: RedisStore) -> None:
    async with inbox(store, "alive") as box:
        await store.claim(worker("dead"), 4)
        await store.claim(worker("alive"), 1)

        await submit(store, "a")

        assert (await box.job()).token == "alive:1"


async def test_the_worker_with_most_free_slots_comes_first(store: RedisStore) -> None:
    async with inbox(store, "small") as small, inbox(store, "big") as big:
        await store.claim(worker("small"), 1)
        await store.claim(worker("big"), 3)

        await submit(store, "a", "b", "c", "d")

        assert {(await big.job()).spec.id for _ in range(3)} | {(await small.job()).spec.id} == {"a", "b", "c", "d"}


async def test_a_worker_that_left_or_serves_other_queues_gets_nothing(store: RedisStore) -> None:
    async with inbox(store, "left"), inbox(store, "other"):
        await store.claim(worker("left"), 1)
        await store.leave("left")
        await store.claim(worker("other", "gpu"), 1)

        await submit(store, "a")

        assert (await snapshot(store, "a")).state is JobState.QUEUED


async def test_a_new_job_does_not_overtake_waiting_ones(store: RedisStore) -> None:
    async with inbox(store) as box:
        await submit(store, "first")
        await store.claim(worker(), 0)
        await submit(store, "second")

        await store.claim(worker("other"), 1)
        await store.claim(worker(), 1)
        await submit(store, "third")
        await store.claim(worker(), 2)
        await submit(store, "fourth")

        assert [(await snapshot(store, id)).worker for id in ("first", "second", "third")] == [
            "other",
            "w1",
            "w1",
        ]
        assert (await box.job()).spec.id == "fourth"


async def test_an_idle_worker_is_woken_for_an_earlier_time(store: RedisStore) -> None:
    async with inbox(store) as box:
        await store.claim(worker(), 1)

        await submit(store, "a", delay_ms=60_000)

        assert await box.next() == b"W"
        _, wait_s = await store.claim(worker(), 1)
        assert 50 < wait_s <= 60.001


async def test_a_lost_released_or_due_job_is_handed_over_as_well(store: RedisStore) -> None:
    async with inbox(store, "idle") as box:
        await started(store, "lost")
        held = await started(store, "released")
        await submit(store, "due", delay_ms=60_000)
        await store.claim(worker("idle"), 3)
        await lapse(store, "lost")
        await come_due(store, "due")

        await store.finish([ending(held, "released")])
        await store.claim(worker("busy"), 0)

        assert {(await box.job()).spec.id for _ in range(3)} == {"lost", "released", "due"}


async def test_a_lost_job_is_not_handed_to_a_worker_that_has_lost_one(store: RedisStore) -> None:
    """A frozen worker is still subscribed, with most free slots. The job used to lose another lease there."""
    async with inbox(store, "w1"), inbox(store, "w2"), inbox(store, "w3") as box:
        await submit(store, "a", "b")
        for id in ("w1", "w2"):
            assert len(await claim(store, by=worker(id))) == 1
        for id, free in (("w1", 8), ("w2", 8), ("w3", 3)):
            await store.claim(worker(id), free)
        await lapse(store, "a", "b")

        await store.claim(worker("sweeper", "nothing"), 0)

        assert [(await box.job()).token for _ in range(2)] == ["w3:2", "w3:2"]


async def test_the_worker_of_a_job_is_notified_of_a_cancel_at_once(store: RedisStore) -> None:
    async with inbox(store) as box:
        await started(store, "a")

        await store.cancel(["a"])

        assert await box.next() == b"Ca"


async def test_an_exchange_sends_news_endings_and_a_claim_together(store: RedisStore) -> None:
    await store.redis.function_flush()  # progress used to be sent after the end, and was refused
    first = await started(store, "a")
    await submit(store, "b")

    answers, claimed, wait_s = await store.exchange(
        [numbers(first, 1, 2)], [ending(first, result=b"1")], (worker(), 1, 0)
    )

    assert (answers, [one.spec.id for one in claimed]) == ([1], ["b"])
    assert 20 < wait_s <= 30
    found = await snapshot(store, "a")
    assert (found.state, found.rev) == ("succeeded", 1)
    assert await store.exchange([], [], None) == ([], [], float("inf"))
