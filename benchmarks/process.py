"""A plain function in a process of its own: how soon it starts, how many a second."""

from __future__ import annotations

from benchmarks.place import Driver, Place, jobkit_worker, running
from benchmarks.table import Row, least, most, percentile

_FIGURE = "plain function in its own process, numpy and pandas loaded"


def measure(place: Place) -> list[Row]:
    place.flush()
    with (
        Driver("jobkit", place) as driver,
        running(jobkit_worker(2, "benchmarks.systems.jobkit_heavy"), place),
    ):
        driver.ask("process latency", n=1)
        starts, results, rates = [], [], []
        for _ in range(place.pick(3, 1)):
            found = driver.ask("process latency", n=place.pick(60, 3))
            starts.append(percentile(found["start"], 0.5))
            results.append(percentile(found["result"], 0.5))
            rates.append(driver.ask("process drain", n=place.pick(300, 4)))
    return [
        most(f"{_FIGURE}: start, p50", starts, "ms", 8),
        most(f"{_FIGURE}: result, p50", results, "ms", 16),
        least(f"{_FIGURE}: 2 slots", rates, "jobs/s", 200),
    ]
