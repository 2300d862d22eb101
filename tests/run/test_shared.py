"""Jobs on the event loop, in threads, and in the calling process."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jobkit.model import ErrorKind
from jobkit.run.inside.context import current, waiting
from jobkit.run.inside.progress import progress
from jobkit.run.shared import AsyncRunner, ThreadRunner, run_here
from tests.support import until

from .conftest import Heard, assign, stopped
from .test_process import failure


async def again(runner: Any) -> None:
    """Install the routing in the test itself: pytest replaces `sys.stdout` between fixture and test."""
    await runner.close()
    await runner.start()


@pytest.fixture
async def loop_runner() -> AsyncIterator[AsyncRunner]:
    runner = AsyncRunner()
    await runner.start()
    yield runner
    await runner.close()


@pytest.fixture
async def threads() -> AsyncIterator[ThreadRunner]:
    runner = ThreadRunner()
    await runner.start()
    yield runner
    await runner.close()


async def test_output_of_concurrent_jobs_is_separated(loop_runner: AsyncRunner) -> None:
    async def job(name: str) -> str:
        import asyncio
        import logging
        import sys

        from jobkit.run.inside.context import current
        from jobkit.run.inside.progress import progress

        for i in progress(range(3), desc=name):
            sys.stdout.buffer.write(f"{name} {i}\n".encode()) if i == 1 else print(name, i)
            logging.getLogger(name).info("logged %s", name)
            await asyncio.sleep(0.001)
        return current().job_id

    await again(loop_runner)
    ears = {name: Heard() for name in "abc"}
    outcomes = await asyncio.gather(
        *(asyncio.create_task(loop_runner.run(assign(job, name, job_id=name), heard)) for name, heard in ears.items())
    )

    assert [outcome.summary for outcome in outcomes] == ["a", "b", "c"]
    for name, heard in ears.items():
        assert heard.texts == [text for i in range(3) for text in (f"{name} {i}", f"logged {name}")]
        assert heard.news[-1] == (3, 3, name)


async def test_the_original_streams_are_back_afterwards() -> None:
    before = sys.stdout, sys.stderr
    runner = AsyncRunner()
    await runner.start()
    assert sys.stdout is not before[0]
    await runner.close()

    assert (sys.stdout, sys.stderr) == before


async def test_a_workers_own_output_goes_to_its_stdout(
    loop_runner: AsyncRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    await again(loop_runner)
    print("the worker itself")

    assert capsys.readouterr().out == "the worker itself\n"
    assert current().job_id == ""


async def test_cancel_of_a_coroutine_runs_its_clean_up(loop_runner: AsyncRunner, heard: Heard, tmp_path: Path) -> None:
    async def job(path: Path) -> None:
        import asyncio

        try:
            (path / "started").touch()
            await asyncio.sleep(100)
        finally:
            (path / "cleaned").touch()

    running = asyncio.create_task(loop_runner.run(assign(job, tmp_path), heard))
    await until((tmp_path / "started").exists, "the start")
    loop_runner.stop("j1", "cancel")
    outcome = await running

    assert outcome.outcome == "cancelled"
    assert (tmp_path / "cleaned").exists()
    assert running.cancelling() == 0


async def test_a_late_cancel_changes_nothing(loop_runner: AsyncRunner, heard: Heard) -> None:
    """The request is made in the step in which the coroutine returns."""
    holder: dict[str, Any] = {"runner": loop_runner}

    async def job() -> int:
        HOLDERS["late"]["runner"].stop("j1", "cancel")
        return 5

    HOLDERS["late"] = holder
    outcome = await asyncio.create_task(loop_runner.run(assign(None, ref=_ref(job)), heard))

    assert (outcome.outcome, outcome.summary) == ("succeeded", "5")


HOLDERS: dict[str, dict[str, Any]] = {}


def _ref(function: Any) -> str:
    """Make a local function importable by reference; these runners share this process."""
    HOLDERS.setdefault("functions", {})[function.__name__] = function
    module = type(sys)("jobkit_test_functions")
    module.__dict__[function.__name__] = function
    sys.modules["jobkit_test_functions"] = module
    return f"jobkit_test_functions:{function.__name__}"


async def test_a_timeout_ends_a_coroutine(loop_runner: AsyncRunner, heard: Heard) -> None:
    async def job() -> None:
        import asyncio

        await asyncio.sleep(100)

    error = failure(await asyncio.create_task(loop_runner.run(assign(job, timeout_s=0.05), heard)))

    assert error.kind is ErrorKind.TIMEOUT
    assert error.message == "ran longer than its timeout of 0.05 s"


async def test_a_cancelled_run_of_a_coroutine_raises(loop_runner: AsyncRunner, heard: Heard) -> None:
    async def job() -> None:
        import asyncio

        await asyncio.sleep(100)

    running = asyncio.create_task(loop_runner.run(assign(job), heard))
    await asyncio.sleep(0.01)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


async def test_blocking_waits_for_jobs_are_refused_on_the_workers_loop(loop_runner: AsyncRunner, heard: Heard) -> None:
    async def blocks() -> None:
        with waiting(["j2"]):
            pass

    async def awaits() -> None:
        with waiting(["j2"], blocks=False):
            await asyncio.sleep(0)

    async def threads() -> None:
        def wait() -> None:
            with waiting(["j2"]):
                pass

        await asyncio.to_thread(wait)

    refused = await loop_runner.run(assign(None, ref=_ref(blocks)), heard)

    assert refused.error is not None
    assert "write await job" in refused.error.message
    assert heard.awaited == []
    assert (await loop_runner.run(assign(None, ref=_ref(awaits)), heard)).outcome == "succeeded"
    assert heard.awaited == [["j2"], []]
    assert (await loop_runner.run(assign(None, ref=_ref(threads)), heard)).outcome == "succeeded"
    assert heard.awaited[2:] == [["j2"], []]


async def test_a_thread_job_reports_prints_and_returns(threads: ThreadRunner, heard: Heard) -> None:
    def job() -> str:
        from jobkit.run.inside.progress import progress

        for i in progress([1, 2], desc="two"):
            print("item", i)
        return threading.current_thread().name

    await again(threads)
    outcome = await threads.run(assign(job, job_id="t7"), heard)

    assert outcome.summary == "job t7"
    assert heard.texts == ["item 1", "item 2"]
    assert heard.news[-1] == (2, 2, "two")


async def test_cancel_of_a_thread_raises_in_it(threads: ThreadRunner, heard: Heard, tmp_path: Path) -> None:
    def job(path: Path) -> None:
        import time

        try:
            (path / "started").mkdir()  # in one call: an exception between open and close would leave the file open
            while True:
                time.sleep(0.005)
        finally:
            (path / "cleaned").touch()

    outcome = await stopped(threads, tmp_path / "started", threads.run(assign(job, tmp_path), heard))

    assert outcome.outcome == "cancelled"
    assert (tmp_path / "cleaned").exists()


async def test_the_clean_up_of_a_coroutine_ends_with_its_grace(
    loop_runner: AsyncRunner, heard: Heard, tmp_path: Path
) -> None:
    async def job(path: Path) -> None:
        import asyncio
        import sys

        (path / "started").touch()
        try:
            await asyncio.sleep(600)
        finally:
            try:
                await asyncio.sleep(600)
            finally:
                (path / type(sys.exception()).__name__).touch()

    outcome = await stopped(
        loop_runner, tmp_path / "started", loop_runner.run(assign(job, tmp_path, cancel_grace_s=0.1), heard)
    )

    assert outcome.reason == "given up: it did not stop within its grace of 0.1 s"
    assert (tmp_path / "GeneratorExit").exists()


async def test_a_thread_that_cannot_be_stopped_is_reported(threads: ThreadRunner, heard: Heard, tmp_path: Path) -> None:
    def job(path: Path) -> None:
        import os

        os.system(f"touch '{path}/started'; sleep 0.6")  # one call of C, so the stop cannot come before it

    outcome = await stopped(
        threads, tmp_path / "started", threads.run(assign(job, tmp_path, cancel_grace_s=0.1), heard)
    )

    assert outcome.outcome == "cancelled"
    assert "cannot be killed" in outcome.reason
    await until(lambda: not any(t.name == "job j1" for t in threading.enumerate()), "the thread's end")


def test_output_of_an_inline_job_is_shown_and_kept(heard: Heard, capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> int:
        import logging
        import warnings

        print("seen")
        logging.getLogger("x").warning("logged")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("careful", stacklevel=1)
        return sum(progress([1, 2, 3], desc="sum"))

    outcome = run_here(assign(job), heard)

    assert (outcome.outcome, outcome.summary) == ("succeeded", "6")
    assert [line.source for line in heard.log] == ["stdout", "log", "warning"]
    assert heard.news[-1] == (3, 3, "sum")
    assert "cpu_s" in outcome.usage
    assert capsys.readouterr().out == "seen\n"
    assert current().job_id == ""


async def test_an_inline_coroutine_runs_inside_a_running_loop(heard: Heard) -> None:
    async def job() -> str:
        import asyncio

        await asyncio.sleep(0)
        print("inside")
        return "ok"

    outcome = run_here(assign(job), heard)

    assert outcome.summary == "ok"
    assert heard.texts == ["inside"]


async def test_an_asynchronous_loop_with_progress_can_be_repeated() -> None:
    class Numbers:
        async def __aiter__(self) -> AsyncIterator[int]:
            for number in range(3):
                yield number

    loop = progress(Numbers())
    assert [[number async for number in loop] for _ in range(2)] == [[0, 1, 2]] * 2
    async with contextlib.aclosing(loop):
        assert [number async for number in loop] == [0, 1, 2]
    assert [await anext(loop), await anext(loop)] == [0, 1]


def test_the_context_outside_a_job_has_no_effect(capsys: pytest.CaptureFixture[str]) -> None:
    job = current()
    job.report(1, 2, "x")
    job.save("a", 1)
    job.log("line")

    assert (job.job_id, job.attempt, job.should_stop) == ("", 0, False)
    loop = progress([1, 2, 3], desc="x")
    assert len(loop) == 3
    assert list(loop) == [1, 2, 3]
    assert next(progress(iter("ab"))) == "a"
    assert capsys.readouterr().out == "line\n"
    with pytest.raises(TypeError, match="int"):
        progress(5)  # type: ignore[call-overload]
