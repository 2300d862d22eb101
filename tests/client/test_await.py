"""`await job`: a cancelled wait ends at once, and the job continues; a failure shows as that of `job.result()`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any

import pytest

from jobkit.client.kit import AioKit, Kit
from jobkit.codec import Codec
from jobkit.model import JobFailed
from jobkit.run.attempt import Assignment, Outcome
from jobkit.run.shared import ThreadRunner
from jobkit.tasks.call import Call, encode_call
from jobkit.testing import MemoryKit
from tests.run.conftest import Heard
from tests.support import PATIENCE_S, wait_until

HELD = SimpleNamespace()


@pytest.fixture
def kit() -> Iterator[Kit]:
    """Kit whose jobs wait forever."""
    with MemoryKit(at_once=False) as kit:
        yield kit


def test_a_cancelled_await_ends_at_once_and_not_the_job(kit: Kit) -> None:
    job = kit.submit(len, "abc")

    async def cell() -> None:
        waiting = asyncio.ensure_future(AioKit.outcome(kit.aio, job))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cell())

    assert job.state == "queued"


def test_an_interrupt_of_a_cell_that_awaits_a_job_takes_effect_at_once(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ipykernel's handler schedules the end of the cell without waking the loop."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    job = kit.submit(len, "abc")
    is_over = threading.Event()
    woken: list[bool] = []

    def sleeps() -> bool:
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        return frame.f_code.co_name == "select"

    async def cell() -> bool:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupt() -> None:
            wait_until(sleeps, what="the loop to sleep")
            os.kill(os.getpid(), signal.SIGUSR1)
            if not is_over.wait(PATIENCE_S / 2):  # the loop still sleeps: end the failed test
                woken.append(True)
                loop.call_soon_threadsafe(lambda: None)

        def handler(number: int, frame: FrameType | None) -> None:
            loop.call_soon(task.cancel)

        before = signal.signal(signal.SIGUSR1, handler)
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            await job
        except asyncio.CancelledError:
            return not woken
        finally:
            is_over.set()
            thread.join()
            signal.signal(signal.SIGUSR1, before)
        return False

    assert asyncio.run(cell())
    assert job.state == "queued"


@pytest.mark.parametrize("way", ["job", "batch"])
def test_a_job_in_a_thread_that_waits_for_a_job_can_be_cancelled(kit: Kit, way: str) -> None:
    batch = kit.map(len, ["abc"])
    began = threading.Event()
    heard: Any = Heard()
    heard.emit = lambda kind, news: began.set() if kind == "awaits" else None

    def outer() -> None:
        (batch[0] if way == "job" else batch).wait()

    async def run() -> Outcome:
        runner = ThreadRunner()
        await runner.start()
        try:
            call = encode_call(Codec([b"k"]), Call(None, (), {}), ref=f"{__name__}:HELD.outer")
            assigned = Assignment("j1", "outer", 1, call, isolation="thread", cancel_grace_s=1000.0)
            running = asyncio.ensure_future(runner.run(assigned, heard))
            assert await asyncio.to_thread(began.wait, PATIENCE_S)
            runner.stop("j1", "cancel")
            return await running
        finally:
            await runner.close()

    HELD.outer = outer  # type: ignore[attr-defined]
    outcome = asyncio.run(run())

    assert (outcome.outcome, outcome.reason) == ("cancelled", "stopped on request; its clean-up ran")
    assert batch[0].state == "queued"


@pytest.mark.parametrize("way", ["job", "batch"])
def test_a_failure_shows_one_frame_of_jobkit_whether_it_is_awaited_or_not(way: str) -> None:
    with MemoryKit() as kit:
        batch = kit.map(int, ["x"])
        failed: Any = batch[0] if way == "job" else batch

        async def cell() -> None:
            await failed

        def frames(do: Callable[[], object]) -> list[str]:
            with pytest.raises(JobFailed) as caught:
                do()
            return [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]

        assert frames(lambda: asyncio.run(cell()))[-2:] == ["cell", "__await__"]
        assert frames(batch[0].result)[-2:] == ["frames", "result"]
