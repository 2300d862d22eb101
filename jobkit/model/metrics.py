"""Metrics of a job: named curves that stay small however many points are logged.

A curve keeps every point until it is full. Then it keeps, of each bucket of steps, the first, last, smallest and
largest point, which is what a plot can show. The width of its buckets doubles whenever it is full again, so a curve of
n points is rewritten log(n) times, and everything in between is appended.

The worker has the curves of an attempt (`Curves`), and writes them as lines of JSON. Readers get the same curves from
the lines, and go on with the lines that are published. A line: `{"n": number of the line, "whole": true if it replaces
what was before, "curves": {name: [new points, points of the open bucket, width]}}`. A point is `[step, time in ms,
value]`; values that JSON cannot hold are None for NaN, and "inf" and "-inf".
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

Point = tuple[float, int, float]
"""Step, time (milliseconds since the epoch, by the clock of the job's machine), value."""

Line = tuple[str, bytes, bytes]
"""Its name, what subscribers get instead ("" for the same), and itself. The name has its number, and how it is kept:
"append" to the lines, "replace" the last one, or replace the "whole"."""

#: Names that one job may use.
NAMES_MOST = 200

#: Points that are kept of one curve, and of all curves of a job; each curve may have at least `_CURVE_LEAST`.
CURVE_MOST, _JOB_MOST, _CURVE_LEAST = 2_000, 20_000, 100

#: Lines after which the store gets the curves as one line again.
_LINES_MOST = 200

#: Names whose newest value is part of a job's snapshot, and points of the small curve in a row of a table.
NEWEST_MOST, SPARK_POINTS = 20, 32

#: Exceptions of a line that jobkit has not written like this.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, msgspec.MsgspecError)

_encode = msgspec.json.encode


class MetricsSummary(msgspec.Struct, frozen=True):
    """Metrics in the snapshot of a job.

    Attributes:
        n: number of the newest line.
        newest: newest value by name, of the first `NEWEST_MOST` names.
        spark: up to `SPARK_POINTS` values of the first name, for a small curve; None for a gap.
    """

    n: int = 0
    newest: Mapping[str, float] = {}
    spark: tuple[float | None, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        newest = {name: to_wire(value) for name, value in self.newest.items()}
        return {"n": self.n, "newest": newest, "spark": self.spark}

    @classmethod
    def from_wire(cls, wire: Any) -> MetricsSummary:
        """Return the summary in a record; what cannot be read is empty."""
        try:
            newest = {str(name): from_wire(value) for name, value in dict(wire["newest"]).items()}
            spark = tuple(None if value is None else float(value) for value in wire["spark"])
            return cls(int(wire["n"]), newest, spark)
        except (TypeError, ValueError, LookupError, OverflowError):
            return NO_METRICS


NO_METRICS = MetricsSummary()


def to_wire(value: float) -> float | str | None:
    """Return a value as JSON can hold it."""
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else "inf" if value > 0 else "-inf"


def from_wire(value: Any) -> float:
    """Return the value in a line. Raises TypeError or ValueError if there is none."""
    return math.nan if value is None else float(value)


def summary(points: Sequence[Point]) -> list[Point]:
    """Return the first, last, smallest and largest of some points, and the first that is not finite, in their order."""
    if len(points) <= 4:
        return list(points)
    values = [point[2] for point in points]
    places = {0, len(points) - 1}
    if math.isfinite(sum(values)):  # then each of them is
        places |= {values.index(min(values)), values.index(max(values))}
    else:
        finite = [i for i, value in enumerate(values) if math.isfinite(value)]
        if finite:
            places |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
        if len(finite) < len(values):
            places.add(next(i for i, value in enumerate(values) if not math.isfinite(value)))
    return [points[i] for i in sorted(places)]


def by_position(points: Sequence[Point], size: int) -> list[Point]:
    """Return the summaries of each `size` points."""
    return [kept for i in range(0, len(points), size) for kept in summary(points[i : i + size])]


def curve_most(names: int) -> int:
    """Return the number of points that each of so many curves may have."""
    return max(_CURVE_LEAST, min(CURVE_MOST, _JOB_MOST // max(1, names)))


class Curve:
    """The points of one metric, in the order in which they were logged.

    Attributes:
        closed: points that do not change any more, unless the curve is rewritten (`is_rewritten`).
        tail: summary of the bucket that the newest points belong to; empty while every point is kept.
        width: of a bucket, in steps; 0 while every point is kept.
        sent: number of closed points that the store knows.
        starts_over: an earlier attempt logged these: the next point replaces those at or after its step.
    """

    __slots__ = ("closed", "is_rewritten", "sent", "starts_over", "tail", "width")

    def __init__(self) -> None:
        self.closed: list[Point] = []
        self.tail: list[Point] = []
        self.width = 0.0
        self.sent = 0
        self.is_rewritten = self.starts_over = False

    @property
    def points(self) -> list[Point]:
        return [*self.closed, *self.tail]

    @property
    def newest(self) -> float:
        """The last value. Raises IndexError without points."""
        return (self.tail or self.closed)[-1][2]

    def add(self, points: Sequence[Point], most: int) -> None:
        """Append points, and make room if there are more than `most`."""
        if self.starts_over and points:
            self.starts_over = False
            self._set([point for point in self.points if point[0] < points[0][0]])
        if not self.width:
            self.closed += points
        else:
            for bucket, some in groupby(points, self._bucket):
                if self.tail and self._bucket(self.tail[-1]) == bucket:
                    self.tail = summary([*self.tail, *some])
                else:
                    self.closed += self.tail
                    self.tail = summary(list(some))
        if len(self.closed) + len(self.tail) > most:
            self._widen(most)

    def _bucket(self, point: Point) -> float:
        return point[0] // self.width

    def _set(self, points: list[Point]) -> None:
        """Replace all points; the last bucket is open again."""
        self.tail = []
        if self.width and points:
            last = self._bucket(points[-1])
            while points and self._bucket(points[-1]) == last:
                self.tail.insert(0, points.pop())
        self.closed, self.sent, self.is_rewritten = points, 0, True

    def _widen(self, most: int) -> None:
        points, before = self.points, self.width
        steps = [point[0] for point in points]
        span = max(steps) - min(steps)
        if 0 < span < math.inf:
            self.width = 2 * before or 2.0 ** math.ceil(math.log2(8 * span / most))
            for _ in range(3):
                kept = [point for _, some in groupby(points, self._bucket) for point in summary(list(some))]
                if len(kept) <= 0.75 * most:
                    return self._set(kept)
                self.width *= 2
        # Steps that say nothing about the order: all the same, or to and fro.
        self.width = before
        self._set(by_position(points, 16))


class Curves:
    """All metrics of one job.

    Args:
        lines: what the store has of earlier attempts, which new points continue or replace.

    Attributes:
        n: number of the newest line.
    """

    def __init__(self, lines: Iterable[bytes] = ()) -> None:
        self.n = 0
        self.curves: dict[str, Curve] = {}
        self._changed: set[str] = set()  # since the newest line
        self._tails: set[str] = set()  # since the last line with new points
        self._lines = 0
        self._has_tail_line = False
        self._spark: tuple[float, tuple[float | None, ...]] = -math.inf, ()
        for line in lines:
            with contextlib.suppress(*UNREADABLE):
                self.read(msgspec.json.decode(line))
        for curve in self.curves.values():
            curve.starts_over = True

    # -- of the worker ------------------------------------------------------------------------------------------------

    def add(self, batch: Mapping[str, Sequence[Point]]) -> None:
        """Append points of a batch; those of more than `NAMES_MOST` names are dropped."""
        for name, points in batch.items():
            if points and (name in self.curves or len(self.curves) < NAMES_MOST):
                curve = self.curves.setdefault(name, Curve())
                curve.add(points, curve_most(len(self.curves)))
                self._changed.add(name)

    def take(self) -> Line | None:
        """Return the line with what has changed since the last call, or None."""
        if not self._changed:
            return None
        self.n += 1
        self._lines += 1
        changed, self._changed = self._changed, set()
        is_rewritten = any(self.curves[name].is_rewritten for name in changed)
        if is_rewritten or self._lines > _LINES_MOST:
            told = b"" if is_rewritten else self._line(changed)
            for curve in self.curves.values():
                curve.sent, curve.is_rewritten = 0, False
            self._lines = 1
            how, stored = "whole", self._line(self.curves, is_whole=True)
        else:
            has_new = any(len(self.curves[name].closed) > self.curves[name].sent for name in changed)
            if not has_new:
                self._tails |= changed
                how, self._has_tail_line = ("replace" if self._has_tail_line else "append"), True
                return self._sent(changed, how, self._line(self._tails))
            how, stored, told = "append", self._line(changed), b""
        self._tails, self._has_tail_line = set(), False
        return self._sent(changed if how == "append" else self.curves, how, stored, told)

    def _sent(self, names: Collection[str], how: str, stored: bytes, told: bytes = b"") -> Line:
        for name in names:
            self.curves[name].sent = len(self.curves[name].closed)
        return f"{how} {self.n}", told, stored

    def _line(self, names: Collection[str], *, is_whole: bool = False) -> bytes:
        curves = {}
        for name, curve in self.curves.items():
            if name in names:
                curves[name] = [wired(curve.closed[curve.sent :]), wired(curve.tail), curve.width]
        return _encode({"n": self.n, "whole": is_whole, "curves": curves})

    def summary(self) -> MetricsSummary:
        newest = {name: curve.newest for name, curve in list(self.curves.items())[:NEWEST_MOST]}
        return MetricsSummary(self.n, newest, self.spark())

    def spark(self) -> tuple[float | None, ...]:
        """Return values of the first metric for a small curve. A long curve is not looked at for each new point."""
        first = next(iter(self.curves.values()), None)
        if first is None:
            return ()
        at_ms, spark = self._spark
        newest_ms = (first.tail or first.closed)[-1][1]
        if len(first.closed) < 4 * SPARK_POINTS or not 0 <= newest_ms - at_ms < 1_000:
            points = first.points
            size = -(-len(points) // SPARK_POINTS)
            spark = tuple(_rounded(points[min(i + size, len(points)) - 1][2]) for i in range(0, len(points), size))
            self._spark = newest_ms, spark
        return spark

    # -- of readers ---------------------------------------------------------------------------------------------------

    def read(self, line: Mapping[str, Any]) -> bool:
        """Take a decoded line; return False if it changes nothing. Raises one of `UNREADABLE`."""
        n = int(line["n"])
        if n <= self.n:
            return False
        if line.get("whole"):
            self.curves = {}
        for name, (new, tail, width) in line["curves"].items():
            curve = self.curves.setdefault(str(name), Curve())
            curve.closed += map(_point, new)
            curve.tail, curve.width = list(map(_point, tail)), float(width)
            curve.sent = len(curve.closed)
        self.n = n
        return True


def wired(points: Iterable[Point]) -> list[tuple[float, int, float | str | None]]:
    """Return points as JSON can hold them."""
    return [(step, at_ms, to_wire(value)) for step, at_ms, value in points]


def _point(wire: Sequence[Any]) -> Point:
    step, at_ms, value = wire
    return step, int(at_ms), from_wire(value)


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
