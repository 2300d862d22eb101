"""`Timeline`: the attempts of each worker as bars, with their waiting time, live; `TimelineFeed`: its data.

The figures are empty here: `timeline.js` fills their sources from the texts that all sessions share. So the server
keeps no data of a plot, and a session costs no more than the text. Colours, fonts and the height of the lanes are set
in the browser, too, from the tokens of the theme that it shows. All times on the axes are local: the browser adds the
offset that its zone has at that time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
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
from msgspec.structs import replace

from jobkit.client.kit import Kit
from jobkit.features.timeline.bars import ATTEMPTS, RANGES_MS, TaskColours, TimelineModel, fit, series
from jobkit.model import ENDS, JobEvent, JobSnapshot
from jobkit.model.plain import dumps, now_ms, to_ms
from jobkit.store.grammar import COUNTERS
from jobkit.store.query import Query, QueryPage, is_pattern
from jobkit.tasks.info import defaults_of
from jobkit.ui.app.fed import fed
from jobkit.ui.live.page import Page
from jobkit.ui.live.search import SearchedPage
from jobkit.ui.live.shared_feed import QueryFeed, Subscriber

#: Seconds between two counts of the series, at least.
_SERIES_S = 1.0

#: The same for those of some of the jobs, which cost more.
_NARROW_SERIES_S = 3.0

#: Ended jobs that are read at once.
_READ = 200

#: Waiting jobs whose time of submission is known.
_WAITING = 500

#: New jobs that may wait to be read.
_OUTSTANDING = 2_000

#: What may be looked at; the first is what a page begins with.
RANGES = ("fit", *RANGES_MS)

#: What the lanes stand for; the first is what a page begins with.
LANES = ("worker", "task", "batch")

_SCROLLED = {"overflow-y": "auto", "overflow-x": "hidden", "min-height": "0"}


@dataclass(eq=False, slots=True)
class TimelineSubscriber(Subscriber):
    """One timeline; `range` is one of `RANGES_MS`, or "fit"."""

    range: str = "fit"


class TimelineFeed(QueryFeed[TimelineSubscriber]):
    """Delivers `series` as well, as a whole text."""

    LOOK_S = 15.0
    MODEL = TimelineModel

    def __init__(self, kit: Kit, query: Query, only: str | None = None) -> None:
        super().__init__(kit, query, only)
        self._skew_ms = 0
        self._counted: dict[str, str] = {}  # the newest series by range, for subscribers that come before the next

    def now(self) -> int:
        """Return the time of this machine's clock, but never before an event that has been received."""
        return now_ms() + self._skew_ms

    def count_s(self) -> float:
        return _NARROW_SERIES_S if self.model.is_narrow else _SERIES_S

    def tell(self, subscriber: TimelineSubscriber, version: Any = None) -> None:
        super().tell(subscriber, version)
        counted = self._counted.get(subscriber.range)
        if counted and version != self.n:
            subscriber.deliver({"series": counted}, {})
        self.recount()

    # -- what is read --------------------------------------------------------------------------------------------------

    async def read(self) -> None:
        if not self.query.is_plain:
            self.kit.verbs.use_index()
        self.searched = None
        tasks = await self.kit.aio.tasks()
        self.model.defaults, self.model.colours = defaults_of(tasks), TaskColours(tasks)
        await self._look_at_queues()
        jobs, since_ms, depth_since_ms = await self._read_jobs()
        self.model.load(jobs, since_ms, self.model.queued, depth_since_ms)

    def loaded(self) -> None:
        super().loaded()
        self.recount()

    async def _page(self, states: tuple[str, ...], limit: int, cursor: str = "") -> QueryPage:
        """Return some of the jobs in these states that the query finds."""
        asked = self.query.states
        wanted = tuple(state for state in states if not asked or state in asked)
        if not wanted:
            return QueryPage(())
        read = await self.kit.verbs.page(replace(self.query, states=wanted, limit=limit, cursor=cursor, order=""))
        if read.searched is not None:
            self.searched = read.searched
        return read

    async def _look_at_queues(self) -> None:
        if not self.model.is_narrow:
            self.model.queued = (await self.kit.verbs.counts()).get("queued", 0)
        elif is_pattern(self.only or "") or (self.query.states and "queued" not in self.query.states):
            self.model.queued = 0  # a name, and no pattern: others' jobs are not to be counted
        elif (count := await self.kit.verbs.count(replace(self.query, states=("queued",)))) is not None:
            self.model.queued = count

    async def _read_jobs(self) -> tuple[list[JobSnapshot], int | None, int]:
        """Return the newest jobs, and the times (ms) before which ended and waiting ones are missing."""
        found: list[JobSnapshot] = []
        depth_since_ms = 0
        for state, limit in (("running", _WAITING), ("scheduled", 100), ("queued", _WAITING)):
            read = await self._page((state,), limit)
            found += read.jobs
            if state == "queued" and read.next_cursor and read.jobs:
                depth_since_ms = to_ms(read.jobs[-1].submitted_at)
        since_ms, cursor, attempts = None, "", 0
        oldest_ms = self.now() - RANGES_MS["24h"]
        while attempts < ATTEMPTS:
            read = await self._page(COUNTERS["ended"], _READ, cursor)
            found += read.jobs
            attempts += sum(max(1, snapshot.attempt) for snapshot in read.jobs)
            cursor = read.next_cursor
            if not cursor or all(to_ms(job.finished_at) < oldest_ms for job in read.jobs):
                break
            since_ms = to_ms(read.jobs[-1].submitted_at) if read.jobs and attempts >= ATTEMPTS else None
        return found, since_ms, max(depth_since_ms, since_ms or 0)

    # -- what is delivered ---------------------------------------------------------------------------------------------

    def take(self, event: JobEvent) -> None:
        if not event.type.is_news:
            self._skew_ms = max(self._skew_ms, event.at_ms - now_ms())
            self.model.take(event)
            self.poke()
            self.recount()

    def look(self) -> None:
        self.recount()
        if self.query.is_aging:
            self.reload()

    def flush(self) -> None:
        if len(self.model.unknown) > _OUTSTANDING:
            self.model.skip(self.now())
        super().flush()

    async def count(self) -> None:
        await self._look_at_queues()
        workers = () if self.model.is_narrow else await self.kit.verbs.store.workers()
        slots = sum(worker.slots for worker in workers if worker.takes_jobs)
        self._counted = {}
        for subscriber in list(self.subscribers):
            if subscriber.range not in self._counted:
                self._counted[subscriber.range] = self._series(subscriber.range, slots)
            subscriber.deliver({"series": self._counted[subscriber.range]}, {})

    def _series(self, name: str, slots: int) -> str:
        end_ms = self.now()
        span_ms = RANGES_MS.get(name)
        start_ms = fit(self.model.all_bars(), end_ms, self.model.since_ms) if span_ms is None else end_ms - span_ms
        return dumps({"range": name, "slots": slots, "now": end_ms, **series(self.model, start_ms, end_ms)})


# -- the component -----------------------------------------------------------------------------------------------------


class TimelineHead(SearchedPage):
    """The lines above the figures, which also fills and colours them.

    Args:
        kit, on_open, bridge, access: as of `LivePage`.

    Attributes:
        name_of: what the names of the figures' models begin with.
        range: one of `RANGES`. lanes: one of `LANES`. page, delta, series: see `TimelineFeed`.
        selected: id of the job whose bars are marked.
    """

    FEED = TimelineFeed

    name_of = param.String(default="")
    range: Any = param.Selector(default="fit", objects=list(RANGES))
    lanes: Any = param.Selector(default="worker", objects=list(LANES))
    selected = param.String(default="")
    page = param.String(default="")
    delta = param.String(default="")
    series = param.String(default="")

    part_of: ClassVar[Mapping[str, str]] = {"page": "delta"}

    MODULE = "timeline"

    def __init__(self, kit: Kit, **params: Any) -> None:
        super().__init__(kit, **params)
        self.param.watch(lambda *_: self._follow(), ["range", "search"])

    def _feeds(self) -> list[tuple[Any, ...]]:
        query, self.problem = self.query_of()
        return [(TimelineFeed, Query(states=("none",)) if self.problem else query, self._access.person.only_owner)]

    def _subscriber(self) -> TimelineSubscriber:
        return TimelineSubscriber(self._deliver, self.range)

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "range" and asked.get("range") in RANGES:
            self.range = asked["range"]
        elif action == "lanes" and asked.get("lanes") in LANES:
            self.lanes = asked["lanes"]
        elif action == "search":
            self.search = str(asked.get("text", ""))[:500]


class Timeline(pn.Column):
    """A kit's timeline.

    Args:
        kit: whose jobs.
        range: "fit" (all that is kept), "15m", "1h", "6h" or "24h".
        lanes: what a lane stands for: "worker", "task" or "batch".
        search: which jobs, as in the search box of the jobs: "task:train state:failed".
        on_open, bridge, access, is_open: as of `LivePage`.

    Attributes:
        head: the component above the figures, which has range and search text.

    Raises:
        ValueError: no such range.

    Example:
        >>> timeline = Timeline(kit, range="1h", lanes="task", search="state:failed")
        >>> layout = pn.Column("# Failures", timeline)
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


_HEAD = ("range", "lanes", "search", "on_open", "bridge", "access", "is_open")


# -- the figures -------------------------------------------------------------------------------------------------------

#: What is written on bars, by what it is written on: each in one colour, since Bokeh may ask for those of labels that
#: have gone while it takes new ones, and fail if they stand in a column.
LABELS = ("label", "label_dark", "label_failed", "label_quiet")

#: Textures of `TaskColours` from 1, with Bokeh's names of them.
TEXTURES = {"texture-1": "/", "texture-2": "."}

#: What the browser fills: columns of each source, by name.
SOURCES: dict[str, tuple[str, ...]] = {
    "waits": ("y", "left", "right", "fill"),
    "bars": ("y", "left", "right", "fill", "line", "alpha"),
    **dict.fromkeys(LABELS, ("x", "y", "text")),
    **dict.fromkeys(TEXTURES, ("y", "left", "right")),
    "joins": ("x0", "y0", "x1", "y1"),
    "fails": ("x", "y"),
    "due": ("x", "y"),
    "now": ("x",),
    "ends": ("left", "right", *(f"to_{n}" for n in range(len(ENDS) + 1))),
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

#: Many lanes are taller than the page, to which Bokeh would shrink them.
_TALL = {"max-height": "none"}

_BARE: dict[str, Any] = {
    "toolbar_location": None,
    "tools": "",
    "sizing_mode": "stretch_width",
    "min_border_right": 30,
    "min_border_top": 4,
    "background_fill_alpha": 0,
    "border_fill_alpha": 0,
    "outline_line_color": None,
    "styles": _TALL,
}

#: Areas of the jobs that ended, one upon the other.
_ENDS = tuple((str(end), f"to_{n}", f"to_{n + 1}") for n, end in enumerate(ENDS))

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
    return column(*parts, sizing_mode="stretch_width", name=f"{name}-all", spacing=8, styles=_TALL)


def _lanes(name: str, x_range: Range1d, sources: dict[str, ColumnDataSource]) -> figure:
    pan, wheel = PanTool(dimensions="width"), WheelZoomTool(dimensions="width", modifiers={"ctrl": True})
    plot = figure(
        **_BARE,
        name=f"{name}-lanes",
        height=CHROME + LANE,
        x_range=x_range,
        y_range=FactorRange(factors=[], name=f"{name}-y"),
        x_axis_type="datetime",
        stylesheets=[":host(:focus-visible) { outline: 2px solid var(--jk-accent); outline-offset: -2px; }"],
    )
    plot.add_tools(pan, wheel)
    plot.toolbar.active_drag = pan
    plot.toolbar.active_scroll = wheel
    # In units of a lane: 8 px of waiting, 16 px of running.
    sides: dict[str, Any] = {"y": "y", "left": "left", "right": "right"}
    plot.hbar(**sides, height=8 / LANE, source=sources["waits"], fill_color="fill", line_color=None)
    plot.segment("x0", "y0", "x1", "y1", source=sources["joins"], name="join", line_width=1.5)
    colours: dict[str, Any] = {"fill_color": "fill", "fill_alpha": "alpha", "line_color": "line"}
    plot.hbar(**sides, height=16 / LANE, source=sources["bars"], **colours)
    look: dict[str, Any] = {"fill_color": None, "line_color": None, "hatch_alpha": 0.45, "hatch_scale": 7}
    for name, pattern in TEXTURES.items():  # Bokeh makes a picture for each bar unless all have one pattern
        plot.hbar(**sides, height=16 / LANE, source=sources[name], name=name, hatch_pattern=pattern, **look)
    text: dict[str, Any] = {"x_offset": 5, "text_font_size": "11px", "text_baseline": "middle"}
    for label in LABELS:
        plot.text("x", "y", "text", source=sources[label], name=label, **text)
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


PAGE = Page(
    "timeline",
    "Timeline",
    partial(fed, Timeline, url={"q": "search", "range": "range", "lanes": "lanes"}),
    own_too=True,
    keys=(
        ("/", "search"),
        ("← →  ↑ ↓", "next bar, next lane"),
        ("j  k", "attempt before, after"),
        ("Enter", "open its job"),
        ("+  −  0", "zoom in, out, back to now"),
    ),
)
