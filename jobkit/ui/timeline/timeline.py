"""`Timeline`: the attempts of each worker as bars, with their waiting time, live.

The figures are empty here: `timeline.js` fills their sources from the texts that all sessions share. So the server
keeps no data of a plot, and a session costs no more than the text. Colours, fonts and the height of the lanes are set
in the browser, too, from the tokens of the theme that it shows. All times on the axes are local: the browser adds its
zone's offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import panel as pn
import param
from bokeh.layouts import column
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    DatetimeTicker,
    DatetimeTickFormatter,
    FactorRange,
    FixedTicker,
    LayoutDOM,
    PanTool,
    Range1d,
    WheelZoomTool,
)
from bokeh.plotting import figure
from bokeh.transform import dodge
from bokeh.util.serialization import make_globally_unique_id

from jobkit.client import Kit
from jobkit.store.grammar import HELP, read_search
from jobkit.store.query import Query
from jobkit.ui.live.component import LivePage
from jobkit.ui.timeline.timeline_feed import TimelineFeed, TimelineSubscriber
from jobkit.ui.timeline.timeline_model import RANGES_MS
from jobkit.ui.words import assets

#: What may be looked at; the first is what a page begins with.
RANGES = ("fit", *RANGES_MS)

_SCROLLED = {"overflow-y": "auto", "overflow-x": "hidden", "min-height": "0"}


class TimelineHead(LivePage):
    """The lines above the figures, which also fills and colours them.

    Args:
        kit, on_open, bridge, access: as of `LivePage`.

    Attributes:
        name_of: what the names of the figures' models begin with.
        range: one of `RANGES`. page, delta, series: see `TimelineFeed`.
        search: the search text, see `store.grammar`. problem: what is wrong with it. help: the lines of its help.
        selected: id of the job whose bars are marked.
    """

    FEED = TimelineFeed

    name_of = param.String(default="")
    range: Any = param.Selector(default="fit", objects=list(RANGES))
    search = param.String(default="")
    problem = param.String(default="")
    help = param.List(default=[list(line) for line in HELP])
    selected = param.String(default="")
    page = param.String(default="")
    delta = param.String(default="")
    series = param.String(default="")

    part_of: ClassVar[Mapping[str, str]] = {"page": "delta"}

    _esm = assets.esm("timeline")
    _stylesheets: ClassVar[list[str]] = [assets.css("timeline")]

    def __init__(self, kit: Kit, **params: Any) -> None:
        super().__init__(kit, **params)
        self.param.watch(lambda *_: self._follow(), ["range", "search"])

    def _feeds(self) -> list[tuple[Any, ...]]:
        query, self.problem = read_search(self.search)
        return [(TimelineFeed, Query(states=("none",)) if self.problem else query, self._access.person.only_owner)]

    def _subscriber(self) -> TimelineSubscriber:
        return TimelineSubscriber(self._deliver, self.range)

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "range" and asked.get("range") in RANGES:
            self.range = asked["range"]
        elif action == "search":
            self.search = str(asked.get("text", ""))[:500]


class Timeline(pn.Column):
    """A kit's timeline.

    Args:
        kit: whose jobs.
        range: "fit" (all that is kept), "15m", "1h", "6h" or "24h".
        search: which jobs, as in the search box of the jobs: "task:train state:failed".
        on_open, bridge, access, is_open: as of `LivePage`.

    Attributes:
        head: the component above the figures, which has range and search text.

    Raises:
        ValueError: no such range.
    """

    fills_page: ClassVar[bool] = True

    def __init__(self, kit: Kit, **params: Any) -> None:
        name = f"jk-{make_globally_unique_id()}"
        own = {each: params.pop(each) for each in _HEAD if each in params}
        self.head = TimelineHead(kit, name_of=name, sizing_mode="stretch_width", margin=0, **own)
        plots = pn.pane.Bokeh(  # type: ignore[no-untyped-call]
            figures(name), sizing_mode="stretch_width", margin=(0, 8)
        )
        super().__init__(self.head, plots, **{"margin": 0, "styles": _SCROLLED, **params})


_HEAD = ("range", "search", "on_open", "bridge", "access", "is_open")


# -- the figures -------------------------------------------------------------------------------------------------------

#: What is written on bars, by what it is written on: each in one colour, since Bokeh may ask for those of labels that
#: have gone while it takes new ones, and fail if they stand in a column.
LABELS = ("label", "label_failed", "label_quiet")

#: What the browser fills: columns of each source, by name.
SOURCES: dict[str, tuple[str, ...]] = {
    "waits": ("y", "left", "right"),
    "bars": ("y", "left", "right", "fill", "line", "alpha", *LABELS),
    "joins": ("x0", "y0", "x1", "y1"),
    "fails": ("x", "y"),
    "due": ("x", "y"),
    "now": ("x",),
    "ends": ("left", "right", "zero", "s", "f", "c"),
    "depth": ("left", "right", "top"),
    "busy": ("left", "right", "top"),
}

#: Of each side of the times by task.
TIMES = ("y", "low", "q1", "mid", "q3", "high", "fill")

#: Height of a lane (px).
LANE = 24

#: Height of the axis and margins of the lanes (px).
CHROME = 34

#: Height of each chart below the lanes (px).
CHART = 88

_BARE: dict[str, Any] = {
    "toolbar_location": None,
    "tools": "",
    "sizing_mode": "stretch_width",
    "min_border_right": 30,
    "min_border_top": 4,
    "background_fill_alpha": 0,
    "border_fill_alpha": 0,
    "outline_line_color": None,
}

#: Areas of the jobs that ended, one upon the other.
_ENDS = (("succeeded", "zero", "s"), ("failed", "s", "f"), ("cancelled", "f", "c"))

#: Ticks of durations, in seconds, and their words.
_DURATIONS: dict[float | str, Any] = {
    0.001: "1 ms",
    0.01: "10 ms",
    0.1: "100 ms",
    1: "1 s",
    10: "10 s",
    60: "1 min",
    600: "10 min",
    3600: "1 h",
    36000: "10 h",
    86400: "1 d",
}


def figures(name: str) -> LayoutDOM:
    """Return all figures, one below the other; `name` begins the name of each model that the browser looks for."""
    sources = {
        each: ColumnDataSource({column: [] for column in columns}, name=f"{name}-{each}")
        for each, columns in SOURCES.items()
    }
    x_range = Range1d(start=0, end=1, name=f"{name}-x")
    parts = [
        _lanes(name, x_range, sources),
        _chart(name, "ends", "Jobs that ended", x_range, sources["ends"], *_ENDS),
        _chart(name, "depth", "Jobs in a queue", x_range, sources["depth"], ("area", 0, "top")),
        _chart(name, "busy", "Attempts at once", x_range, sources["busy"], ("area", 0, "top")),
        _tasks(name),
    ]
    return column(*parts, sizing_mode="stretch_width", name=f"{name}-all", spacing=8)


def _lanes(name: str, x_range: Range1d, sources: dict[str, ColumnDataSource]) -> figure:
    pan, wheel = PanTool(dimensions="width"), WheelZoomTool(dimensions="width", modifiers={"ctrl": True})
    plot = figure(
        **_BARE,
        name=f"{name}-lanes",
        height=CHROME + LANE,
        x_range=x_range,
        y_range=FactorRange(factors=[], name=f"{name}-y"),
        x_axis_type="datetime",
    )
    plot.add_tools(pan, wheel)
    plot.toolbar.active_drag = pan
    plot.toolbar.active_scroll = wheel
    # In units of a lane: 4 px of waiting, 16 px of running.
    sides: dict[str, Any] = {"y": "y", "left": "left", "right": "right"}
    plot.hbar(**sides, height=4 / LANE, source=sources["waits"], name="wait", line_color=None)
    plot.segment("x0", "y0", "x1", "y1", source=sources["joins"], name="join")
    colours: dict[str, Any] = {"fill_color": "fill", "fill_alpha": "alpha", "line_color": "line"}
    plot.hbar(**sides, height=16 / LANE, source=sources["bars"], **colours)
    text: dict[str, Any] = {
        "source": sources["bars"],
        "x_offset": 5,
        "text_font_size": "11px",
        "text_baseline": "middle",
    }
    for label in LABELS:
        plot.text("left", "y", label, **text, name=label)
    plot.scatter("x", "y", source=sources["fails"], marker="x", size=7, line_width=2, name="fail")
    plot.scatter(
        "x", "y", source=sources["due"], marker="inverted_triangle", size=9, fill_color=None, line_width=1.5, name="due"
    )
    plot.vspan("x", source=sources["now"], line_width=1, name="now")
    _time_axis(plot)
    plot.yaxis.major_tick_line_color = None
    plot.ygrid.grid_line_color = None
    return plot


def _chart(
    name: str, part: str, title: str, x_range: Range1d, source: ColumnDataSource, *areas: tuple[str, Any, str]
) -> figure:
    """Return a chart of counts over time; `areas` as `(name, bottom, top)`."""
    plot = figure(
        **_BARE,
        name=f"{name}-chart-{part}",
        title=title,
        height=CHART,
        x_range=x_range,
        y_range=Range1d(start=0, end=1, name=f"{name}-top-{part}"),
        x_axis_type="datetime",
    )
    _time_axis(plot)
    if part != "busy":  # the last of them says what time it is
        plot.xaxis.visible = False
        plot.height = CHART - 22
    plot.yaxis.ticker = BasicTicker(desired_num_ticks=2, num_minor_ticks=0, min_interval=1)
    plot.xgrid.grid_line_color = None
    for area, bottom, top in areas:
        plot.quad("left", "right", top, bottom, source=source, line_color=None, name=area)
    return plot


def _tasks(name: str) -> figure:
    """Waiting and running by task: a line from 10 to 90 %, a bar over the middle half, a mark at the median."""
    plot = figure(
        **_BARE,
        name=f"{name}-chart-tasks",
        title="Waiting and running by task",
        height=CHART,
        x_axis_type="log",
        x_range=Range1d(start=0.001, end=10, name=f"{name}-seconds"),
        y_range=FactorRange(factors=[], name=f"{name}-names"),
    )
    for side, shift in (("waited", 0.16), ("ran", -0.16)):
        place = dodge("y", shift, range=plot.y_range)
        part = ColumnDataSource({column: [] for column in TIMES}, name=f"{name}-tasks-{side}")
        plot.segment("low", place, "high", place, source=part, line_color="fill", line_width=1)
        plot.hbar(place, left="q1", right="q3", height=0.26, source=part, fill_color="fill", line_color=None)
        plot.scatter("mid", place, source=part, marker="circle", size=6, line_color="fill", line_width=2, name="median")
    plot.xaxis.ticker = FixedTicker(ticks=[float(each) for each in _DURATIONS], minor_ticks=[])
    plot.xaxis.major_label_overrides = dict(_DURATIONS)
    plot.yaxis.major_tick_line_color = None
    plot.ygrid.grid_line_color = None
    return plot


def _time_axis(plot: figure) -> None:
    seconds: dict[str, Any] = dict.fromkeys(("milliseconds", "seconds", "minsec"), "%H:%M:%S")
    minutes: dict[str, Any] = dict.fromkeys(("minutes", "hourmin", "hours"), "%H:%M")
    plot.xaxis.formatter = DatetimeTickFormatter(**seconds, **minutes, days="%a %d %b", months="%d %b")
    plot.xaxis.ticker = DatetimeTicker(num_minor_ticks=0, desired_num_ticks=6)
