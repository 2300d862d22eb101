"""Overhead of `jobkit.progress` and tqdm per iteration, inside a job in its own process; tqdm also outside of a job."""

from __future__ import annotations

import jobkit
from benchmarks.place import SECRET, Place, jobkit_worker, running
from benchmarks.systems.jobkit_tasks import loops
from benchmarks.table import Row, most, row

_FIGURE = "per iteration over a bare loop"


def measure(place: Place) -> list[Row]:
    place.flush()
    ours, tqdms, alone = [], [], []
    with jobkit.connect(place.url, secret=SECRET) as kit, running(jobkit_worker(1), place):
        for _ in range(place.pick(3, 1)):
            n = place.pick(2_000_000, 10_000)
            found = kit.submit(loops, n).result(120)
            ours.append(found["jobkit"] - found["bare"])
            tqdms.append(found["tqdm"] - found["bare"])
            outside = loops(n)
            alone.append(outside["tqdm"] - outside["bare"])
    return [
        most(f"jobkit.progress in a job, {_FIGURE}", ours, "ns", 60),
        most(f"tqdm in a job, {_FIGURE}", tqdms, "ns", 60),
        row(f"tqdm, {_FIGURE}", "tqdm", alone, "ns"),
    ]
