"""Counted over a range of a `TimelineModel`: endings, depth of the queues, attempts at once, times by task. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobkit.ui.timeline.timeline_model import AttemptBar, TimelineModel

#: Steps of a series.
STEPS = 60

#: Tasks with separate times.
TASKS = 8

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)

#: What may be looked at, beside the range that fits the data.
RANGES_MS: Mapping[str, int] = {"15m": 900_000, "1h": 3_600_000, "6h": 21_600_000, "24h": 86_400_000}


def fit(bars: Iterable[AttemptBar], now_ms: int, since_ms: int | None = None) -> tuple[int, int]:
    """Return the range that shows every attempt: 1 minute to 1 day, with a tenth of it for waiting times before."""
    bars = list(bars)
    first = min((bar.started_ms for bar in bars), default=now_ms)
    first = min(first, now_ms - 60_000)
    waited = min((bar.ready_ms for bar in bars if bar.ready_ms is not None), default=first)
    first = max(min(first, waited), first - (now_ms - first) // 10)
    return min(max(first, since_ms or 0, now_ms - RANGES_MS["24h"]), now_ms - 60_000), now_ms


def series(timeline: TimelineModel, start_ms: int, end_ms: int, steps: int = STEPS) -> dict[str, Any]:
    """Count attempts in equal steps of a range.

    Returns:
        `edges` (steps + 1 times); by step `succeeded`, `failed`, `cancelled` (jobs that ended), `depth` (jobs in a
        queue at its end) and `busy` (attempts that ran at once, on average); None in steps before everything is
        known. `tasks`: the most frequent, each with `count` and the quantiles (10, 25, 50, 75, 90 %) of seconds
        that its attempts `waited` and `ran`.
    """
    steps = max(1, steps)
    width = max(1.0, (end_ms - start_ms) / steps)
    edges = [start_ms + width * n for n in range(steps + 1)]
    bars = timeline.all_bars()
    ended = [[0] * steps for _ in range(3)]
    for second, counts in timeline.ended(start_ms, end_ms):
        n = min(steps - 1, max(0, int((second * 1000 - start_ms) / width)))
        for column, count in zip(ended, counts, strict=True):
            column[n] += count
    busy = [0.0] * steps
    for bar in bars:
        _spread(busy, start_ms, width, bar.started_ms, end_ms if bar.ended_ms is None else bar.ended_ms)
    known = timeline.since_ms or 0
    return {
        "edges": edges,
        "succeeded": ended[0],
        "failed": ended[1],
        "cancelled": ended[2],
        "depth": timeline.depth(edges[1:]),
        "busy": [None if edges[n + 1] < known else round(value / width, 3) for n, value in enumerate(busy)],
        "tasks": times_by_task(bars, start_ms, end_ms),
    }


def _spread(columns: list[float], start_ms: int, width: float, begin_ms: int, end_ms: int) -> None:
    """Add the milliseconds of an interval to each step that it touches."""
    first = max(0, int((begin_ms - start_ms) / width))
    last = min(len(columns) - 1, int((end_ms - start_ms) / width))
    for n in range(first, last + 1):
        left = start_ms + n * width
        columns[n] += max(0.0, min(end_ms, left + width) - max(begin_ms, left))


def times_by_task(bars: Sequence[AttemptBar], start_ms: int, end_ms: int, limit: int = TASKS) -> list[dict[str, Any]]:
    """Return waiting and run times of the attempts that ended in the range, for the tasks with the most of them."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for bar in bars:
        if bar.ended_ms is None or not start_ms <= bar.ended_ms <= end_ms:
            continue
        waited, ran = found.setdefault(bar.task, ([], []))
        ran.append((bar.ended_ms - bar.started_ms) / 1000)
        if bar.ready_ms is not None:
            waited.append((bar.started_ms - bar.ready_ms) / 1000)
    most = sorted(found.items(), key=lambda item: (-len(item[1][1]), item[0]))[:limit]
    return [
        {"task": task, "count": len(ran), "waited": quantiles(waited), "ran": quantiles(ran)}
        for task, (waited, ran) in most
    ]


def quantiles(values: list[float]) -> list[float]:
    """10, 25, 50, 75 and 90 %, by the nearest value; [] for none."""
    ordered = sorted(values)
    return (
        [ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.1, 0.25, 0.5, 0.75, 0.9)] if ordered else []
    )
