"""Cost of `jobkit.checkpoint` and `jobkit.resume` in the job: a small value, and 100 MB as a value and as a file."""

from __future__ import annotations

import time
from pathlib import Path

import jobkit
from benchmarks.place import SECRET, Place, jobkit_worker, running
from benchmarks.table import Row, most, percentile, row

_LARGE = 100_000_000


def measure(place: Place) -> list[Row]:
    place.flush()
    results = str(place.folder / "results")
    large = place.pick(_LARGE, 1_000_000)
    rounds = range(place.pick(3, 1))
    with (
        running(jobkit_worker(2), place, JOBKIT_RESULTS=results),
        jobkit.connect(place.url, secret=SECRET, results=results) as kit,
    ):
        small = [kit.submit(_small, place.pick(500, 20)).result(60) for _ in rounds]
        seldom = [kit.submit(_small, place.pick(500, 20), is_seldom=True).result(60) for _ in rounds]
        values = [kit.submit(_as_value, large).result(60) for _ in rounds]
        files = [kit.submit(_as_file, large, str(place.folder)).result(60) for _ in rounds]
    return [
        most("checkpoint of a small value, p50", [percentile(found, 0.5) for found in small], "ms", 5),
        row("checkpoint left out by every=, p50", "jobkit", [percentile(found, 0.5) for found in seldom], "ms"),
        most("checkpoint of a value of 100 MB", [written for written, _ in values], "ms", 1000),
        most("checkpoint with a file of 100 MB", [written for written, _ in files], "ms", 1000),
        most("resume with a value of 100 MB", [read for _, read in values], "ms", 1000),
        most("resume with a file of 100 MB", [read for _, read in files], "ms", 1000),
    ]


def _small(n: int, is_seldom: bool = False) -> list[float]:
    taken = []
    for step in range(n):
        began = time.perf_counter()
        jobkit.checkpoint({"step": step}, every="1h" if is_seldom else None)
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def _timed(value: object, files: str = "") -> tuple[float, float]:
    """Return the milliseconds of writing and reading a checkpoint."""
    began = time.perf_counter()
    assert jobkit.checkpoint(value, files=files or ())
    written = time.perf_counter()
    jobkit.resume(None)
    return (written - began) * 1000, (time.perf_counter() - written) * 1000


def _as_value(size: int) -> tuple[float, float]:
    return _timed(bytes(size))


def _as_file(size: int, folder: str) -> tuple[float, float]:
    import os

    os.chdir(folder)
    Path("model.pt").write_bytes(bytes(size))
    return _timed({"step": 1}, "model.pt")
