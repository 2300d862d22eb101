"""saq, as it ships."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import uvloop
from saq import Queue, Worker

from benchmarks.systems import aio
from benchmarks.systems.common import URL, Meter, now, serve

_meter = Meter()


async def stamp(_ctx: Any) -> float:
    return now()


async def counted(_ctx: Any) -> None:
    _meter.tick()


def work(slots: int) -> None:
    async def run() -> None:
        await Worker(Queue.from_url(URL), [("stamp", stamp), ("counted", counted)], concurrency=slots).start()

    uvloop.run(run())


def main() -> None:
    loop = uvloop.new_event_loop()
    queue = Queue.from_url(URL)
    loop.run_until_complete(queue.connect())

    async def waited(job: Any) -> float:
        while not job.completed:
            with contextlib.suppress(TimeoutError):  # it ended before saq listened, so no message comes
                await job.refresh(until_complete=1)
        if job.result is None:
            raise RuntimeError(f"saq: {job.status}: {job.error}")
        return float(job.result)

    async def fill(n: int) -> None:
        for _ in range(0, n, 100):
            await asyncio.gather(*(queue.enqueue("counted") for _ in range(min(n, 100))))

    def answer(asked: dict[str, Any]) -> Any:
        n = asked.get("n", 0)
        match asked["verb"]:
            case "latency":
                return loop.run_until_complete(aio.latencies(lambda: queue.enqueue("stamp"), waited, n))
            case "submit":
                return loop.run_until_complete(aio.rate(lambda: queue.enqueue("counted"), n))
            case "submit aio":
                return loop.run_until_complete(aio.rate(lambda: queue.enqueue("counted"), n, asked["at_once"]))
            case "fill":
                return loop.run_until_complete(fill(n))
        raise ValueError(asked)

    serve(answer)
    loop.run_until_complete(queue.disconnect())


if __name__ == "__main__":
    work(int(sys.argv[2])) if sys.argv[1] == "work" else main()
