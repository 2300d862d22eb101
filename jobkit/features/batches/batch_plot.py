"""The plot of a batch: a numeric result over a swept argument, as positions between 0 and 1 and words for the axes.

Pure. `batch.js` and the static card make the same elements of it, so that both show the same picture at any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

from jobkit.model.format import number, value_brief
from jobkit.model.plain import is_number
from jobkit.ui.card.curves import COLOURS

#: Points that a plot shows; of more, so many are chosen evenly.
MAX_POINTS = 1_500

#: Points that the plot of a saved card shows.
SAVED_POINTS = 500

#: Larger numbers are drawn as this one: the length of an axis must be a number, too.
_HUGE = 1e300

#: Values of a sweep that an axis marks, and how far apart they must stand, as a part of it.
_MARKS_MOST, _MARKS_APART = 6, 0.15

#: A colour for each of so many values of `by`; with more values there is one colour for all.
MAX_SERIES = 8

#: Arguments by which a run is only repeated: their best value says nothing.
_REPEATED = frozenset({"seed", "random_state", "fold", "repeat", "replicate"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Point:
    """One job with a value: its place in the batch, its swept arguments and its numbers."""

    row: int
    args: Mapping[str, Any]
    numbers: Mapping[str, float]


def layout(
    points: Sequence[Point],
    args: Sequence[str],
    numbers: Sequence[str],
    chosen: Mapping[str, str] | None = None,
    is_joined: bool = True,
) -> dict[str, Any] | None:
    """Return the plot as of `picture`, or None if there is nothing to show.

    Args:
        points: jobs that have a number so far.
        args: arguments that differ within the batch. numbers: names of numbers, the most interesting first.
        chosen: the user's choices of "x", "y" and "by" ("" for no `by`); the rest is decided here.
        is_joined: lines join neighbours, if there are few.
    """
    chosen = chosen or {}
    if not points or not args or not numbers:
        return None
    y = chosen["y"] if chosen.get("y") in numbers else numbers[0]
    found = [point for point in points if y in point.numbers]
    distinct = {name: _distinct(found, name) for name in args}
    numeric = [name for name in args if all(is_number(value) for value in distinct[name])]
    ranked = sorted(numeric or list(args), key=lambda name: (name in _REPEATED, -len(distinct[name])))
    x = chosen["x"] if chosen.get("x") in args else ranked[0]
    able = [name for name in args if name != x and 2 <= len(distinct[name]) <= MAX_SERIES]
    by = chosen["by"] if chosen.get("by") in (*able, "") else (able[0] if able else "")
    if not found:
        return None
    size, found = len(found), evenly(found, MAX_POINTS)
    note = sample_note(len(found), size)
    is_category = x not in numeric
    places = {repr(value): i for i, value in enumerate(distinct[x])} if is_category else {}
    xs = [float(places[repr(p.args.get(x))]) if is_category else float(p.args[x]) for p in found]
    ys = [p.numbers[y] for p in found]
    across = _categories(distinct[x]) if is_category else _marked(scale(xs, is_log=goes_by_size(xs)), xs)
    up = scale(ys)
    series = [value_brief(value, 24) for value in distinct[by]] if by else []
    order = {repr(value): i for i, value in enumerate(distinct[by])} if by else {}
    groups: dict[int, list[tuple[float, float]]] = {}
    dots = []
    for point, px, py in zip(found, map(across.at, xs), map(up.at, ys), strict=True):
        group = order[repr(point.args.get(by))] if by else 0
        groups.setdefault(group, []).append((px, py))
        dots.append([round(px, 4), round(py, 4), group, point.row])
    # A line joins neighbours of a sweep; with several values at one x it would only scribble.
    lines = [
        (COLOURS[group], sorted(members))
        for group, members in sorted(groups.items())
        if is_joined and not is_category and len({px for px, _ in members}) == len(members) > 1 and len(members) <= 400
    ]
    dots = beside(dots)
    choices = {"x": list(args), "y": list(numbers), "by": able}
    names = {"x": x, "y": y, "by": by, "choices": choices, "size": size, "note": note, "series": series}
    return names | picture(x, across, up, dots, lines)


def beside(dots: list[list[Any]]) -> list[list[Any]]:
    """Return the dots, those that would cover each other side by side, at most 3 % of the width from their place."""
    alike: dict[tuple[float, float], list[list[Any]]] = {}
    for dot in dots:
        alike.setdefault((round(dot[0], 2), round(dot[1], 2)), []).append(dot)
    for group in alike.values():
        step = min(0.007, 0.06 / len(group))
        for k, dot in enumerate(group if len(group) > 1 else ()):
            dot[0] = round(min(1.0, max(0.0, dot[0] + step * (k - (len(group) - 1) / 2))), 4)
    return dots


def evenly(values: Sequence[T], most: int) -> list[T]:
    """Return so many values at most, chosen evenly."""
    size = len(values)
    return list(values) if size <= most else [values[i * size // most] for i in range(most)]


def sample_note(shown: int, size: int, noun: str = "points") -> str:
    """Return `500 of 5,000 points shown, chosen evenly`; "" if all are shown."""
    return f"{shown:,} of {size:,} {noun} shown, chosen evenly" if shown < size else ""


def picture(
    x: str,
    across: _Axis,
    up: _Axis,
    dots: Sequence[Sequence[Any]],
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]],
) -> dict[str, Any]:
    """Return what is drawn.

    Args:
        x: the name below. across, up: the axes.
        dots: `[x, y, series, row]` of each, positions 0..1 from the lower left corner.
        lines: the colour of each, and its positions.

    Returns:
        What `batch.js` and the static card draw: `dots` and their `radius` (px); `colours` of series; those of `lines`
        of parallel coordinates, others and high; `shapes`, all else in the SVG, as elements
        `[tag, attributes, *children]`; `left`, the margin (px) that its texts need.

        Beside it a plot has `x`, `y`, `by` (names), `choices` of each, `size` (number of all points), `note`, `series`
        (texts), and may have `marks`: for each of them None for a dot, or an element around (0, 0).
    """
    return {
        "colours": COLOURS,
        "lines": COLOURS[:2],
        "dots": dots,
        "radius": 2.2 if len(dots) > 400 else 3 if len(dots) > 100 else 4,
        "shapes": _shapes(x, across, up, lines),
        "left": 12 + 7 * max((len(text) for _, text in up.marks), default=1),
    }


def _shapes(
    name: str, across: _Axis, up: _Axis, lines: Sequence[tuple[str, Sequence[tuple[float, float]]]]
) -> list[Any]:
    """Return rules, words and lines, in percent of the plot's area; the words stand around it."""
    out: list[Any] = []
    for value, text in up.marks:
        y = f"{100 - 100 * up.at(value):.2f}%"
        out.append(["line", {"x1": 0, "x2": "100%", "y1": y, "y2": y, "class": "rule"}])
        out.append(["text", {"x": -8, "y": y, "dy": "0.32em", "text-anchor": "end"}, text])
    below = {"y": "100%", "text-anchor": "middle"}
    out += [["text", {"x": f"{100 * across.at(value):.2f}%", "dy": 18, **below}, text] for value, text in across.marks]
    out.append(["text", {"x": "50%", "dy": 34, **below, "class": "name"}, name])
    paths = [
        ["polyline", {"stroke": colour, "vector-effect": "non-scaling-stroke",
                      "points": " ".join(f"{100 * x:.2f},{100 - 100 * y:.2f}" for x, y in members)}]
        for colour, members in lines
    ]  # fmt: skip
    area = {"width": "100%", "height": "100%", "viewBox": "0 0 100 100", "preserveAspectRatio": "none"}
    return [*out, ["svg", area, *paths]]


def _distinct(points: Sequence[Point], name: str) -> list[Any]:
    """Return its values: numbers by size, others in the order in which they came."""
    found = {repr(point.args.get(name)): point.args.get(name) for point in points}
    values = list(found.values())
    return sorted(values) if all(map(is_number, values)) else values


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis: its ends, marks as `(value, text)`, and what is linear on it."""

    low: float
    high: float
    marks: Sequence[tuple[float, str]]
    of: Callable[[float], float] = float

    def at(self, value: float) -> float:
        """Return the position, 0..1."""
        return min(1.0, max(0.0, (self.of(value) - self.low) / (self.high - self.low)))


def _categories(values: Sequence[Any]) -> _Axis:
    step = math.ceil(len(values) / 12)
    marks = [(float(i), value_brief(value, 16)) for i, value in enumerate(values) if i % step == 0]
    return _Axis(-0.5, len(values) - 0.5, marks)


def goes_by_size(values: Sequence[float]) -> bool:
    """Return whether values of a sweep are chosen by size, as 0.001, 0.003, 0.01.

    They are positive, span one decade or more, and their widest gap is narrower on a logarithmic axis.
    """
    few = sorted(set(values))
    if len(few) < 3 or few[0] <= 0 or few[-1] / few[0] < 10:
        return False
    by_size = max(math.log(b / a) for a, b in pairwise(few)) / math.log(few[-1] / few[0])
    return by_size < max(b - a for a, b in pairwise(few)) / (few[-1] - few[0])


def scale(values: Sequence[float], is_count: bool = False, is_log: bool = False) -> _Axis:
    """Return an axis of numbers, logarithmic over two decades or more, or if `is_log`; of counts, linear with whole
    marks."""
    low, high = max(-_HUGE, min(values)), min(_HUGE, max(values))
    if is_log or (low > 0 and high / low >= 100 and not is_count):
        low, high = math.log10(low), math.log10(high)
        low, high = low - (high - low) * 0.04, high + (high - low) * 0.04
        powers = range(math.ceil(low), math.floor(high) + 1)
        every = math.ceil(len(powers) / 7)
        told = [10.0**k for k in powers if k % every == 0]
        if len(told) < 3:
            around = range(powers.start - 1, powers.stop)
            told = [at for k in around for at in (10.0**k, 2 * 10.0**k, 5 * 10.0**k) if low <= math.log10(at) <= high]
        return _Axis(low, high, [(at, _told(at, 0)) for at in told], math.log10)
    if low == high:
        low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
    low, high = low - (high - low) * 0.04, high + (high - low) * 0.04
    rough = max((high - low) / 5, float(is_count))
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough)
    places = range(math.ceil(low / step), math.floor(high / step) + 1)
    return _Axis(low, high, [(k * step, _told(k * step, step)) for k in places])


def _marked(axis: _Axis, values: Sequence[float]) -> _Axis:
    """Return an axis with a mark at each value, as of a sweep, if they are few and far apart."""
    few = sorted(set(values))[: _MARKS_MOST + 1]
    places = [axis.at(value) for value in few]
    is_free = 2 <= len(few) <= _MARKS_MOST and all(b - a >= _MARKS_APART for a, b in pairwise(places))
    return replace(axis, marks=[(value, number(value)) for value in few]) if is_free else axis


def _told(value: float, step: float) -> str:
    if step:
        value = round(value, max(0, 1 - math.floor(math.log10(step))))
    mantissa, _, power = f"{value:.3g}".partition("e")
    is_far = value and not 1e-4 <= abs(value) < 1e6
    return f"{mantissa}e{int(power)}" if is_far and power else number(value)
