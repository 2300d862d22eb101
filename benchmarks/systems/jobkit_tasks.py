"""The tasks that jobkit's worker runs."""

from __future__ import annotations

import asyncio
import os
import time

import jobkit
from benchmarks.systems.common import Meter, now

_meter = Meter()


@jobkit.task
async def stamp() -> float:
    """The time of its start."""
    return now()


@jobkit.task
async def counted() -> None:
    _meter.tick()


@jobkit.task
def stamp_in_process() -> float:
    return now()


@jobkit.task
def hold(path: str) -> int:
    """Stay until the file is gone; the child's process id is in it."""
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    while os.path.exists(path):
        time.sleep(0.02)
    return os.getpid()


@jobkit.task
def tick(times: int, pause_s: float) -> None:
    """Report progress with the moment of the report as its message."""
    for done in range(times):
        jobkit.current().report(done, times, f"@{time.time():.6f}@")
        time.sleep(pause_s)


@jobkit.task
def learn(times: int, pause_s: float) -> None:
    """Log two metrics at each step."""
    for step in range(times):
        jobkit.log_metrics(step=step, loss=1 / (1 + step), accuracy=1 - 1 / (1 + step))
        time.sleep(pause_s)


@jobkit.task
def loops(n: int) -> dict[str, float]:
    """Nanoseconds per iteration of a loop of `n`: bare, under jobkit.progress, under tqdm; the best of five."""
    import sys

    from tqdm.std import tqdm  # type: ignore[import-untyped]  # it has no type hints

    def bare() -> None:
        for _ in range(n):
            pass

    def ours() -> None:
        for _ in jobkit.progress(range(n)):
            pass

    def plain_tqdm() -> None:
        with open(os.devnull, "w") as nowhere:
            for _ in tqdm(range(n), file=nowhere):
                pass

    found = {}
    for name, loop in {"bare": bare, "jobkit": ours, "tqdm": plain_tqdm}.items():
        times = []
        for _ in range(5):
            began = now()
            loop()
            times.append(now() - began)
        found[name] = min(times) / n * 1e9
    sys.stdout.flush()
    return found


@jobkit.task
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)
