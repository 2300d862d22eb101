"""jobkit's side: blocking code by default, coroutines where the question says `aio`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import jobkit
from benchmarks.systems import aio
from benchmarks.systems.common import latencies, now, rate, serve
from benchmarks.systems.jobkit_tasks import counted, stamp, stamp_in_process
from jobkit.client.submit import SubmitOrigin, prepare
from jobkit.tasks.options import check_submit_options


def main() -> None:
    kit = jobkit.connect()
    origin = SubmitOrigin(kit.settings, kit.codec, "bench")

    def submission(task: Any, **options: Any) -> Any:
        return prepare(task, (), {}, check_submit_options(options), origin)

    def submit_many(task: Any, n: int, **options: Any) -> float:
        """Arguments checked and sealed here, then stored in slices; how many per second."""
        began = now()
        kit.connection.call(kit.verbs.sender.submit_many, [submission(task, **options) for _ in range(n)])
        return n / (now() - began)

    held: list[Any] = []

    def answer(asked: dict[str, Any]) -> Any:
        n = asked.get("n", 0)
        match asked["verb"]:
            case "latency":
                return latencies(stamp.submit, lambda job: job.result(30), n)
            case "latency aio":

                async def waited(job: Any) -> float:
                    return float(await job)

                return asyncio.run(aio.latencies(lambda: kit.aio.submit(stamp), waited, n))
            case "process latency":
                task = stamp_in_process.options(reuse=asked["reuse"])
                return latencies(task.submit, lambda job: job.result(30), n)
            case "process fill":
                return submit_many(stamp_in_process, n, reuse=asked["reuse"])
            case "submit":
                return rate(counted.submit, n)
            case "submit aio":
                return asyncio.run(aio.rate(lambda: kit.aio.submit(counted), n, asked["at_once"]))
            case "map":
                began = now()
                kit.map(counted, [{}] * n)
                return n / (now() - began)
            case "fill":
                return submit_many(counted, n)
            case "hold":  # handles that live through the drain
                held.extend(counted.submit() for _ in range(n))
                return len(held)
            case "wait":
                for job in held:
                    job.wait(60)
                held.clear()
                return True
        raise ValueError(asked)

    serve(answer)
    kit.close()


if __name__ == "__main__":
    assert sys.argv[1] == "drive"
    main()
