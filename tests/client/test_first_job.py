"""First steps: submit, wait, read result, log, progress and error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import jobkit
from jobkit.client.kit import Kit


def test_a_submitted_function_runs_and_returns_its_value(kit: Kit) -> None:
    def double(x: int) -> int:
        return 2 * x

    job = kit.submit(double, 21)

    assert job.result(60) == 42
    assert job.state == "succeeded"
    assert job.progress == 1.0
    assert job.params == {"x": 21}


def test_lambdas_builtins_and_coroutines_can_be_submitted(kit: Kit) -> None:
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    jobs = [kit.submit(lambda x: x + 1, 41), kit.submit(len, "x" * 42), kit.submit(later, 41)]

    assert [job.result(60) for job in jobs] == [42, 42, 42]


@pytest.mark.filterwarnings("default")  # with sync:// the job's warning is also one of this process
def test_output_log_records_and_warnings_are_in_the_log_in_order(kit: Kit) -> None:
    def talk() -> None:
        import logging
        import warnings

        print("first")
        logging.getLogger("lab").warning("second")
        warnings.warn("third", stacklevel=1)
        print("fourth")

    job = kit.submit(talk)
    job.wait(60)
    logs = job.logs()

    assert [line.split(": ")[-1] for line in logs] == ["first", "second", "third", "fourth"]
    assert [line.source for line in logs] == ["stdout", "log", "warning", "stdout"]
    assert logs[1].level == "WARNING"
    assert logs[1].logger == "lab"
    assert "sec" in logs
    assert job.logs(tail=1) == ["fourth"]


def test_progress_reaches_the_handle_and_its_last_value_always_arrives(kit: Kit) -> None:
    def steps(n: int) -> int:
        return sum(1 for _ in jobkit.progress(range(n), desc="steps"))

    job = kit.submit(steps, 1000)

    assert job.result(60) == 1000
    assert (job.completed, job.total, job.message) == (1000, 1000, "steps")


def test_the_error_of_a_failed_job_has_the_users_traceback(kit: Kit) -> None:
    def broken(key: str) -> None:
        {}[key]

    job = kit.submit(broken, "missing")

    with pytest.raises(jobkit.JobFailed, match="KeyError: 'missing'") as caught:
        job.result(60)
    assert isinstance(caught.value.__cause__, KeyError)
    assert job.state == "failed"
    assert job.error.kind == "exception"
    assert job.error.type == "KeyError"
    assert "in broken" in job.error.traceback
    assert "jobkit/run" not in job.error.traceback


UNAVAILABLE: dict[str, tuple[Callable[[], object], str]] = {
    "lock": (
        lambda: __import__("threading").Lock(),
        "cannot pickle '_thread.lock'.*; return plain data, arrays or tab",
    ),
    "generator": (lambda: (i for i in range(3)), r"of type generator.*: return list\(\.\.\.\) instead"),
}


@pytest.mark.parametrize("kind", UNAVAILABLE)
def test_a_value_that_cannot_be_kept_does_not_fail_the_job(kit: Kit, kind: str) -> None:
    function, why = UNAVAILABLE[kind]
    job = kit.submit(function)

    with pytest.raises(jobkit.ResultUnavailable, match=why) as caught:
        job.result(60)
    assert not isinstance(caught.value, jobkit.ResultExpired)
    assert job.state == "succeeded"
    assert job.preview()["text"]


def test_events_have_the_whole_life_of_a_job_without_gaps(kit: Kit) -> None:
    job = kit.submit(len, "abc")
    job.wait(60)

    numbered = [event for event in job.events() if not event.type.is_news]

    assert [event.type for event in numbered] == ["submitted", "started", "succeeded"]
    assert [event.seq for event in numbered] == [1, 2, 3]
    assert [event.type for event in job.events(after=2)] == ["succeeded"]


def abc_after(gate: str) -> str:
    """Wait until the test has set its watchers."""
    import time
    from pathlib import Path

    while not Path(gate).exists():
        time.sleep(0.01)
    return "abc"


def test_watchers_see_every_state_in_order(queued: Kit, tmp_path: Path) -> None:
    seen = []
    gate = tmp_path / "gate"
    job = queued.submit(len, queued.submit(abc_after, str(gate)))  # scheduled until the parent has ended
    job.param.watch(lambda event: seen.append(str(event.new)), "state")

    gate.touch()
    job.result(60)

    assert seen == ["queued", "running", "succeeded"]


async def test_everything_works_inside_a_running_loop(kit: Kit) -> None:
    job = await kit.aio.submit(len, "abcd")

    assert await job == 4
    assert await asyncio.gather(*[await kit.aio.submit(len, "x" * n) for n in range(5)]) == list(range(5))
    assert (await kit.aio.counts())["succeeded"] == 6
    assert (await kit.aio.snapshot(job.id)).state == "succeeded"
