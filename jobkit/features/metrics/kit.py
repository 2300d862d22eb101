"""`kit.metrics`, `kit.metrics_of`: the points of a job's or of several jobs' metrics as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobkit.client.connection import Connection
from jobkit.client.forms import in_thread, on_loop
from jobkit.client.outputs import column_of
from jobkit.features.metrics.store import lines_of
from jobkit.model.metrics import Curves

if TYPE_CHECKING:
    import pandas as pd

#: Columns of a table of metrics that are neither metrics nor arguments.
_OWN = ("job", "step", "time")


class MetricVerbs:
    """Verbs that read metrics. They block; each may raise `StoreUnavailable`."""

    @staticmethod
    def metrics(connection: Connection, job_id: str) -> pd.DataFrame:
        """Return a job's metrics, see `Metrics`; also while it runs.

        Raises:
            JobNotFound: the job is not kept.
        """
        connection.call(connection.verbs.snapshot, job_id)
        [lines] = connection.call(lines_of, connection.store, [job_id])
        return _frame_of(*_rows_of(lines))

    @staticmethod
    def metrics_of(connection: Connection, jobs: Sequence[Any]) -> pd.DataFrame:
        """Return the metrics of several jobs, each row with the job's id and its arguments."""
        found = connection.call(lines_of, connection.store, [job.id for job in jobs])
        tables = [_rows_of(lines) for lines in found]
        names = list(dict.fromkeys(name for its_names, _ in tables for name in its_names))
        taken = {*_OWN, *names}
        first: dict[str, None] = {"job": None}
        rows: list[dict[str, Any]] = []
        for job, (_, its_rows) in zip(jobs, tables, strict=True):
            known = {column_of(name, taken, "argument"): value for name, value in job.params.items()}
            first |= dict.fromkeys(known)
            rows += [{"job": job.id, **known, **row} for row in its_rows]
        return _frame_of(names, rows, list(first))


class KitMetrics:
    """Verbs about metrics that the kit itself has."""

    metric_lines = on_loop("verbs.store", lines_of)
    metrics = in_thread("connection", MetricVerbs.metrics)
    metrics_of = in_thread("connection", MetricVerbs.metrics_of)


def _rows_of(lines: Sequence[bytes]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns of the metrics in some lines, and a row for each moment at which some were logged."""
    curves = {column_of(name, _OWN, "metric"): curve for name, curve in Curves(lines).curves.items()}
    rows: dict[tuple[int, float, int], dict[str, Any]] = {}
    for name, curve in curves.items():
        seen: dict[tuple[int, float], int] = {}
        for step, at_ms, value in curve.points:
            again = seen[at_ms, step] = seen.get((at_ms, step), -1) + 1
            rows.setdefault((at_ms, step, again), {"step": step, "time": at_ms})[name] = value
    return list(curves), [rows[key] for key in sorted(rows)]


def _frame_of(names: Sequence[str], rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> pd.DataFrame:
    """Return rows as a DataFrame with the columns `first`, `step`, `time` and those of the metrics."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=[*first, "step", "time", *names])
    frame["time"] = pd.to_datetime(frame["time"], unit="ms", utc=True)
    return frame
