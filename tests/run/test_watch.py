"""The watch of a loop that coroutines share; its use in a worker is tested in tests/worker/test_own_loop.py."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from jobkit.run.attempt import Outcome
from jobkit.run.shared import AsyncRunner
from jobkit.run.watch import LoopWatch
from jobkit.tasks.work import code_version

from .conftest import Heard, assign


async def hold(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251  # the block under test


async def hold_beside(seconds: float) -> None:
    """Block in a second coroutine of the attempt."""
    await asyncio.gather(hold(seconds), asyncio.sleep(0))


async def hold_and_forget(seconds: float) -> None:
    """Block in a coroutine that the attempt does not await."""
    beside = asyncio.ensure_future(hold(seconds))
    await asyncio.sleep(600)
    await beside


class Watched:
    """Attempts on a watched loop of the calling thread, and the reported blocks by job."""

    def __init__(self, give_way_s: float = 30.0) -> None:
        self.told: list[tuple[str, str]] = []
        self.give_way_s = give_way_s
        self.barred: set[str] = set()
        self.on_block: Callable[[LoopWatch, str], None] = lambda watch, job_id: None

    def run(self, *jobs: tuple[Callable[[float], Coroutine[Any, Any, None]], float], **options: Any) -> list[Outcome]:
        async def main() -> list[Outcome]:
            runner = AsyncRunner()
            watch = LoopWatch(runner, block_s=0.05, dead_s=30, give_way_s=self.give_way_s)
            self.barred = watch.barred

            def on_block(assignment: Any, text: str) -> None:
                job_id = "" if assignment is None else assignment.job_id
                self.told.append((job_id, text))
                self.on_block(watch, job_id)

            watch.on_block = on_block
            watch.start()
            try:
                attempts = [
                    asyncio.create_task(
                        runner.run(assign(None, seconds, ref=ref(job), job_id=f"j{n}", **options), Heard())
                    )
                    for n, (job, seconds) in enumerate(jobs)
                ]
                return await asyncio.gather(*attempts)
            finally:
                watch.close()

        return asyncio.run(main())


def ref(function: Any) -> str:
    return f"{function.__module__}:{function.__name__}"


async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def many_short_steps(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.02)  # noqa: ASYNC251  # the block under test
        await asyncio.sleep(0)


def test_a_long_step_is_reported_with_its_line() -> None:
    watched = Watched()
    watched.run((nap, 1.0), (hold, 1.0))

    ((job_id, text),) = watched.told
    assert job_id == "j1"
    assert text.startswith("the event loop is blocked for more than 0.05 s by test_watch.py:")
    assert " in hold" in text


def test_blocks_are_remembered_by_function_and_not_by_job() -> None:
    watched = Watched()
    watched.run((hold, 1.0), (hold, 1.0))

    assert len(watched.told) == 2
    assert watched.barred == {f"{ref(hold)}@{code_version(hold)}"}


def test_a_loop_in_another_thread_is_watched_as_well() -> None:
    watched = Watched()
    thread = threading.Thread(target=lambda: watched.run((hold, 1.0)))
    thread.start()
    thread.join(60)

    assert [job_id for job_id, _ in watched.told] == ["j0"]
    assert " in hold" in watched.told[0][1]


def test_short_steps_are_not_reported() -> None:
    watched = Watched()
    watched.run((hold, 0.0), *[(many_short_steps, 1.0)] * 20)

    assert watched.told == []


@pytest.mark.parametrize("job", [hold, hold_beside, hold_and_forget])
def test_a_cancel_stops_a_blocking_step(job: Any) -> None:
    watched = Watched()
    watched.on_block = lambda watch, job_id: watch.ask("j1", "cancel")
    began = time.monotonic()

    neighbour, outcome = watched.run((nap, 0.1), (job, 30.0))

    assert [job_id for job_id, _ in watched.told] == ["j1"]
    assert (neighbour.outcome, outcome.outcome) == ("succeeded", "cancelled")
    assert time.monotonic() - began < 20


def test_the_timer_that_ends_a_hopeless_process_is_set_before_the_code_of_the_first_job() -> None:
    """Code in C that keeps the GIL from its first step on gives the watching thread no turn to set it."""
    runner = AsyncRunner()
    LoopWatch(runner, block_s=0.05, dead_s=30)
    try:
        runner.on_start()

        assert signal.getitimer(signal.ITIMER_PROF)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def test_a_timeout_stops_a_blocking_step() -> None:
    (outcome,) = Watched().run((hold, 30.0), timeout_s=0.5)

    assert outcome.error is not None
    assert outcome.error.message == "ran longer than its timeout of 0.5 s"


def test_a_job_that_blocks_for_long_is_given_up_to_run_elsewhere() -> None:
    neighbour, outcome = Watched(give_way_s=0.6).run((nap, 0.1), (hold, 30.0))

    assert neighbour.outcome == "succeeded"
    assert outcome.outcome == "lost"
    assert "it blocked its worker's loop" in outcome.reason
