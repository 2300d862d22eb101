"""Curves of metrics: bounded, with every extreme, the same for the worker and for each reader."""

from __future__ import annotations

import itertools
import math
import random

import msgspec
import pytest

from jobkit.features.metrics.buffer import batch_of
from jobkit.model.metrics import CURVE_MOST, NAMES_MOST, Curves, Line, Point


class Lines:
    """The list of a store, and a reader that only hears what is published."""

    def __init__(self, curves: Curves | None = None) -> None:
        self.curves = curves or Curves()
        self.lines: list[bytes] = []
        self.listener = Curves()
        self.rewrites = self.bytes = 0

    def log(self, **batch: list[Point]) -> None:
        self.curves.add(batch)
        self.flush()

    def flush(self) -> None:
        news = self.curves.take()
        assert news is not None
        self.store(news)
        assert self.listener.read(msgspec.json.decode(news[1] or news[2]))

    def store(self, news: Line) -> None:
        name, _, stored = news
        self.rewrites += name.startswith("whole")
        self.bytes += len(stored)
        if name.startswith("whole"):
            self.lines.clear()
        elif name.startswith("replace"):
            self.lines.pop()
        self.lines.append(stored)


def points_of(curves: Curves, name: str = "loss") -> list[Point]:
    return curves.curves[name].points


def walk(count: int, seed: int = 1) -> list[Point]:
    drawn, value = random.Random(seed), 0.0
    return [(step, 1_000 + step, value := value + drawn.gauss(0, 1)) for step in range(count)]


def test_a_short_curve_keeps_every_point() -> None:
    lines, points = Lines(), walk(CURVE_MOST)
    for point in points:
        lines.log(loss=[point])

    assert points_of(Curves(lines.lines)) == points_of(lines.listener) == points


@pytest.mark.parametrize("size", [1, 7, 5_000])
def test_a_long_curve_stays_small_and_keeps_its_extremes(size: int) -> None:
    lines, points = Lines(), walk(60_000 if size > 1 else 9_000)
    for start in range(0, len(points), size):
        lines.log(**batch_of({"loss": points[start : start + size]}, {"loss": start}))

    kept = points_of(Curves(lines.lines))
    values = [value for *_, value in points]
    assert len(kept) <= CURVE_MOST
    assert set(kept) <= set(points)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {min(values), max(values)} <= {value for *_, value in kept}
    assert kept == points_of(lines.listener) == points_of(lines.curves)
    # As fine everywhere: no stretch is worse off because it is old.
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(kept)]
    assert max(gaps) < len(points) / 50
    assert len(lines.lines) <= 300


def test_a_long_curve_is_rewritten_rarely() -> None:
    lines = Lines()
    for start in range(0, 200_000, 100):
        lines.log(loss=[(start + i, start, float(i)) for i in (0, 30, 60, 90)])

    assert lines.rewrites < 30
    assert lines.bytes < 5_000_000


def test_many_curves_share_the_room_of_a_job() -> None:
    lines = Lines()
    for start in range(0, 1_000, 50):
        batch = {f"m{n}": [(step, step, float(step)) for step in range(start, start + 50)] for n in range(300)}
        lines.log(**batch)

    curves = Curves(lines.lines).curves
    assert len(curves) == NAMES_MOST
    assert sum(len(curve.points) for curve in curves.values()) <= 20_000


def test_an_attempt_that_resumes_replaces_what_came_after_its_first_step() -> None:
    first = Lines()
    first.log(loss=[(step, step, 1.0) for step in range(50)], val=[(10, 1, 0.5)])
    again = Lines(Curves(first.lines))
    again.lines, again.listener = first.lines, first.listener
    again.log(loss=[(40, 99, 2.0)])
    again.log(loss=[(41, 99, 2.0)])

    kept = Curves(again.lines)
    assert [step for step, *_ in points_of(kept)] == list(range(42))
    assert [value for *_, value in points_of(kept)][39:] == [1.0, 2.0, 2.0]
    assert points_of(kept, "val") == [(10, 1, 0.5)]
    assert points_of(kept) == points_of(again.listener)


def test_a_long_curve_can_be_resumed() -> None:
    first, points = Lines(), walk(30_000)
    for start in range(0, len(points), 1_000):
        first.log(loss=points[start : start + 1_000])
    again = Lines(Curves(first.lines))
    again.lines = first.lines
    again.curves.add({"loss": points[20_000:20_100]})
    news = again.curves.take()
    assert news is not None
    assert news[0].startswith("whole")
    again.store(news)

    steps = [step for step, *_ in points_of(Curves(again.lines))]
    assert steps == sorted(steps)
    assert steps[-1] == 20_099


def test_numbers_that_are_not_finite_are_kept_beside_the_extremes() -> None:
    lines = Lines()
    values = [{0: math.nan, 1: math.inf, 2: -math.inf}.get(n % 7, n) for n in range(6_000)]
    lines.log(loss=[(n, n, float(value)) for n, value in enumerate(values)])

    kept = [value for *_, value in points_of(Curves(lines.lines))]
    assert any(map(math.isnan, kept))
    finite = [value for value in values if math.isfinite(value)]
    assert {float(min(finite)), float(max(finite))} <= set(kept)


@pytest.mark.parametrize("step", [lambda n: 5, lambda n: n % 2 * 1000, lambda n: -n, lambda n: n * 1e-9])
def test_steps_of_any_kind_stay_bounded(step: object) -> None:
    lines = Lines()
    for start in range(0, 20_000, 500):
        lines.log(loss=[(step(n), n, float(n)) for n in range(start, start + 500)])  # type: ignore[operator]

    kept = points_of(Curves(lines.lines))
    assert len(kept) <= CURVE_MOST
    assert (kept[0][2], kept[-1][2]) == (0.0, 19_999.0)


def test_a_line_that_is_sent_twice_or_damaged_changes_nothing() -> None:
    lines = Lines()
    lines.log(loss=[(1, 1, 1.0)])
    lines.log(loss=[(2, 2, 2.0)])
    twice = [lines.lines[0], lines.lines[1], lines.lines[1], b'{"n":9}', b"[]", b"x", b'{"n":9,"curves":{"a":[1]}}']

    assert points_of(Curves(twice)) == [(1, 1, 1.0), (2, 2, 2.0)]


def test_a_summary_has_the_newest_values_and_a_small_curve() -> None:
    curves = Curves()
    curves.add({"loss": [(n, n, n / 3) for n in range(1_000)], "acc": [(0, 0, math.inf)]})
    curves.take()
    found = curves.summary()

    assert found.newest == {"loss": 333.0, "acc": math.inf}
    assert len(found.spark) <= 32
    assert found.spark[-1] == 333.0
    assert type(found).from_wire(msgspec.json.decode(msgspec.json.encode(found.to_wire()))) == found
