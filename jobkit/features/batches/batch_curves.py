"""Metrics of many jobs, over each other, as data for `chart.js`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

from jobkit.model import JobSnapshot
from jobkit.model.metrics import Curves, Point, to_wire
from jobkit.model.plain import dumps
from jobkit.ui.card.curves import thinned

#: Jobs whose curves are drawn, and metrics; the first ones of each.
JOBS_MOST, _NAMES_MOST = 40, 12

#: Points of all lines, and of each one at least.
_BATCH_MOST, _BATCH_LEAST = 8_000, 24


class BatchCurves:
    """Curves of the first jobs that have some."""

    def __init__(self) -> None:
        self._curves: dict[str, Curves] = {}
        self._read: dict[str, int] = {}  # number of the newest line, as the snapshot said when the curves were read

    def wanting(self, snapshots: Iterable[JobSnapshot]) -> dict[str, int]:
        """Return the jobs whose curves are new since they were read, with the number of the newest line."""
        found = [snapshot for snapshot in snapshots if snapshot.metrics.n or snapshot.id in self._read][:JOBS_MOST]
        return {each.id: each.metrics.n for each in found if each.metrics.n > self._read.get(each.id, 0)}

    def learn(self, wanted: Mapping[str, int], lines: Sequence[Sequence[bytes]]) -> None:
        """Take what the store has of these jobs."""
        for (job_id, n), its_lines in zip(wanted.items(), lines, strict=True):
            self._curves[job_id], self._read[job_id] = Curves(its_lines), n

    def charts(
        self, snapshots: Iterable[JobSnapshot], label_of: Callable[[int], str]
    ) -> dict[str, list[tuple[str, list[Point]]]]:
        """Return the lines `(label, points)` of each metric. `label_of`: what a job is called, by its place."""
        charts: dict[str, list[tuple[str, list[Point]]]] = {}
        for i, snapshot in enumerate(snapshots):
            if (curves := self._curves.get(snapshot.id)) is None:
                continue
            label = label_of(i)
            for name, curve in curves.curves.items():
                if name in charts or len(charts) < _NAMES_MOST:
                    charts.setdefault(name, []).append((label, curve.points))
        each = max(_BATCH_LEAST, _BATCH_MOST // max(1, sum(map(len, charts.values()))))
        drawn = {name: [(label, points) for label, points in lines if points] for name, lines in charts.items()}
        return {
            name: [
                (label, thinned(points, each))
                for label, (_, points) in zip(without_shared([label for label, _ in lines]), lines, strict=True)
            ]
            for name, lines in drawn.items()
        }


def without_shared(labels: Sequence[str]) -> list[str]:
    """Return labels like "lr=0.1, seed=3" without the parts that all of them share, which would hide the others."""
    parts = [label.split(", ") for label in labels]
    if len(parts) < 2 or len(set(map(len, parts))) > 1:
        return list(labels)
    differs = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
    return [", ".join(itertools.compress(each, differs)) or ", ".join(each) for each in parts]


def charts_data(charts: Mapping[str, Sequence[tuple[str, Sequence[Point]]]]) -> dict[str, list[object]]:
    """Return charts for chart.js: `{name: [[label, steps, values], ...]}`."""
    return {
        name: [
            [label, [step for step, _, _ in points], [to_wire(value) for _, _, value in points]]
            for label, points in lines
        ]
        for name, lines in charts.items()
    }


def charts_text(charts: Mapping[str, Sequence[tuple[str, Sequence[Point]]]]) -> str:
    """Return charts as JSON for chart.js, "" for none."""
    return dumps(charts_data(charts)) if charts else ""
