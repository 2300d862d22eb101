"""How feeds read: one at a time, and nothing that came meanwhile is left out."""

from __future__ import annotations

import asyncio

from jobkit.ui.live.pace import Pacer, Rereading


async def test_what_happens_while_it_is_read_is_read_again_also_when_a_read_outlasts_the_window() -> None:
    state, seen = ["before"], list[str]()
    is_reading, go, is_over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def read() -> None:
        found = state[-1]
        is_reading.set()
        await go.wait()
        seen.append(found)
        if found == "after":
            is_over.set()

    reading = Rereading(read)
    pacer = Pacer(0.0, reading.ask)  # a window that is over at once
    pacer.poke()
    await is_reading.wait()
    state.append("after")
    pacer.poke()
    go.set()
    await is_over.wait()

    assert seen == ["before", "after"]
    reading.stop()


async def test_a_read_that_is_stopped_is_not_read_again() -> None:
    reads, never = list[int](), asyncio.Event()

    async def read() -> None:
        reads.append(1)
        await never.wait()

    reading = Rereading(read)
    reading.ask()
    await asyncio.sleep(0)
    reading.ask()
    reading.stop()
    await asyncio.sleep(0)

    assert reads == [1]
