"""No-op jobs of one worker process at concurrency 10, and what each costs worker and server."""

from __future__ import annotations

import json
from collections import defaultdict

from benchmarks.place import Driver, Place, running, until
from benchmarks.table import Row, against, most, row


def measure(place: Place) -> list[Row]:
    """The queue is filled first, then a worker drains it; it reports from inside, when the last job runs.

    "jobkit, watched" is the same with its submitter alive, which follows every job by a live handle and takes its share
    of the machine.
    """
    systems = ["jobkit", *(name for name in ("saq", "huey") if name in place.peers)]
    if "arq" in place.peers:
        systems += ["arq 0.01", "arq 0.5"]
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for round_ in range(place.pick(3, 1)):
        for system in systems:
            if system == "arq 0.5" and round_ > 0:
                continue
            n = place.pick({"jobkit": 20_000, "arq 0.5": 1_000}.get(system, 4_000), 100)
            _take(values[system], _drain(place, system, n))
        _take(values["jobkit, watched"], _watched(place, place.pick(5_000, 100)))
    rates = {system: found["per_s"] for system, found in values.items()}
    rows = against("no-op jobs, concurrency 10", rates, "jobs/s", {"saq": 4.0, "huey": 2.5}, is_more_better=True)
    for figure, name, limit in (("worker_us", "worker CPU per job", 80.0), ("redis_us", "Redis CPU per job", None)):
        for system, found in values.items():
            if system == "jobkit" and limit:
                rows.append(most(name, found[figure], "µs", limit))
            else:
                rows.append(row(name, system, found[figure], "µs"))
    return rows


#: More than are counted: the endings of the last few are still under way when the figures are taken.
_UNCOUNTED = 200


def _drain(place: Place, system: str, n: int) -> dict[str, float]:
    place.flush()
    report = place.folder / "report"
    report.unlink(missing_ok=True)
    with Driver(system, place) as driver:
        driver.ask("fill", n=n + _UNCOUNTED)
    with running(driver.worker(10), place, BENCH_COUNT=n, BENCH_REPORT=report, **driver.environment):
        until(report.exists, f"{system} to run {n} jobs")
    found: dict[str, float] = json.loads(report.read_text())
    return found


def _watched(place: Place, n: int) -> dict[str, float]:
    place.flush()
    report = place.folder / "report"
    report.unlink(missing_ok=True)
    with Driver("jobkit", place) as driver:
        driver.ask("hold", n=n + _UNCOUNTED)
        with running(driver.worker(10), place, BENCH_COUNT=n, BENCH_REPORT=report):
            until(report.exists, f"{n} watched jobs to run")
            driver.ask("wait")
    found: dict[str, float] = json.loads(report.read_text())
    return found


def _take(values: dict[str, list[float]], found: dict[str, float]) -> None:
    for figure, value in found.items():
        values[figure].append(value)
