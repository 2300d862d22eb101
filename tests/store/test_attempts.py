"""One attempt from claim to end: the fence, and the three ways back to the queue."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from jobkit.model import ErrorKind, JobState, attempts_of
from jobkit.model.snapshot import JobError
from jobkit.store.redis import RedisStore
from jobkit.store.values import ALREADY, FENCED, FINISHED, AttemptNews
from tests.support import until

from .support import claim, come_due, ending, job, lapse, numbers, short_lease, snapshot, started, submit, types, worker

BOOM = JobError(ErrorKind.EXCEPTION, "ValueError", "boom /tmp/é", "Traceback: line 1", "a.py:1 in f")


async def test_a_success_keeps_its_value_preview_summary_and_usage(store: RedisStore) -> None:
    claimed = await started(store, "a")

    usage = {"cpu_s": 0.25, "peak_rss_bytes": 123_456_789}
    preview = b"sealed \x00\xff"
    answers = await store.finish([ending(claimed, result=b"\n42", preview=preview, summary="42", usage=usage)])

    found = await snapshot(store, "a")
    assert answers == [FINISHED]
    assert (found.state, found.is_terminal, found.progress, found.error) == (JobState.SUCCEEDED, True, 1.0, None)
    assert (found.summary, dict(found.usage)) == ("42", usage)
    assert found.finished_at is not None
    assert await store.result("a") == b"\n42"
    assert await store.preview("a") == preview
    assert await store.payload("a") == b"arguments of a"
    assert types(found) == ["submitted", "started", "succeeded"]


async def test_a_success_without_a_value_has_none(store: RedisStore) -> None:
    await store.finish([ending(await started(store, "a"))])

    assert (await snapshot(store, "a")).state is JobState.SUCCEEDED
    assert (await store.result("a"), await store.preview("a")) == (None, None)


async def test_a_failure_has_its_error_and_the_history_no_second_traceback(store: RedisStore) -> None:
    claimed = await started(store, "a")

    boom = replace(BOOM, source="1\tdef f():\n2\t    raise")
    await store.finish([ending(claimed, "failed", error=boom)])

    found = await snapshot(store, "a")
    assert (found.state, found.error) == (JobState.FAILED, boom)
    assert found.history[-1].data["error"]["message"] == BOOM.message
    assert found.history[-1].data["error"]["traceback"] == ""
    assert "source" not in found.history[-1].data["error"]


async def test_an_old_token_is_refused_and_changes_nothing(store: RedisStore) -> None:
    """A worker that was frozen for longer than its lease returns with a result."""
    zombie = await started(store, "a")
    await lapse(store, "a")
    [claimed] = await claim(store, by=worker("w2"))
    before = await snapshot(store, "a")

    answers = await store.finish([ending(zombie, result=b"zombie")])
    news = await store.progress([numbers(zombie, 1)])

    assert (answers, news) == ([FENCED], [False])
    assert await snapshot(store, "a") == before
    assert await store.finish([ending(claimed, result=b"good")]) == [FINISHED]
    assert await store.finish([ending(zombie, "failed", error=BOOM)]) == [FENCED]
    assert await store.result("a") == b"good"


async def test_a_repeated_finish_is_answered_with_already(store: RedisStore) -> None:
    """The reply was lost, so the worker sends the end again."""
    claimed = await started(store, "a")
    first = await store.finish([ending(claimed, result=b"1")])
    before = await snapshot(store, "a")

    again = await store.finish([ending(claimed, result=b"2")])

    assert (first, again) == ([FINISHED], [ALREADY])
    assert await snapshot(store, "a") == before
    assert await store.result("a") == b"1"


async def test_a_repeated_retry_is_answered_with_already_and_counts_once(store: RedisStore) -> None:
    claimed = await started(store, "a", retries=3)
    retry = ending(claimed, "retried", error=BOOM)

    answers = await store.finish([retry, retry])
    [second] = await claim(store)
    late = await store.finish([retry])

    assert (answers, late) == ([FINISHED, ALREADY], [ALREADY])
    assert (second.attempt, second.retried) == (2, 1)
    assert (await snapshot(store, "a")).retried == 1


async def test_endings_of_unknown_and_waiting_jobs_are_fenced(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await submit(store, "waits")
    other = ending(claimed)

    answers = await store.finish(
        [
            ending(claimed),
            *(type(other)(id, token, "succeeded") for id, token in [("no", "w1:1"), ("waits", ""), ("waits", "w1:1")]),
        ]
    )

    assert answers == [FINISHED, FENCED, FENCED, FENCED]
    assert (await snapshot(store, "waits")).state is JobState.QUEUED


async def test_a_retry_with_backoff_waits_and_then_runs_as_the_next_attempt(store: RedisStore) -> None:
    first = await started(store, "a", retries=1)
    await store.progress([numbers(first, 5, 10, "half")])

    await store.finish([ending(first, "retried", error=BOOM, delay_ms=60_000)])

    waiting = await snapshot(store, "a")
    assert (waiting.state, waiting.retried, waiting.error, waiting.completed) == ("scheduled", 1, BOOM, 5)
    assert waiting.due_at is not None
    assert await claim(store) == []
    await come_due(store, "a")
    [second] = await claim(store)
    running = await snapshot(store, "a")
    assert (second.attempt, second.retried, second.token) == (2, 1, "w1:2")
    assert (running.completed, running.total, running.message) == (None, None, "")
    assert types(running) == ["submitted", "started", "retried", "queued", "started"]
    assert [attempt.outcome for attempt in attempts_of(running.history)] == ["retried", "running"]


async def test_a_retry_without_backoff_is_queued_at_once_behind_waiting_jobs(store: RedisStore) -> None:
    first = await started(store, "a", retries=1)
    await submit(store, "b")

    await store.finish([ending(first, "retried", error=BOOM)])

    assert (await snapshot(store, "a")).state is JobState.QUEUED
    assert [claimed.spec.id for claimed in await claim(store, 2)] == ["b", "a"]


async def test_the_error_of_a_retried_attempt_is_history_once_the_job_succeeds(store: RedisStore) -> None:
    first = await started(store, "a", retries=1)
    await store.finish([ending(first, "retried", error=BOOM)])
    [second] = await claim(store)
    while_running = await snapshot(store, "a")

    await store.finish([ending(second)])

    found = await snapshot(store, "a")
    assert while_running.error == BOOM
    assert (found.state, found.error) == (JobState.SUCCEEDED, None)
    first_attempt, _ = attempts_of(found.history)
    assert first_attempt.reason == "ValueError: boom /tmp/é"


async def test_a_summary_belongs_to_an_end_only(store: RedisStore) -> None:
    first = await started(store, "a", retries=1)

    await store.finish([ending(first, "retried", error=BOOM, summary="half", usage={"exit": "1"})])

    found = await snapshot(store, "a")
    assert (found.summary, dict(found.usage)) == ("", {"exit": "1"})


async def test_a_released_job_keeps_its_attempts_and_its_position_in_the_queue(store: RedisStore) -> None:
    first = await started(store, "a", retries=0)
    await submit(store, "b", "c")

    await store.finish([ending(first, "released", reason="the worker stops")])

    found = await snapshot(store, "a")
    assert (found.state, found.releases, found.retried, found.losses) == ("queued", 1, 0, 0)
    assert found.history[-1].data["reason"] == "the worker stops"
    assert [claimed.spec.id for claimed in await claim(store, 3, worker("w2"))] == ["a", "b", "c"]


@short_lease
async def test_an_expired_lease_queues_the_job_again(store: RedisStore) -> None:
    await started(store, "a")
    await submit(store, "b")

    both = await until(lambda: claims_of_two(store), "the lease to end")

    found = await snapshot(store, "a")
    assert [claimed.spec.id for claimed in both] == ["a", "b"]  # at its old position in the queue
    assert (found.losses, found.retried, found.attempt, found.worker) == (1, 0, 2, "w2")
    assert types(found) == ["submitted", "started", "lost", "started"]
    assert "w1" in found.history[2].data["reason"]
    assert [attempt.outcome for attempt in attempts_of(found.history)] == ["lost", "running"]


async def claims_of_two(store: RedisStore) -> list | None:  # type: ignore[type-arg]
    """Return both jobs of one claim, or None while their leases have not expired."""
    await store.claim(worker("w2"), 0)
    if (await store.counts())["queued"] < 2:
        return None
    return await claim(store, 2, worker("w2"))


@short_lease
async def test_a_heartbeat_keeps_the_lease(store: RedisStore) -> None:
    held = await started(store, "a")
    await started(store, "b")

    async def b_is_lost() -> bool:
        renewal = await store.renew("w1", {"a": held.token}, {})
        assert (renewal.lost, renewal.cancelled, renewal.stop) == ((), (), "")
        return (await snapshot(store, "b")).losses == 1

    await until(b_is_lost, "the other lease to end, three times over")
    assert (await snapshot(store, "a")).losses == 0


async def test_a_heartbeat_requeues_lost_jobs_of_other_workers(store: RedisStore) -> None:
    await started(store, "a")
    await lapse(store, "a")

    await store.renew("w2", {}, {})

    assert (await snapshot(store, "a")).state is JobState.QUEUED


async def test_a_heartbeat_renews_an_expired_lease_that_was_not_recovered(store: RedisStore) -> None:
    held = await started(store, "a")
    await lapse(store, "a")

    renewal = await store.renew("w1", {"a": held.token}, {})
    claimed = await claim(store, by=worker("w2"))

    assert (renewal.lost, claimed) == ((), [])
    assert (await snapshot(store, "a")).losses == 0


async def test_the_reply_to_a_heartbeat_names_lost_and_cancelled_jobs(store: RedisStore) -> None:
    lost = await started(store, "lost")
    await lapse(store, "lost")
    await claim(store, by=worker("w2"))
    asked = await started(store, "asked")
    await store.cancel(["asked"])

    renewal = await store.renew("w1", {"lost": lost.token, "asked": asked.token, "no": "w1:1"}, {})

    assert renewal.lost == ("lost", "no")
    assert renewal.cancelled == ("asked",)


async def test_a_job_whose_workers_die_too_often_has_failed(store: RedisStore) -> None:
    await submit(store, "poison", retries=5)
    for n in range(3):
        [claimed] = await claim(store, by=worker(f"w{n}"))
        assert claimed.losses == n
        await lapse(store, "poison")
    await claim(store)

    found = await snapshot(store, "poison")
    assert (found.state, found.losses, found.attempt, found.retried) == (JobState.FAILED, 3, 3, 0)
    assert found.error is not None
    assert (found.error.kind, found.error.type) == (ErrorKind.LOST, "lost")
    assert "3 times" in found.error.message
    assert "w2" in found.error.message
    assert types(found)[-2:] == ["started", "failed"]


async def test_progress_shows_the_newest_numbers(store: RedisStore) -> None:
    claimed = await started(store, "a")

    answers = await store.progress([numbers(claimed, 1, 4, "first"), numbers(claimed, 3.0, 4, 'se"cond\n')])

    found = await snapshot(store, "a")
    assert answers == [True, True]
    assert (found.completed, found.total, found.message, found.progress, found.rev) == (3, 4, 'se"cond\n', 0.75, 2)
    assert found.seq == 2


@pytest.mark.parametrize(
    ("done", "total"), [(float("nan"), float("inf")), (-1.0, -5.0), (None, None)], ids=["endless", "negative", "none"]
)
async def test_progress_that_cannot_be_shown_is_unknown(
    store: RedisStore, done: float | None, total: float | None
) -> None:
    claimed = await started(store, "a")

    await store.progress([AttemptNews("a", claimed.token, True, done, total)])

    found = await snapshot(store, "a")
    assert (found.completed, found.total, found.progress) == (None, None, None)


async def test_lines_without_numbers_leave_the_numbers(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.progress([numbers(claimed, 1, 2)])

    await store.progress([AttemptNews("a", claimed.token)])

    assert (await snapshot(store, "a")).rev == 1


async def test_many_retries_keep_the_head_and_the_tail_of_the_history(store: RedisStore) -> None:
    await submit(store, "a", retries=1000)
    for _ in range(120):
        [claimed] = await claim(store)
        await store.finish([ending(claimed, "retried", error=BOOM)])

    found = await snapshot(store, "a")
    assert found.seq == 241
    assert [event.seq for event in found.history] == [*range(1, 21), *range(62, 242)]


async def test_an_empty_batch_is_nothing(store: RedisStore) -> None:
    assert await store.submit([]) == []
    assert await store.finish([]) == []
    assert await store.progress([]) == []
    assert await store.cancel([]) == []
    assert await store.delete([]) == []


async def test_one_call_ends_many_attempts(store: RedisStore) -> None:
    await store.submit([job(f"j{n:03}") for n in range(120)])
    claimed = await claim(store, 120)

    answers = await store.finish([ending(one, result=one.spec.id.encode()) for one in claimed])

    assert answers == [FINISHED] * 120
    assert (await store.counts())["succeeded"] == 120
    assert await store.result("j077") == b"j077"
