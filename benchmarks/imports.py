"""Import times, and the time until a worker runs its first job."""

from __future__ import annotations

import subprocess
import sys
import time

import jobkit
from benchmarks.place import SECRET, Place, jobkit_worker, running
from benchmarks.systems.jobkit_tasks import stamp
from benchmarks.table import Row, most, row

_CODES = {"nothing": "", "jobkit": "import jobkit", "arq, param": "import arq, param"}


def measure(place: Place) -> list[Row]:
    times: dict[str, list[float]] = {name: [] for name in _CODES}
    for round_ in range(place.pick(12, 2)):
        for name, code in _CODES.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=place.environment(), cwd=place.folder)
            if round_ > 0:  # the first one fills caches
                times[name].append((time.perf_counter() - began) * 1000)
    bare = min(times["nothing"])
    ours = [value - bare for value in times["jobkit"]]
    theirs = [value - bare for value in times["arq, param"]]
    limit = round(1.2 * sorted(theirs)[len(theirs) // 2])
    return [
        most("import jobkit (limit: 1.2 x arq, param)", ours, "ms", limit),
        row("import arq, param", "arq, param", theirs, "ms"),
        most("worker process to its first job", _first_jobs(place), "s", 0.5),
    ]


def _first_jobs(place: Place) -> list[float]:
    """Seconds from the start of a worker process to the start of a job that waited for it."""
    found = []
    for _ in range(place.pick(5, 1)):
        place.flush()
        with jobkit.connect(place.url, secret=SECRET) as kit:
            job = kit.submit(stamp)
            began = time.perf_counter()
            with running(jobkit_worker(2), place):
                found.append(job.result(60) - began)
    return found
