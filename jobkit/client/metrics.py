"""Metrics of jobs as users read them: the newest values, and all points that are kept as a DataFrame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobkit.model.metrics import Curves, MetricsSummary

if TYPE_CHECKING:
    import pandas as pd


class Metrics(Mapping[str, float]):
    """Newest value of each metric of a job: `job.metrics["loss"]`. `job.metrics()` returns all points."""

    def __init__(self, job: Any, summary: MetricsSummary) -> None:
        self._job, self._summary = job, summary

    def __call__(self) -> pd.DataFrame:
        """Return one row a step, as it was logged: `step`, `time` (UTC) and a column for each name.

        Up to 2,000 points of a curve are all there (fewer with more than 10 curves). Of a longer one, each of some
        hundred ranges of steps has its first, last, smallest and largest point.
        """
        return self._job._kit.metrics(self._job.id)  # type: ignore[no-any-return]  # a kit is above this room

    def __getitem__(self, name: str) -> float:
        return self._summary.newest[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._summary.newest)

    def __len__(self) -> int:
        return len(self._summary.newest)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Metrics):
            return self._job is other._job and self._summary.n == other._summary.n
        return dict(self) == other

    __hash__ = None  # type: ignore[assignment]  # like a dict

    def __repr__(self) -> str:
        return f"<Metrics {', '.join(f'{name}={value:.4g}' for name, value in self.items()) or 'none'}>"


def rows_of(lines: Sequence[bytes]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the names in lines of metrics, and a row for each moment at which some were logged."""
    curves = Curves(lines).curves
    rows: dict[tuple[int, float, int], dict[str, Any]] = {}
    for name, curve in curves.items():
        seen: dict[tuple[int, float], int] = {}
        for step, at_ms, value in curve.points:
            again = seen[at_ms, step] = seen.get((at_ms, step), -1) + 1
            rows.setdefault((at_ms, step, again), {"step": step, "time": at_ms})[name] = value
    return list(curves), [rows[key] for key in sorted(rows)]


def frame_of(names: Sequence[str], rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> pd.DataFrame:
    """Return rows as a DataFrame with the columns `first`, `step`, `time` and those of the metrics."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=[*first, "step", "time", *(name for name in names if name not in _OWN)])
    frame["time"] = pd.to_datetime(frame["time"], unit="ms", utc=True)
    return frame


#: Columns that no metric can have.
_OWN = ("step", "time")
