"""Cancel: in each state, and in each race with a worker."""

from __future__ import annotations

from datetime import timedelta

from jobkit.model import ErrorKind, JobState
from jobkit.model.result import cancellation_of
from jobkit.model.snapshot import JobError
from jobkit.store.redis import RedisStore
from jobkit.store.values import ALREADY, FENCED, FINISHED

from .support import claim, come_due, ending, lapse, numbers, snapshot, started, submit, types, worker


async def test_cancel_before_start_never_gives_the_job_to_a_worker(store: RedisStore) -> None:
    await submit(store, "queued")
    await submit(store, "scheduled", delay_ms=60_000)

    states = await store.cancel(["queued", "scheduled"], "not needed")

    assert states == ["cancelled", "cancelled"]
    await come_due(store, "scheduled")
    assert await claim(store, 5) == []
    for id in ("queued", "scheduled"):
        found = await snapshot(store, id)
        assert (found.state, found.attempt, types(found)) == (JobState.CANCELLED, 0, ["submitted", "cancelled"])
        assert found.history[-1].data["reason"] == "not needed"
        assert found.finished_at is not None


async def test_a_running_job_continues_until_its_worker_has_stopped_it(store: RedisStore) -> None:
    claimed = await started(store, "a")

    states = await store.cancel(["a"], "enough")

    asked = await snapshot(store, "a")
    assert (states, asked.state, asked.is_cancelling) == (["running"], "running", True)
    assert (await store.renew("w1", {"a": claimed.token}, {})).cancelled == ("a",)
    assert await store.progress([numbers(claimed, 1)]) == [True]
    assert await store.finish([ending(claimed, "cancelled", reason="its clean-up ran")]) == [FINISHED]
    found = await snapshot(store, "a")
    assert (found.state, found.is_cancelling) == ("cancelled", False)
    assert types(found) == ["submitted", "started", "cancel_requested", "cancelled"]


async def test_cancelling_twice_is_cancelling_once(store: RedisStore) -> None:
    await started(store, "a")

    await store.cancel(["a"])
    before = await snapshot(store, "a")
    states = await store.cancel(["a", "a"])

    assert states == ["running", "running"]
    assert await snapshot(store, "a") == before


async def test_a_terminal_job_keeps_its_state(store: RedisStore) -> None:
    await store.finish([ending(await started(store, "done"))])
    await store.finish([ending(await started(store, "failed"), "failed", error=BOOM)])
    await submit(store, "gone")
    await store.cancel(["gone"])
    before = await store.snapshots(["done", "failed", "gone"])

    states = await store.cancel(["done", "no", "failed", "gone"])

    assert states == ["succeeded", "", "failed", "cancelled"]
    assert await store.snapshots(["done", "failed", "gone"]) == before


BOOM = JobError(ErrorKind.EXCEPTION, "ValueError", "boom")


async def test_a_job_that_succeeds_before_the_cancel_reaches_it_has_succeeded(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.cancel(["a"])

    answers = await store.finish([ending(claimed, result=b"42")])

    found = await snapshot(store, "a")
    assert (answers, found.state, await store.result("a")) == ([FINISHED], "succeeded", b"42")
    assert types(found) == ["submitted", "started", "cancel_requested", "succeeded"]


async def test_a_cancelled_running_job_is_not_retried(store: RedisStore) -> None:
    claimed = await started(store, "a", retries=5)
    await store.cancel(["a"])

    await store.finish([ending(claimed, "retried", error=BOOM, delay_ms=10)])

    found = await snapshot(store, "a")
    assert (found.state, found.retried, found.error) == ("cancelled", 0, None)


async def test_a_cancelled_running_job_is_not_released(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.cancel(["a"])

    await store.finish([ending(claimed, "released")])

    assert (await snapshot(store, "a")).state is JobState.CANCELLED
    assert await store.finish([ending(claimed, "released")]) == [ALREADY]


async def test_a_cancelled_running_job_that_lost_its_worker_is_cancelled(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.cancel(["a"])
    await lapse(store, "a")

    assert await claim(store, by=worker("w2")) == []

    found = await snapshot(store, "a")
    assert (found.state, found.losses) == ("cancelled", 1)
    assert types(found)[-1] == "cancelled"
    assert await store.finish([ending(claimed)]) == [FENCED]


async def test_a_job_that_waits_for_its_retry_can_be_cancelled(store: RedisStore) -> None:
    claimed = await started(store, "a", retries=1)
    await store.finish([ending(claimed, "retried", error=BOOM, delay_ms=60_000)])

    assert await store.cancel(["a"]) == ["cancelled"]

    found = await snapshot(store, "a")
    assert (found.state, found.error, found.attempt) == ("cancelled", BOOM, 1)


async def test_the_worker_of_a_job_that_was_cancelled_while_it_was_queued_again_is_fenced(store: RedisStore) -> None:
    zombie = await started(store, "a")
    await lapse(store, "a")
    await store.claim(worker("w2"), 0)

    assert await store.cancel(["a"]) == ["cancelled"]

    assert await store.finish([ending(zombie, result=b"late")]) == [FENCED]
    assert await store.result("a") is None


async def test_a_record_tells_who_asked_a_job_to_stop_and_why(store: RedisStore) -> None:
    claimed = await started(store, "running")
    await submit(store, "waiting")

    await store.cancel(["waiting", "running"], "wrong data", by="ada")
    await store.cancel(["running"], "too late", by="bob")

    for id in ("waiting", "running"):
        asked = cancellation_of(await snapshot(store, id))
        assert asked is not None
        assert (asked.by, asked.reason, asked.brief) == ("ada", "wrong data", "Cancelled by ada: wrong data")
        assert asked.sentence(asked.at + timedelta(minutes=2)) == "Cancelled by ada, 2 min ago: wrong data"
    await store.finish([ending(claimed)])
    assert cancellation_of(await snapshot(store, "running")) is None  # it succeeded all the same


async def test_a_cancellation_without_a_user_has_no_name(store: RedisStore) -> None:
    await submit(store, "a")

    await store.cancel(["a"])

    asked = cancellation_of(await snapshot(store, "a"))
    assert asked is not None
    assert (asked.by, asked.reason, asked.brief) == ("", "", "Cancelled")
    assert asked.sentence(asked.at) == "Cancelled just now"
