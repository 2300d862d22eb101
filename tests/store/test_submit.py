"""From submit to the start of the first attempt: each job once, in order, at its time."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from jobkit.model import Backoff, JobState
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import Submission, SubmitReply
from tests.support import until

from .support import claim, come_due, ending, job, snapshot, submit, types, worker


async def test_a_submitted_job_is_queued_and_can_be_read_back(store: RedisStore) -> None:
    asked = job(
        "a",
        title="Größe",
        queue="gpu",
        params={"n": 10, "method": "rk4"},
        owner="ada",
        tags=("x", "y"),
        priority=3,
        key="k",
        timeout_s=2.5,
        retries=2,
        backoff=Backoff(base=0.5, jitter=False),
        retry_on=("OSError",),
        cancel_grace_s=0.0,
    )

    [reply] = await store.submit([asked])

    found = await snapshot(store, "a")
    assert found.spec == asked.spec
    assert (found.state, found.seq, types(found)) == (JobState.QUEUED, 1, ["submitted"])
    assert found.submitted_at is not None
    assert found.submitted_at.timestamp() * 1000 == pytest.approx(reply.created_ms)
    assert reply.created_ms == pytest.approx(time.time() * 1000, abs=5_000)
    assert await store.payload("a") == b"arguments of a"


async def test_an_unknown_id_has_no_data(store: RedisStore) -> None:
    assert await store.snapshots(["no", "such"]) == [None, None]
    assert await store.snapshots([]) == []
    assert await store.result("no") is None
    assert await store.payload("no") is None
    assert await store.preview("no") is None
    assert (await store.logs("no")).lines == ()


async def test_a_new_job_after_a_known_one_of_the_same_call_has_its_queue(store: RedisStore) -> None:
    await submit(store, "a", queue="one")

    await store.submit([job("a", queue="two"), job("b", queue="two")])

    assert set(await store.queues()) == {"one", "two"}


async def test_a_known_id_is_stored_once_and_nothing_of_it_changes(store: RedisStore) -> None:
    first, second = await store.submit([job("a", params={"n": 1}), job("a", params={"n": 2})])
    again = await store.submit([replace(job("a", task="other"), payload=b"else")])

    assert first.created_ms > 0
    assert (second, again) == (SubmitReply("a"), [SubmitReply("a")])
    found = await snapshot(store, "a")
    assert (found.spec.params, found.seq) == ({"n": 1}, 1)
    assert await store.payload("a") == b"arguments of a"


async def test_an_invalid_spec_refuses_the_whole_call(store: RedisStore) -> None:
    with pytest.raises(TypeError):
        await store.submit([job("good"), job("bad", params={"x": object()})])

    assert await store.snapshots(["good", "bad"]) == [None, None]


async def test_the_spec_is_a_copy_that_the_submitter_cannot_change(store: RedisStore) -> None:
    params = {"n": [1, 2]}
    await submit(store, "a", params=params)

    params["n"].append(3)

    assert (await snapshot(store, "a")).spec.params == {"n": [1, 2]}


async def test_payloads_are_arbitrary_bytes(store: RedisStore) -> None:
    payload = bytes(range(256)) + b"\n{}\r\n"
    await store.submit([Submission(job("a").spec, payload), Submission(job("b").spec, b"")])

    first, second = await claim(store, 2)

    assert (first.payload, second.payload) == (payload, b"")


async def test_jobs_start_in_the_order_of_their_submit(store: RedisStore) -> None:
    ids = [f"{n * 7919 % 1000:04}" for n in range(300)]  # not in alphabetical order
    await submit(store, *ids[:250])
    await submit(store, *ids[250:])

    assert [claimed.spec.id for claimed in await claim(store, 400)] == ids


async def test_many_jobs_of_one_call_are_not_dated_into_the_future(store: RedisStore) -> None:
    """Each job used to be dated later by its number in the call: the 1000th by half a second. Jobs that were submitted
    next were listed below them and overtook them."""
    ids = [f"{n * 7919 % 10_000:05}" for n in range(1000)]
    await submit(store, *ids)
    await submit(store, "next")

    assert [found.id for found in (await store.list(Query(limit=3))).jobs] == ["next", ids[-1], ids[-2]]
    assert [claimed.spec.id for claimed in await claim(store, 1001)][-1] == "next"


async def test_a_higher_priority_starts_first(store: RedisStore) -> None:
    await submit(store, "low", priority=-1)
    await submit(store, "normal")
    await submit(store, "high", priority=2)
    await submit(store, "higher", priority=3)

    assert [claimed.spec.id for claimed in await claim(store, 9)] == ["higher", "high", "normal", "low"]


async def test_a_worker_takes_only_from_its_queues_in_their_order(store: RedisStore) -> None:
    await submit(store, "slow1", queue="slow")
    await submit(store, "fast1", queue="fast")
    await submit(store, "other1", queue="other")
    await submit(store, "fast2", queue="fast")

    first = await claim(store, 3, worker("w1", "fast", "slow"))

    assert [claimed.spec.id for claimed in first] == ["fast1", "fast2", "slow1"]
    assert (await snapshot(store, "other1")).state is JobState.QUEUED


async def test_a_worker_gets_no_more_than_its_free_slots(store: RedisStore) -> None:
    await submit(store, "a", "b", "c")

    assert len(await claim(store, 0)) == 0
    assert len(await claim(store, 2)) == 2
    assert len(await claim(store, 2)) == 1


async def test_a_claim_begins_an_attempt(store: RedisStore) -> None:
    await submit(store, "a", params={"n": 1})

    [claimed] = await claim(store)

    found = await snapshot(store, "a")
    assert (found.state, found.attempt, found.worker, types(found)) == ("running", 1, "w1", ["submitted", "started"])
    assert (claimed.token, claimed.attempt, claimed.retried, claimed.losses) == ("w1:1", 1, 0, 0)
    assert claimed.spec == found.spec
    assert found.started_at is not None
    assert found.started_at.timestamp() * 1000 == pytest.approx(claimed.started_ms)


async def test_a_delayed_job_waits_for_its_time(store: RedisStore) -> None:
    await submit(store, "a", delay_ms=150)
    before = await snapshot(store, "a")
    early, wait_s = await store.claim(worker(), 1)

    [claimed] = await until(lambda: claim(store), "the delayed job")

    assert before.state is JobState.SCHEDULED
    assert before.due_at is not None
    assert (before.due_at - before.submitted_at).total_seconds() == pytest.approx(0.15)
    assert (early, 0 < wait_s <= 0.151) == ([], True)
    after = await snapshot(store, "a")
    assert claimed.started_ms >= before.due_at.timestamp() * 1000 - 1
    assert types(after) == ["submitted", "queued", "started"]
    assert after.due_at == before.due_at


async def test_a_start_time_beats_a_shorter_delay(store: RedisStore) -> None:
    at_ms = int(time.time() * 1000) + 60_000
    await submit(store, "a", at_ms=at_ms, delay_ms=10)
    await submit(store, "b", at_ms=1)

    first, second = await store.snapshots(["a", "b"])

    assert first
    assert second
    assert first.due_at is not None
    assert (first.state, first.due_at.timestamp() * 1000) == ("scheduled", pytest.approx(at_ms))
    assert (second.state, second.due_at) == ("queued", None)


async def test_a_wait_without_due_times_is_endless(store: RedisStore) -> None:
    assert await store.claim(worker(), 1) == ([], float("inf"))


async def test_a_worker_waits_no_longer_than_the_next_lease_or_due_time(store: RedisStore) -> None:
    await submit(store, "later", delay_ms=60_000)
    _, until_due = await store.claim(worker(), 1)
    await submit(store, "now")
    _, until_lease = await store.claim(worker(), 1)

    assert 50 < until_due <= 60.001
    assert 20 < until_lease <= 30


async def test_delayed_jobs_of_one_call_keep_their_order(store: RedisStore) -> None:
    """They all have the same due time; they used to start in the alphabetical order of their ids."""
    ids = [f"{n * 7919 % 1000:04}" for n in range(30)]
    await submit(store, *ids, delay_ms=20)
    seen: list[str] = []

    async def all_claimed() -> bool:
        seen.extend(claimed.spec.id for claimed in await claim(store, 50))
        return len(seen) == 30

    await until(all_claimed, "all of them")
    assert seen == ids


async def test_overdue_jobs_start_in_the_order_of_their_times(store: RedisStore) -> None:
    await submit(store, "b", delay_ms=1)
    await until(lambda: wait_is_over(store, "b"), "its time")
    await submit(store, "a", delay_ms=1)
    await until(lambda: wait_is_over(store, "a"), "its time")
    await submit(store, "c")

    assert [claimed.spec.id for claimed in await claim(store, 9)] == ["b", "a", "c"]


async def wait_is_over(store: RedisStore, id: str) -> bool:
    due = (await snapshot(store, id)).due_at
    return due is not None and time.time() > due.timestamp() + 0.005


async def test_an_id_is_free_when_its_job_was_deleted(store: RedisStore) -> None:
    await submit(store, "a")
    await store.cancel(["a"])
    await store.delete(["a"])

    [reply] = await store.submit([job("a", task="other")])

    found = await snapshot(store, "a")
    assert reply.created_ms > 0
    assert (found.spec.task, found.seq, found.state) == ("other", 1, "queued")


async def test_pruning_an_expired_job_keeps_a_new_job_with_the_same_id(store: RedisStore) -> None:
    """The old job's entry for pruning used to outlive it, and `prune` then deleted the waiting new job. Ids from a key
    (`key="nightly"`) are used many times."""
    await submit(store, "nightly")
    [claimed] = await claim(store)
    await store.finish([ending(claimed, result=b"old", preview=b"old", ttl_ms=1)])

    async def accepted() -> bool:
        return (await store.submit([job("nightly")]))[0].created_ms > 0

    await until(accepted, "the old job to expire")
    pruned = await store.prune()

    assert pruned == 0
    assert (await snapshot(store, "nightly")).state is JobState.QUEUED
    assert (await store.result("nightly"), await store.preview("nightly")) == (None, None)
    assert (await store.counts())["succeeded"] == 0
    [again] = await claim(store)
    assert again.attempt == 1


async def test_a_job_comes_due_in_its_own_queue_only(store: RedisStore) -> None:
    await submit(store, "a", queue="one", delay_ms=60_000)
    await come_due(store, "a", "one")

    other = await claim(store, 1, worker("w2", "two"))
    own = await claim(store, 1, worker("w1", "one"))

    assert (other, [claimed.spec.id for claimed in own]) == ([], ["a"])
