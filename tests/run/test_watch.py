"""The watch over a loop that coroutines share; what a worker does with it is in tests/worker/test_own_loop.py."""

from __future__ import annotations

import asyncio
import threading
import time

from jobkit.run.base import Assignment
from jobkit.run.inline import AsyncRunner
from jobkit.run.watch import LoopWatch

from .conftest import Heard, assign


def block_and_tell(job_id: str, seconds: float) -> list[tuple[str, str]]:
    """What a watch says while a coroutine holds the loop of the calling thread."""

    async def hold() -> None:
        time.sleep(seconds)  # noqa: ASYNC251  # that is the point

    async def main() -> None:
        runner = AsyncRunner()
        watch = LoopWatch(runner, block_s=0.05, dead_s=30)
        watch.on_block = lambda assignment, text: told.append((assignment.job_id, text))
        watch.start()
        try:
            assignment: Assignment = assign(hold, job_id=job_id)
            await runner.run(assignment, Heard())
        finally:
            watch.close()

    told: list[tuple[str, str]] = []
    asyncio.run(main())
    return told


def test_a_step_that_is_too_long_is_told_with_its_line() -> None:
    ((job_id, text),) = block_and_tell("j7", 0.8)

    assert job_id == "j7"
    assert text.startswith("the event loop is blocked for more than 0.05 s")
    assert " in hold" in text


def test_a_loop_in_another_thread_is_watched_as_well() -> None:
    found: list[tuple[str, str]] = []
    thread = threading.Thread(target=lambda: found.extend(block_and_tell("j8", 0.8)))
    thread.start()
    thread.join(60)

    assert [job_id for job_id, _ in found] == ["j8"]
    assert " in hold" in found[0][1]


def test_short_steps_are_not_told() -> None:
    assert block_and_tell("j9", 0.0) == []
