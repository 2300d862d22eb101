"""Lateness of schedules: from the slot to its job in the store, and to the start of that job, with idle workers."""

from __future__ import annotations

import jobkit
from benchmarks.place import SECRET, Place, jobkit_worker, running, until
from benchmarks.systems.jobkit_tasks import stamp
from benchmarks.table import Row, most, percentile

#: Far enough apart that each slot finds the worker asleep.
_EVERY_S = 0.5


def measure(place: Place) -> list[Row]:
    """One worker, and three that all wake for the same slot."""
    rows = []
    for workers in (1, 3):
        place.flush()
        fired, started = _delays_ms(place, workers, place.pick(60, 3))
        crew = "one worker" if workers == 1 else f"{workers} workers"
        for label, share in (("p50", 0.5), ("p95", 0.95)):
            rows += [
                most(f"moment of a schedule to its job, {crew}, {label}", [percentile(fired, share)], "ms", 50),
                most(f"moment of a schedule to its start, {crew}, {label}", [percentile(started, share)], "ms", 50),
            ]
    return rows


def _delays_ms(place: Place, workers: int, slots: int) -> tuple[list[float], list[float]]:
    """Milliseconds from each slot to its job, and to the start of it, by the server's clock."""
    if workers > 1:
        with running(jobkit_worker(10), place):
            return _delays_ms(place, workers - 1, slots)
    with running(jobkit_worker(10), place), jobkit.connect(place.url, secret=SECRET) as kit:
        kit.submit(stamp).result(60)
        schedule = kit.schedule(stamp, every=_EVERY_S, count=slots)
        fired: dict[int, tuple[float, float]] = {}

        def is_over() -> bool:
            for run in kit.schedules.get(schedule.id).runs:  # the last 14 are kept: look often enough
                if run.started_ms and run.slot_ms:
                    fired[run.slot_ms] = (run.at_ms - run.slot_ms, run.started_ms - run.slot_ms)
            return len(fired) >= slots

        until(is_over, f"{slots} runs")
    return [found[0] for found in fired.values()], [found[1] for found in fired.values()]
