"""News of a job's metrics for its worker: points of curves, which it gathers as lines for the store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from jobkit.features.metrics.buffer import is_name
from jobkit.features.metrics.store import lines_of
from jobkit.model.metrics import Curves, Point
from jobkit.run.news import News
from jobkit.store.redis import RedisStore


def _points(content: Any) -> Mapping[str, Sequence[Point]]:
    """Return points of curves, by name. Raises ValueError for anything else."""
    batch = msgspec.convert(content, dict[str, list[tuple[int | float, int, float]]])
    for name, points in batch.items():
        if not is_name(name) or not all(math.isfinite(step) for step, _, _ in points):
            raise ValueError(f"metrics of the name {name!r:.100}")
    return batch


class AttemptCurves(Curves):
    """Metrics of a job, of all its attempts so far."""

    @classmethod
    async def of_job(cls, store: RedisStore, job_id: str) -> Self:
        return cls(*await lines_of(store, [job_id]))

    def shown(self) -> dict[str, Any]:
        """Return the summary for the job's snapshot."""
        return {"metrics": self.summary().to_wire()} if self.n else {}


NEWS = {"metrics": News(_points, lambda attempt, batch: attempt.gather("metrics", batch), AttemptCurves)}
