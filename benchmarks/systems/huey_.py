"""huey, whose client and workers (threads) are synchronous; with `notify_result`, else it polls for results."""

from __future__ import annotations

import logging
import sys
from typing import Any

from huey import RedisHuey

from benchmarks.systems.common import URL, Meter, latencies, now, rate, serve

huey = RedisHuey("bench", url=URL, notify_result=True)
_meter = Meter()


@huey.task(name="stamp")
def stamp() -> float:
    return now()


@huey.task(name="counted")
def counted() -> None:
    _meter.tick()


def main() -> None:
    def answer(asked: dict[str, Any]) -> Any:
        n = asked.get("n", 0)
        match asked["verb"]:
            case "latency":
                return latencies(stamp, lambda job: job.get(blocking=True, timeout=30), n)
            case "submit":
                return rate(counted, n)
            case "fill":
                for _ in range(n):
                    counted()
                return n
        raise ValueError(asked)

    serve(answer)


if __name__ == "__main__":
    if sys.argv[1] == "work":
        logging.disable(logging.INFO)
        huey.create_consumer(workers=int(sys.argv[2]), worker_type="thread").run()
    else:
        main()
