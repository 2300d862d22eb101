"""Metrics of a job as data for `curves.js`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobkit.model.metrics import UNREADABLE, Curves, Point, by_position, to_wire
from jobkit.model.plain import dumps

#: Colours of lines and dots, in their order: contrast of at least 3:1 on white and on the dark page (checked in
#: tests/features/batches/test_batch_view.py).
COLOURS = ("#2f7de1", "#c2570c", "#0e8f6e", "#b4489b", "#8a6f00", "#6f6ad8", "#d1495b", "#4b8a1f")

#: Points that a card gets at first, of all curves; lines that follow add to them until a curve is rewritten.
_CARD_MOST, _CARD_LEAST = 8_000, 64

#: Parts of a metric's name that say of which data it is: `val` of `val/loss`, `validation_0` of `validation_0/auc`.
_SPLIT = re.compile(
    r"(train|training|val|valid|validation|test|testing|eval|evaluation|dev|holdout)([ _-]?\d+)?", re.IGNORECASE
)


class CardCurves:
    """Curves of one job as a card shows them.

    Attributes:
        is_new: the browser needs them as a whole.
        is_behind: lines were missed; the store has them.
    """

    def __init__(self) -> None:
        self.curves = Curves()
        self.is_new = self.is_behind = False
        self._lines: list[dict[str, Any]] = []  # that the browser does not have

    @property
    def is_dirty(self) -> bool:
        return self.is_new or bool(self._lines)

    def load(self, lines: Iterable[bytes]) -> None:
        """Start from lines that were read, unless newer ones have arrived."""
        self.is_behind = False
        curves = Curves(lines)
        if curves.n > self.curves.n:
            self.curves, self.is_new = curves, True

    def take(self, line: Mapping[str, Any]) -> bool:
        """Take a published line; return False if it changes nothing now."""
        try:
            if int(line["n"]) > self.curves.n + 1 and not line.get("whole"):
                self.is_behind = True
                return False
            if not self.curves.read(line):
                return False
        except UNREADABLE:
            return False
        if line.get("whole"):
            self.is_new = True
        else:
            curves = {name: _columns(new, tail) for name, (new, tail, _) in line["curves"].items()}
            self._lines.append({"n": self.curves.n, "curves": curves})
        return True

    def updates(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return what the browser needs since the last call: `metrics`, or the part `metrics_append`."""
        lines, self._lines = self._lines, []
        if self.is_new:
            self.is_new = False
            return {"metrics": self.text()}, {}
        return {}, {"metrics_append": dumps(lines)} if lines else {}

    def text(self) -> str:
        """Return all curves as `{"n", "curves": {name: [steps, values, steps of the open bucket, its values]}}`."""
        if not self.curves.n:
            return ""
        most = max(_CARD_LEAST, _CARD_MOST // max(1, len(self.curves.curves)))
        curves = {}
        for name, curve in self.curves.curves.items():
            closed = curve.closed if len(curve.closed) <= most else thinned(curve.closed, most)
            curves[name] = _columns(*([(s, t, to_wire(v)) for s, t, v in points] for points in (closed, curve.tail)))
        return dumps({"n": self.curves.n, "curves": curves})


def thinned(points: list[Point], most: int) -> list[Point]:
    """Return about `most` of some points, or all of them."""
    return points if len(points) <= most else by_position(points, -(-4 * len(points) // most))


def _columns(new: Iterable[Any], tail: Iterable[Any]) -> list[list[Any]]:
    return [[point[i] for point in points] for points in (new, tail) for i in (0, 2)]


def charts_of(curves: Mapping[str, Sequence[Point]]) -> dict[str, list[tuple[str, Sequence[Point]]]]:
    """Return the lines of each chart, `(label, points)`, by its title, like `chartsOf` in chart.js.

    `train/loss` and `val/loss` share "loss", `Loss/train` and `Loss/test` share "Loss". Other names are not split.
    """
    found: dict[str, list[tuple[str, str, Sequence[Point]]]] = {}
    for name, points in curves.items():
        parts = name.split("/")
        place = next((i for i, part in enumerate(parts) if _SPLIT.fullmatch(part)), None)
        rest = "" if place is None else "/".join(parts[:place] + parts[place + 1 :])
        label = name if place is None or not rest else parts[place]
        found.setdefault(rest or name, []).append((name, label, points))
    charts: dict[str, list[tuple[str, Sequence[Point]]]] = {}
    for title, lines in found.items():
        shown = title if len(lines) > 1 else lines[0][0]
        charts.setdefault(shown, []).extend((label, points) for _, label, points in lines)
    return charts


def paths_of(lines: Sequence[Sequence[Point]]) -> tuple[list[str], tuple[float, ...]]:
    """Return the path of each line in an SVG of 1000 x 100, and the smallest and largest step and value.

    A value that is not finite is a gap. Without values both steps and values are 0.
    """
    steps = [point[0] for points in lines for point in points] or [0]
    values = [point[2] for points in lines for point in points if math.isfinite(point[2])] or [0.0]
    x0, x1, y0, y1 = min(steps), max(steps), min(values), max(values)
    pad = (y1 - y0 or abs(y1) or 1) * 0.06
    wide, low, tall = (x1 - x0) or 1, y0 - pad, y1 - y0 + 2 * pad
    paths = []
    for points in lines:
        path, is_down = [], False
        for step, _, value in points:
            if math.isfinite(value):
                x, y = 1000 * (step - x0) / wide if x1 > x0 else 500, 100 - 100 * (value - low) / tall
                path.append(f"{'L' if is_down else 'M'}{x:.0f} {y:.1f}{'' if is_down else 'h0'}")
            is_down = math.isfinite(value)
        paths.append("".join(path))
    return paths, (x0, x1, y0, y1)
