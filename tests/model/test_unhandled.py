"""Errors that no caller handles, in the log of an event loop."""

from __future__ import annotations

import asyncio
import gc

import pytest

from jobkit.model.unhandled import log_unhandled


async def forget(error: Exception) -> None:
    """Leave a future with an error, as asyncio does when a stream has closed a broken connection."""
    asyncio.get_running_loop().set_exception_handler(log_unhandled)
    asyncio.get_running_loop().create_future().set_exception(error)
    gc.collect()


async def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), RuntimeError("after interpreter shutdown")])
def test_a_broken_connection_and_the_end_of_the_interpreter_are_not_logged(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(forget(error))
    assert not caplog.records


def test_other_errors_and_those_of_tasks_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def leave_a_task() -> None:
        asyncio.get_running_loop().set_exception_handler(log_unhandled)
        running = asyncio.create_task(fail(ConnectionResetError("by the peer")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del running
        gc.collect()

    asyncio.run(forget(ValueError("unexpected")))
    asyncio.run(leave_a_task())

    assert ["unexpected" in caplog.text, "by the peer" in caplog.text] == [True, True]
