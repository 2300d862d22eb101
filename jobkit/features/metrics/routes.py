"""`/api/jobs/{id}/metrics`: the curves of a job."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from jobkit.http.api.jobs import find
from jobkit.http.api.routing import see
from jobkit.http.api.shapes import answer
from jobkit.http.core.handling import ApiCall
from jobkit.model.metrics import Curves, to_wire
from jobkit.model.plain import instant, iso


class CurveJson(Struct):
    """A metric: its points in the order in which they were logged. NaN is null, infinity "inf" or "-inf"."""

    steps: list[float]
    times: list[datetime]
    values: list[float | str | None]


MetricsJson = answer("MetricsJson", "Curves by name.", metrics=dict[str, CurveJson])


async def metrics(call: ApiCall) -> Any:
    """Read the curves of a job's metrics, also while it runs: at most 2,000 points of each, with every extreme."""
    snapshot = await find(call)
    found: Any = await call.kit.aio.metric_lines([snapshot.id])
    told = {}
    for name, curve in Curves(found[0]).curves.items():
        points = curve.points
        told[name] = {
            "steps": [step for step, *_ in points],
            "times": [iso(instant(at_ms)) for _, at_ms, _ in points],
            "values": [to_wire(value) for *_, value in points],
        }
    return {"metrics": told}


ROUTES = (see("/api/jobs/{id}/metrics", metrics, MetricsJson),)
