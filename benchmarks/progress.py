"""What `jobkit.progress` and tqdm add to an iteration of a bare loop, inside a job in its own process."""

from __future__ import annotations

import jobkit
from benchmarks.place import SECRET, Place, jobkit_worker, running
from benchmarks.systems.jobkit_tasks import loops
from benchmarks.table import Row, most, row


def measure(place: Place) -> list[Row]:
    place.flush()
    ours, tqdms = [], []
    with jobkit.connect(place.url, secret=SECRET) as kit, running(jobkit_worker(1), place):
        for _ in range(place.pick(3, 1)):
            found = kit.submit(loops, place.pick(2_000_000, 10_000)).result(120)
            ours.append(found["jobkit"] - found["bare"])
            tqdms.append(found["tqdm"] - found["bare"])
    return [
        most("progress, per iteration over a bare loop", ours, "ns", 60),
        row("progress, per iteration over a bare loop", "tqdm in a job", tqdms, "ns"),
    ]
