"""Simple drawings of figures of Plotly and Bokeh as SVG, without a browser: their lines, points and bars.

A figure with anything else (maps, surfaces, several panels) has none: a wrong picture would be worse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from html import escape
from itertools import pairwise
from typing import Any

import msgspec

#: Size of a drawing, and its margins (px): those at the top and bottom also without a title.
_WIDE, _HIGH, _LEFT, _RIGHT, _TOPS, _BOTTOMS = 640, 340, 62, 16, (16, 34), (28, 50)

#: Points of a layer, bars and layers, at most.
_POINTS, _BARS, _LAYERS = 2_000, 500, 20

#: Colours of Plotly's layers that have none.
_COLOURS = (
    "#636efa",
    "#ef553b",
    "#00cc96",
    "#ab63fa",
    "#ffa15a",
    "#19d3f3",
    "#ff6692",
    "#b6e880",
    "#ff97ff",
    "#fecb52",
)

_TEXT, _LINE = "#444", "#e3e6ea"

Rect = tuple[float, float, float, float]


class Layer(msgspec.Struct):
    """A line, points or bars (`left, right, bottom, top`) in one colour."""

    colour: str
    name: str = ""
    points: Sequence[tuple[float, float]] = ()
    bars: Sequence[Rect] = ()
    has_line: bool = False
    has_points: bool = False


class ChartAxis:
    """Numbers of the values of one axis: as they are, their logarithms, times in seconds, or places of categories."""

    def __init__(self, title: object = "", *, is_log: bool = False, is_ms: bool = False) -> None:
        self.title = title if isinstance(title, str) else ""
        self.is_log, self._is_ms, self.is_time = is_log, is_ms, is_ms
        self.categories: dict[str, int] = {}

    def read(self, values: Any) -> list[float]:
        """Return a number for each value, NaN for what is none."""
        if getattr(getattr(values, "dtype", None), "kind", "") == "M":
            values = values.astype("datetime64[us]")
        found = values.tolist() if hasattr(values, "tolist") else list(values)
        if any(isinstance(value, (str, date)) for value in found):
            return self._read_others(found)
        numbers = [float(value) if value is not None else math.nan for value in found]
        if self.is_log:
            return [math.log10(number) if number > 0 else math.nan for number in numbers]
        return [number / 1000 for number in numbers] if self._is_ms else numbers

    def _read_others(self, values: list[Any]) -> list[float]:
        try:
            times = [_seconds(value) for value in values]
        except (TypeError, ValueError):
            return [self.categories.setdefault(str(value), len(self.categories)) for value in values]
        self.is_time = True
        return times

    def ticks(self, low: float, high: float) -> list[tuple[float, str]]:
        """Return places and texts of some four ticks."""
        if self.categories:
            step = math.ceil(len(self.categories) / 12)
            return [(i, name[:14]) for name, i in self.categories.items() if i % step == 0]
        if self.is_time:
            form = "%Y-%m-%d" if high - low > 3 * 86_400 else "%d %H:%M" if high - low > 3 * 3_600 else "%H:%M:%S"
            places = [low + (high - low) * (0.1 + 0.2 * k) for k in range(5)]
            return [(place, f"{datetime.fromtimestamp(place, UTC):{form}}") for place in places]
        if self.is_log:
            step = max(1, round((high - low) / 5))
            return [(k, f"{10.0**k:g}") for k in range(math.ceil(low), math.floor(high) + 1, step)]
        rough = (high - low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        size = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        first = math.ceil(low / size)
        return [(k * size, f"{k * size:.6g}") for k in range(first, math.floor(high / size + 1e-9) + 1)]


def _seconds(value: Any) -> float:
    """Return a date or its text as seconds. Raises ValueError or TypeError for anything else."""
    if isinstance(value, str):
        if not value[:4].isdigit() or value[4:5] != "-":
            raise ValueError(value)
        value = datetime.fromisoformat(value[:26])
    elif not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return float((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())


def drawing_of(figure: Any) -> str:
    """Return a figure of Plotly or Bokeh as SVG; "" if it has anything but lines, points and bars.

    May raise anything: it reads an object of a user's.
    """
    library = type(figure).__module__.partition(".")[0]
    if library == "plotly":
        found = _plotly(figure)
    elif library == "bokeh":
        found = _bokeh(figure)
    else:
        found = None
    return "" if found is None else _svg(*found)


# -- readers -----------------------------------------------------------------------------------------------------------

_Read = tuple[str, ChartAxis, ChartAxis, list[Layer]]


def _plotly(figure: Any) -> _Read | None:
    layout, layers = figure.layout, list[Layer]()
    x, y = (ChartAxis(axis.title.text, is_log=axis.type == "log") for axis in (layout.xaxis, layout.yaxis))
    traces = list(figure.data)
    bars = [trace for trace in traces if trace.type == "bar"]
    if not traces or len(traces) > _LAYERS or (len(bars) > 1 and layout.barmode not in (None, "group", "overlay")):
        return None
    for i, trace in enumerate(traces):
        if getattr(trace, "xaxis", None) not in (None, "x") or getattr(trace, "yaxis", None) not in (None, "y"):
            return None
        layer = Layer(_COLOURS[i % len(_COLOURS)], str(trace.name or ""))
        marks = (getattr(trace, part, None) for part in ("marker", "line"))
        layer.colour = next((m.color for m in marks if m is not None and isinstance(m.color, str)), layer.colour)
        if trace.type in ("scatter", "scattergl"):
            ys = y.read(trace.y)
            layer.points = _finite(x.read(trace.x) if trace.x is not None else range(len(ys)), ys)
            mode = trace.mode or ("lines+markers" if len(layer.points) < 20 else "lines")
            layer.has_line, layer.has_points = "lines" in mode, "markers" in mode
        elif trace.type == "bar" and trace.orientation != "h":
            ys = y.read(trace.y)
            xs = x.read(trace.x) if trace.x is not None else list(range(len(ys)))
            n = 1 if layout.barmode == "overlay" else len(bars)
            wide = 0.8 * _gap(xs) / n
            shift = (bars.index(trace) - (n - 1) / 2) * wide if n > 1 else 0.0
            layer.bars = [(a + shift - wide / 2, a + shift + wide / 2, 0.0, b) for a, b in _finite(xs, ys)]
        elif trace.type == "histogram" and trace.x is not None:
            layer.bars = list(_histogram(x.read(trace.x)))
        else:
            return None
        layers.append(layer)
    return str(layout.title.text or ""), x, y, layers


def _bokeh(figure: Any) -> _Read | None:
    layers: list[Layer] = []
    legend = {id(one): _value(item.label) for each in figure.legend for item in each.items for one in item.renderers}
    x, y = (
        ChartAxis(
            axis.axis_label,
            is_log=type(axis).__name__ == "LogAxis",
            is_ms=type(axis).__name__ == "DatetimeAxis",
        )
        for axis in (figure.xaxis[0], figure.yaxis[0])
    )
    for factors, axis in ((getattr(figure.x_range, "factors", ()), x), (getattr(figure.y_range, "factors", ()), y)):
        axis.read([str(factor) for factor in factors])
    if not figure.renderers or len(figure.renderers) > _LAYERS:
        return None
    for renderer in figure.renderers:
        glyph, data = renderer.glyph, renderer.data_source.data
        kind = type(glyph).__name__
        colour = _value(getattr(glyph, "fill_color", None) if kind != "Line" else glyph.line_color)
        layer = Layer(colour if isinstance(colour, str) and colour not in data else "#1f77b4")
        layer.name = str(legend.get(id(renderer)) or "")

        def read(name: str, axis: ChartAxis, glyph: Any = glyph, data: Any = data) -> list[float]:
            wanted, n = _value(getattr(glyph, name)), max(map(len, data.values()), default=1)
            return axis.read(data[wanted]) if isinstance(wanted, str) and wanted in data else axis.read([wanted]) * n

        if kind in ("Line", "Scatter", "Circle", "Step"):
            layer.points = _finite(read("x", x), read("y", y))
            layer.has_line, layer.has_points = kind in ("Line", "Step"), kind in ("Scatter", "Circle")
        elif kind == "VBar":
            wide = _value(glyph.width)
            half = (wide if isinstance(wide, (int, float)) else 0.8) / 2
            rows = zip(read("x", x), read("bottom", y), read("top", y), strict=True)
            layer.bars = [(at - half, at + half, low, high) for at, low, high in rows]
        elif kind == "Quad":
            sides = (("left", x), ("right", x), ("bottom", y), ("top", y))
            layer.bars = list(zip(*(read(name, axis) for name, axis in sides), strict=True))
        else:
            return None
        layers.append(layer)
    return str(figure.title.text or "") if figure.title else "", x, y, layers


def _value(spec: Any) -> Any:
    """Return the name of the column, or the value, of a property of a glyph."""
    for name in ("field", "value"):
        if (found := spec.get(name) if isinstance(spec, dict) else getattr(spec, name, None)) is not None:
            return found
    return spec


def _finite(xs: Iterable[float], ys: Iterable[float]) -> list[tuple[float, float]]:
    found = [(a, b) for a, b in zip(xs, ys, strict=False) if math.isfinite(a) and math.isfinite(b)]
    return found[:: math.ceil(len(found) / _POINTS) or 1]


def _gap(xs: Sequence[float]) -> float:
    return min((b - a for a, b in pairwise(sorted(set(xs)))), default=1.0)


def _histogram(values: list[float]) -> Iterator[Rect]:
    found = [value for value in values if math.isfinite(value)]
    low, high = min(found), max(found)
    count = min(60, max(1, math.ceil(math.sqrt(len(found)))))
    wide = (high - low) / count or 1.0
    heights = [0] * count
    for value in found:
        heights[min(count - 1, int((value - low) / wide))] += 1
    yield from ((low + k * wide, low + (k + 1) * wide, 0.0, float(height)) for k, height in enumerate(heights))


# -- SVG ---------------------------------------------------------------------------------------------------------------


def _svg(title: str, x: ChartAxis, y: ChartAxis, layers: list[Layer]) -> str:
    bars = [bar for layer in layers for bar in layer.bars]
    xs = [a for layer in layers for a, _ in layer.points] + [side for bar in bars for side in bar[:2]]
    ys = [b for layer in layers for _, b in layer.points] + [side for bar in bars for side in bar[2:]]
    if not xs or len(bars) > _BARS or not all(map(math.isfinite, (*xs, *ys))):
        return ""
    (x0, x1), (y0, y1) = _span(xs, is_tight=bool(bars)), _span(ys, is_tight=bool(bars))
    named = [layer for layer in layers if layer.name][:6]
    top, floor = _TOPS[bool(title or len(named) > 1)], _HIGH - _BOTTOMS[bool(x.title)]
    across: Callable[[float], float] = lambda a: _LEFT + (a - x0) / (x1 - x0) * (_WIDE - _LEFT - _RIGHT)  # noqa: E731
    down: Callable[[float], float] = lambda b: floor - (b - y0) / (y1 - y0) * (floor - top)  # noqa: E731
    parts = [f'<rect width="{_WIDE}" height="{_HIGH}" fill="#fff"/>']
    for place, text in x.ticks(x0, x1):
        parts.append(_line(across(place), top, across(place), floor))
        parts.append(_text(across(place), floor + 16, text, "middle"))
    for place, text in y.ticks(y0, y1):
        parts.append(_line(_LEFT, down(place), _WIDE - _RIGHT, down(place)))
        parts.append(_text(_LEFT - 8, down(place) + 4, text, "end"))
    for layer in layers:
        colour = escape(layer.colour)
        for left, right, low, high in layer.bars:
            wide, tall = across(right) - across(left), abs(down(low) - down(high))
            size = f'width="{max(wide - 1, 0.5):.1f}" height="{tall:.1f}"'
            corner = f'x="{across(left):.1f}" y="{down(max(low, high)):.1f}"'
            parts.append(f'<rect {corner} {size} fill="{colour}" fill-opacity=".85"/>')
        places = [(across(a), down(b)) for a, b in layer.points]
        if layer.has_line:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if layer.has_points:
            parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in places]
    parts.append(_text(_LEFT, 20, title[:70], "start", "font-size:14px;font-weight:600"))
    parts.append(_text((_LEFT + _WIDE - _RIGHT) / 2, _HIGH - 12, x.title[:60], "middle"))
    side = f' transform="rotate(-90 14 {_HIGH / 2})"'
    parts.append(_text(14, _HIGH / 2, y.title[:40], "middle", more=side))
    if len(named) > 1:
        words = "".join(
            f'<tspan fill="{escape(each.colour)}">\N{BLACK CIRCLE} </tspan>{escape(each.name[:16])}\N{EN SPACE}'
            for each in named
        )
        parts.append(f'<text x="{_WIDE - _RIGHT}" y="20" text-anchor="end" fill="{_TEXT}">{words}</text>')
    style = "font:12px system-ui,sans-serif"
    size = f'width="{_WIDE}" height="{_HIGH}" viewBox="0 0 {_WIDE} {_HIGH}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{style}">{"".join(parts)}</svg>'


def _span(values: Sequence[float], *, is_tight: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.04 or abs(low) * 0.05 or 0.5
    return (low if is_tight and low == 0 else low - margin), high + margin


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{_LINE}"/>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "", more: str = "") -> str:
    styled = f' style="{style}"' if style else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{_TEXT}"{styled}{more}>{escape(text)}</text>'
        if text
        else ""
    )
