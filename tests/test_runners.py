"""Runners: the owner learns of a failure and ends the other runners without ending itself."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from jobkit.runners import Runners


def test_the_owner_is_notified_of_a_failure_and_may_end_the_others_then() -> None:
    heard: list[str] = []

    async def failed(error: Exception) -> None:
        runners.cancel()
        await asyncio.sleep(0)
        heard.append(str(error))

    async def fails() -> None:
        raise ValueError("lost its way")

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("ended")
            raise

    runners = Runners(failed)

    async def scene() -> None:
        runners.run(waits())
        await asyncio.sleep(0)
        runners.run(fails())
        await asyncio.wait(runners._running)

    asyncio.run(scene())

    assert heard == ["ended", "lost its way"]


@pytest.mark.filterwarnings("error")
def test_a_coroutine_that_is_cancelled_before_its_start_is_closed() -> None:
    async def never() -> None: ...

    runners, work = Runners(), never()

    async def scene() -> None:
        runners.run(work)
        runners.cancel()
        await asyncio.wait(runners._running)
        await asyncio.sleep(0)

    asyncio.run(scene())

    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
