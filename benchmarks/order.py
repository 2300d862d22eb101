"""Lateness of delayed jobs with an idle worker, and costs of limits and shares."""

from __future__ import annotations

from itertools import pairwise

import jobkit
from benchmarks.place import SECRET, Place, jobkit_worker, running, until
from benchmarks.systems.jobkit_tasks import stamp
from benchmarks.table import Row, most, percentile
from jobkit.client.job import Job
from jobkit.client.kit import Kit


def measure(place: Place) -> list[Row]:
    """Delays from 0.1 to 1 s; then many jobs through one place, where each start waits for the end before it."""
    place.flush()
    rows = []
    with running(jobkit_worker(10), place), jobkit.connect(place.url, secret=SECRET) as kit:
        kit.submit(stamp).result(60)
        late = _late_ms(kit, place.pick(100, 5))
        for label, share in (("p50", 0.5), ("p95", 0.95)):
            rows.append(most(f"due time to start, {label}", [percentile(late, share)], "ms", 50))
        gaps = _gaps_ms(kit, place.pick(200, 10))
        for label, share in (("p50", 0.5), ("p95", 0.95)):
            rows.append(most(f"end to the next start, one place, {label}", [percentile(gaps, share)], "ms", 50))
    return rows


def _late_ms(kit: Kit, n: int) -> list[float]:
    """Milliseconds from its due time to the start of each job, by the server's clock."""
    jobs = [kit.options(delay=0.1 + 0.9 * i / n).submit(stamp) for i in range(n)]
    _wait(jobs)
    return [1000 * (job.started_at - job.snapshot.due_at).total_seconds() for job in jobs]


def _gaps_ms(kit: Kit, n: int) -> list[float]:
    """Milliseconds from the end of each job to the start of the next, if one may run at a time."""
    jobs = [kit.options(concurrency=1).submit(stamp) for _ in range(n)]
    _wait(jobs)
    ordered = sorted(jobs, key=lambda job: job.started_at)
    return [1000 * (after.started_at - before.finished_at).total_seconds() for before, after in pairwise(ordered)]


def _wait(jobs: list[Job]) -> None:
    until(lambda: all(job.is_terminal for job in jobs), f"{len(jobs)} jobs to end")
