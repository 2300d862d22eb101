"""The same measurements for systems whose client is asynchronous."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.systems.common import now, pause_s


async def latencies(
    submit: Callable[[], Awaitable[Any]], result: Callable[[Any], Awaitable[float]], n: int
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"submit": [], "start": [], "result": []}
    for i in range(n + 5):
        await asyncio.sleep(pause_s())
        began = now()
        job = await submit()
        submitted = now()
        try:
            started = await result(job)
        except RuntimeError as error:  # a peer that aborted its job: no time to take
            print(error, file=sys.stderr)
            continue
        ended = now()
        if i >= 5:
            found["submit"].append((submitted - began) * 1000)
            found["start"].append((started - began) * 1000)
            found["result"].append((ended - began) * 1000)
    return found


async def rate(submit: Callable[[], Awaitable[Any]], n: int, at_once: int = 1) -> float:
    """Submits per second, from `at_once` coroutines."""

    async def some(count: int) -> None:
        for _ in range(count):
            await submit()

    await some(20)
    began = now()
    each = -(-n // at_once)
    await asyncio.gather(*(some(each) for _ in range(at_once)))
    return each * at_once / (now() - began)
