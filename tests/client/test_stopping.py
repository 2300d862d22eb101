"""Cancel, options, and what is refused."""

from __future__ import annotations

import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any

import pytest

import jobkit
from jobkit.client.kit import Kit
from tests.support import wait_until


def test_a_waiting_job_is_cancelled_at_once_without_a_worker(queued: Kit) -> None:
    job = queued.options(queue="nobody").submit(len, "abc")

    assert job.cancel("not needed") is True

    with pytest.raises(jobkit.JobCancelled, match="not needed"):
        job.result(60)
    assert job.cancel() is False


def test_a_running_function_is_stopped_and_cleans_up(queued: Kit) -> None:
    def sleepy() -> None:
        import time

        try:
            print("up")
            time.sleep(60)
        finally:
            print("cleaned up")

    job = queued.submit(sleepy)
    wait_until(lambda: "up" in job.logs(), what="the job to run")

    job.cancel()

    assert job.wait(60)
    assert job.state == "cancelled"
    assert "cleaned up" in job.logs()
    assert [event.type for event in job.events()][-2:] == ["cancel_requested", "cancelled"]


def test_a_cancelled_result_raises_and_waiting_can_time_out(queued: Kit) -> None:
    job = queued.options(delay=60).submit(len, "abc")

    with pytest.raises(TimeoutError, match="still scheduled after"):
        job.result(0.05)
    assert job.wait(0.05) is False
    job.cancel()
    assert job.wait(60) is True


def test_a_failed_attempt_is_retried_and_each_attempt_is_kept(kit: Kit, tmp_path: object) -> None:
    def flaky(path: str) -> str:
        from pathlib import Path

        file = Path(path)
        file.write_text(file.read_text() + "x" if file.exists() else "x")
        if len(file.read_text()) < 3:
            raise OSError("not yet")
        return "at last"

    options = {"retries": 5, "backoff": jobkit.Backoff(base=0.01, jitter=False), "retry_on": (OSError,)}
    job = kit.options(**options).submit(flaky, f"{tmp_path}/count")

    assert job.result(60) == "at last"
    assert [attempt.outcome for attempt in job.attempts] == ["retried", "retried", "succeeded"]
    assert job.attempts[0].reason == "OSError: not yet"
    assert job.snapshot.retried == 2
    assert job.attempt == 3


def test_a_timeout_ends_a_job_as_failed(queued: Kit) -> None:
    job = queued.options(timeout=0.2, cancel_grace=0.5).submit(time.sleep, 60)

    with pytest.raises(jobkit.JobFailed, match="timeout"):
        job.result(60)
    assert job.error.kind == "timeout"


def test_arguments_are_refused_before_anything_is_stored(kit: Kit) -> None:
    def simulate(n: Annotated[int, jobkit.Range(1, 10)], method: str = "rk4") -> None: ...

    for arguments, keywords, message in (
        ((), {}, r"^simulate\(\) misses the argument n; its parameters are: n, method$"),
        ((1,), {"gpu": 1}, r"'gpu'.*for resources write task.options\(resources=\{\"gpu\": 1\}\)"),
        ((0,), {}, "n must be a whole number from 1 to 10, not 0"),
        (("x",), {}, "n must be a whole number from 1 to 10, not 'x'"),
        ((1,), {"metod": "euler"}, "'metod'.*method"),
    ):
        with pytest.raises(jobkit.InvalidParams, match=message):
            kit.submit(simulate, *arguments, **keywords)
    assert kit.jobs() == []


def test_the_value_of_a_call_is_refused_with_the_question_whether_it_was_called(kit: Kit) -> None:
    async def train(n: int) -> int:
        return n

    for value in (6, None, train(3), [1] * 1000):
        with pytest.raises(jobkit.InvalidParams, match=r"not .{1,120}: did you call it\? Write submit\(train, 3\)"):
            kit.submit(value)  # type: ignore[call-overload]  # what people type
    assert kit.jobs() == []


def test_all_missing_arguments_are_named_at_once(kit: Kit) -> None:
    def train(lr: float, rounds: int, seed: int = 0) -> None: ...

    with pytest.raises(
        jobkit.InvalidParams, match=r"^train\(\) misses the arguments lr and rounds; its parameters are"
    ):
        kit.submit(train)


def test_an_unknown_task_names_the_close_ones(kit: Kit) -> None:
    with pytest.raises(jobkit.UnknownTask, match=re.escape("there is no task 'no_such_task'")):
        kit.submit("no_such_task")


def test_a_closed_kit_raises(place: dict[str, str]) -> None:
    kit = jobkit.connect(**place)
    kit.close()

    with pytest.raises(jobkit.JobkitError, match="is closed; connect again"):
        kit.submit(len, "abc")


def test_waits_end_when_their_kit_is_closed(kit: Kit, place: dict[str, str]) -> None:
    kit.queues.pause("default")
    try:
        other = jobkit.connect(**place)
        jobs = [other.submit(len, "abc") for _ in range(3)]
        with ThreadPoolExecutor() as threads:
            waits: list[Future[Any]] = [threads.submit(jobs[0].result), threads.submit(jobkit.wait, jobs[1:2])]
            wait_until(lambda: all(job._waited_for is not None for job in jobs[:2]), what="the waits")
            other.close()
            for wait in (*waits, threads.submit(jobs[2].wait)):
                with pytest.raises(jobkit.JobkitError, match="is closed; connect again"):
                    wait.result(60)
        assert kit.get(jobs[0].id).state == "queued"  # it goes on without its kit
        for job in jobs:
            kit.cancel(job.id)
    finally:
        kit.queues.resume("default")
