"""News of a job's metrics for its worker: points of curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobkit.features.metrics.buffer import is_name
from jobkit.model.metrics import Point
from jobkit.run.news import News


def _points(content: Any) -> Mapping[str, Sequence[Point]]:
    """Return points of curves, by name. Raises ValueError for anything else."""
    batch = msgspec.convert(content, dict[str, list[tuple[int | float, int, float]]])
    for name, points in batch.items():
        if not is_name(name) or not all(math.isfinite(step) for step, _, _ in points):
            raise ValueError(f"metrics of the name {name!r:.100}")
    return batch


NEWS = {"metrics": News(_points, lambda attempt, batch: attempt.metrics(batch))}
