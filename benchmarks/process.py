"""A plain function in a new process, or in a reused one: time to start, and jobs per second."""

from __future__ import annotations

import jobkit
from benchmarks.place import SECRET, Driver, Place, jobkit_worker, running, until
from benchmarks.table import Row, least, most, percentile, row

_OWN = "plain function in its own process, numpy and pandas loaded"
_WARM = "plain function in a warm process (reuse=), numpy and pandas loaded"
_WARM_REUSE = 100_000
_HEAVY = "benchmarks.systems.jobkit_heavy"


def measure(place: Place) -> list[Row]:
    place.flush()
    starts, results, warm_starts = [], [], []
    with Driver("jobkit", place) as driver, running(jobkit_worker(2, _HEAVY), place):
        driver.ask("process latency", n=1, reuse=1)
        for _ in range(place.pick(3, 1)):
            found = driver.ask("process latency", n=place.pick(60, 3), reuse=1)
            starts.append(percentile(found["start"], 0.5))
            results.append(percentile(found["result"], 0.5))
            found = driver.ask("process latency", n=place.pick(60, 3), reuse=_WARM_REUSE)
            warm_starts.append(percentile(found["start"], 0.5))
    rounds = range(place.pick(3, 1))
    return [
        most(f"{_OWN}: start, p50", starts, "ms", 8),
        most(f"{_OWN}: result, p50", results, "ms", 16),
        least(f"{_OWN}: 2 slots", [_rate(place, place.pick(500, 10), 1) for _ in rounds], "jobs/s", 200),
        row(f"{_WARM}: start, p50", "jobkit", warm_starts, "ms"),
        least(f"{_WARM}: 2 slots", [_rate(place, place.pick(8_000, 50), _WARM_REUSE) for _ in rounds], "jobs/s", 2_000),
    ]


def _rate(place: Place, n: int, reuse: int) -> float:
    """The queue is filled first, then a worker drains it. Between the starts of the first tenth and of the last job, as
    the record has them."""
    place.flush()
    with Driver("jobkit", place) as driver:
        driver.ask("process fill", n=n, reuse=reuse)
    with jobkit.connect(place.url, secret=SECRET) as kit:
        with running(jobkit_worker(2, _HEAVY), place):
            until(lambda: kit.counts().get("succeeded", 0) >= n, f"{n} jobs to end")
        begun = sorted(job.started_at.timestamp() for job in kit.jobs(limit=n) if job.started_at is not None)
    return (n - n // 10) / (begun[-1] - begun[n // 10])
