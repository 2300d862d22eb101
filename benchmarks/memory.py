"""Memory: an idle worker with its zygote, a job's child, a kept job in Redis."""

from __future__ import annotations

from typing import Any

import psutil

import jobkit
from benchmarks.place import SECRET, Place, jobkit_worker, running, until
from benchmarks.systems.jobkit_tasks import hold, stamp
from benchmarks.table import Row, most


def measure(place: Place) -> list[Row]:
    place.flush()
    marker = place.folder / "held"
    marker.unlink(missing_ok=True)
    with jobkit.connect(place.url, secret=SECRET) as kit, running(jobkit_worker(10), place) as worker:
        kit.submit(stamp).result(60)
        family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
        idle_mb = sum(process.memory_full_info().pss for process in family) / 1e6
        job = kit.submit(hold, str(marker))
        until(lambda: marker.exists() and marker.read_text(), "the child to run")
        child_mb = psutil.Process(int(marker.read_text())).memory_full_info().uss / 1e6
        marker.unlink()
        job.result(60)
        kept = _kept_bytes(kit, place)
    return [
        most("idle worker with its zygote (PSS)", [idle_mb], "MB", 55),
        most("child of a job, private", [child_mb], "MB", 5),
        most("kept job in Redis", [kept], "bytes", 2_000),
    ]


def _kept_bytes(kit: jobkit.Kit, place: Place) -> float:
    """Redis's memory for one more ended job, with its part of the bounded stream of events."""
    n = place.pick(5_000, 500)
    with place.redis() as client:
        before = _dataset_bytes(client)
        jobs = [kit.submit(stamp) for _ in range(n)]
        for job in jobs:
            job.wait(60)
        return (_dataset_bytes(client) - before) / n


def _dataset_bytes(client: Any) -> int:
    """Without the buffers of connections, which come and go with what happens to be on its way."""
    return int(client.info("memory")["used_memory_dataset"])
