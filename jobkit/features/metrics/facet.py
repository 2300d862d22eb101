"""`jobkit show --metrics`: newest and extreme values, or all points as JSON."""

from __future__ import annotations

import math

from jobkit.cli import out
from jobkit.client.kit import Kit
from jobkit.model.metrics import Curves, wired

NAME = "metrics"
HELP = "Show its metrics: newest and extreme values."


def show(kit: Kit, job_id: str, as_json: bool) -> None:
    """Print the metrics of a job."""
    [lines] = kit.metric_lines([job_id])
    curves = {name: curve.points for name, curve in Curves(lines).curves.items()}
    if as_json:
        out.echo_json({name: wired(points) for name, points in curves.items()})
        return
    rows = []
    for name, points in curves.items():
        values = [value for *_, value in points if math.isfinite(value)]
        shown = (points[-1][2], min(values, default=math.nan), max(values, default=math.nan))
        rows.append([name, f"{len(points):,}", f"{points[-1][0]:g}", *(f"{value:.6g}" for value in shown)])
    out.table(("METRIC", "POINTS", "STEP", "NEWEST", "SMALLEST", "LARGEST"), rows)
