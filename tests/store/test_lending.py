"""Jobs that wait for jobs: their slots are lent to the awaited jobs, whatever their position in the queue."""

from __future__ import annotations

from jobkit.store.redis import RedisStore
from jobkit.store.values import AttemptNews, Claimed

from .support import ending, job, snapshot, submit, worker


def ids(claimed: list[Claimed]) -> list[str]:
    return [one.spec.id for one in claimed]


async def test_a_lent_slot_takes_the_awaited_job_before_longer_waiting_ones(store: RedisStore) -> None:
    await submit(store, "outer", "other", "inner")
    await store.claim(worker("me"), 1)

    claimed, _ = await store.claim(worker("me"), 0, awaited=["inner"], lent=1)

    assert ids(claimed) == ["inner"]
    await store.finish([ending(claimed[0])])


async def test_no_more_start_than_slots_are_lent(store: RedisStore) -> None:
    await submit(store, "a", "b", "c")

    claimed, _ = await store.claim(worker("me"), 0, awaited=["c", "b", "a"], lent=2)

    assert ids(claimed) == ["c", "b"]


async def test_the_result_that_an_awaited_job_needs_comes_first(store: RedisStore) -> None:
    await submit(store, "other", "need")
    await store.submit([job("inner", needs=("need",))])

    claimed, _ = await store.claim(worker("me"), 0, awaited=["inner"], lent=1)

    assert ids(claimed) == ["need"]
    await store.finish([ending(claimed[0])])
    again, _ = await store.claim(worker("me"), 0, awaited=["inner"], lent=1)
    assert ids(again) == ["inner"]


async def test_a_slot_that_one_worker_lends_serves_the_job_of_another(store: RedisStore) -> None:
    await store.submit([job("for-b", queue="a"), job("for-a", queue="b")])

    mine, _ = await store.claim(worker("a", "a"), 0, awaited=["for-a"], lent=1)
    theirs, _ = await store.claim(worker("b", "b"), 0, awaited=["for-b"], lent=1)
    again, _ = await store.claim(worker("a", "a"), 0, awaited=["for-a"], lent=1)

    assert [ids(mine), ids(theirs), ids(again)] == [[], ["for-a"], ["for-b"]]


async def test_a_job_that_is_no_longer_awaited_has_no_precedence(store: RedisStore) -> None:
    await store.submit([job("x", queue="b"), job("y", queue="b")])
    await store.claim(worker("a", "a"), 0, awaited=["y"], lent=1)
    await store.claim(worker("a", "a"), 0)

    claimed, _ = await store.claim(worker("b", "b"), 0, awaited=["gone"], lent=1)

    assert ids(claimed) == []


async def test_a_job_that_cannot_start_is_skipped(store: RedisStore) -> None:
    await submit(store, "runs", "waits")
    await store.submit([job("later", delay_ms=60_000)])
    await store.claim(worker("other"), 1)

    claimed, _ = await store.claim(worker("me"), 0, awaited=["gone", "runs", "later", "waits"], lent=3)

    assert ids(claimed) == ["waits"]


async def test_a_running_job_shows_what_it_waits_for_until_it_continues(store: RedisStore) -> None:
    await submit(store, "outer")
    ((claimed,), _) = await store.claim(worker("me"), 1)

    await store.progress([AttemptNews("outer", claimed.token, True, 1, 2, "half", awaits="inner")])
    waiting = await snapshot(store, "outer")
    await store.progress([AttemptNews("outer", claimed.token, True, 1, 2, "half")])
    going_on = await snapshot(store, "outer")
    await store.progress([AttemptNews("outer", claimed.token, True, 1, 2, "half", awaits="inner")])
    await store.finish([ending(claimed)])

    assert (waiting.awaits, waiting.lent_text) == ("inner", "Waiting for job inner (its slot is lent)")
    assert (waiting.completed, waiting.total, waiting.message) == (1, 2, "half")
    assert going_on.lent_text == (await snapshot(store, "outer")).lent_text == ""
