"""arq, as it ships (poll_delay 0.5) or polling every 10 ms (`BENCH_POLL`)."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop
from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from benchmarks.systems import aio
from benchmarks.systems.common import POLL_S, URL, Meter, now, serve

_meter = Meter()


async def stamp(_ctx: dict[Any, Any]) -> float:
    return now()


async def counted(_ctx: dict[Any, Any]) -> None:
    _meter.tick()


def work(slots: int) -> None:
    uvloop.install()
    asyncio.set_event_loop(asyncio.new_event_loop())
    worker = Worker(
        [func(stamp, name="stamp"), func(counted, name="counted")],  # type: ignore[arg-type]
        redis_settings=RedisSettings.from_dsn(URL), max_jobs=slots, poll_delay=POLL_S,
    )  # fmt: skip
    worker.run()


def main() -> None:
    loop = uvloop.new_event_loop()
    pool = loop.run_until_complete(create_pool(RedisSettings.from_dsn(URL)))

    async def fill(n: int) -> None:
        for _ in range(0, n, 100):
            await asyncio.gather(*(pool.enqueue_job("counted") for _ in range(min(n, 100))))

    def answer(asked: dict[str, Any]) -> Any:
        n = asked.get("n", 0)
        match asked["verb"]:
            case "latency":
                measured = aio.latencies(
                    lambda: pool.enqueue_job("stamp"), lambda job: job.result(timeout=30, poll_delay=POLL_S), n
                )
                return loop.run_until_complete(measured)
            case "submit":
                return loop.run_until_complete(aio.rate(lambda: pool.enqueue_job("counted"), n))
            case "submit aio":
                return loop.run_until_complete(aio.rate(lambda: pool.enqueue_job("counted"), n, asked["at_once"]))
            case "fill":
                return loop.run_until_complete(fill(n))
        raise ValueError(asked)

    serve(answer)
    loop.run_until_complete(pool.aclose())


if __name__ == "__main__":
    work(int(sys.argv[2])) if sys.argv[1] == "work" else main()
