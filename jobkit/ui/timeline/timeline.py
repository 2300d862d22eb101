"""`Timeline`: the attempts of each worker as bars, with their waiting time, live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import panel as pn
import param
from bokeh.util.serialization import make_globally_unique_id

from jobkit.store.grammar import HELP, read_search
from jobkit.store.query import Query
from jobkit.ui.access.actions import Actions
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.feed_page import LivePage
from jobkit.ui.live.page import PageSession
from jobkit.ui.timeline.timeline_feed import TimelineFeed, TimelineSubscriber
from jobkit.ui.timeline.timeline_model import RANGES_MS
from jobkit.ui.timeline.timeline_plot import figures
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client import Kit

#: What may be looked at; the first is what a page begins with.
RANGES = ("fit", *RANGES_MS)

_SCROLLED = {"overflow-y": "auto", "overflow-x": "hidden", "min-height": "0"}


class TimelineHead(LivePage):
    """The lines above the figures, which also fills and colours them.

    Args:
        kit, on_open, bridge, access: as of `LivePage`.
        on_look: called in the session when range or search text have changed here.

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

    def __init__(self, kit: Kit, *, on_look: Callable[[], object] | None = None, **params: Any) -> None:
        super().__init__(kit, **params)
        self._on_look = on_look
        self.param.watch(lambda *_: self._follow(), ["range", "search"])

    def _feeds(self) -> list[tuple[Any, ...]]:
        query, self.problem = read_search(self.search)
        return [(TimelineFeed, Query(states=("none",)) if self.problem else query, self._access.person.only_owner)]

    def _subscriber(self) -> TimelineSubscriber:
        return TimelineSubscriber(self._deliver, self.range)

    def turn(self, range: str, search: str) -> None:
        """Turn to another range, if it is valid, and to the jobs that a search text finds."""
        self.param.update(range=range if range in RANGES else self.range, search=search[:500])

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        if action in ("range", "search"):
            self.turn(str(asked.get("range", self.range)), str(asked.get("text", self.search)))
            if self._on_look is not None:
                self._on_look()


class Timeline(pn.Column):
    """A kit's timeline.

    Args:
        kit: whose jobs.
        range: "fit" (all that is kept), "15m", "1h", "6h" or "24h".
        search: which jobs, as in the search box of the jobs: "task:train state:failed".
        on_open, bridge, access, is_open: as of `LivePage`.
        on_look: see `TimelineHead`.

    Attributes:
        head: the component above the figures, which has range and search text.

    Raises:
        ValueError: no such range.
    """

    fills_page: ClassVar[bool] = True

    def __init__(
        self,
        kit: Kit,
        *,
        range: str = "fit",
        search: str = "",
        on_open: Callable[[str], object] | None = None,
        on_look: Callable[[], object] | None = None,
        is_open: bool = True,
        access: Actions | None = None,
        bridge: SessionBridge | None = None,
        **params: Any,
    ) -> None:
        name = f"jk-{make_globally_unique_id()}"
        told: dict[str, Any] = {"range": range, "search": search, "is_open": is_open, "sizing_mode": "stretch_width"}
        self.head = TimelineHead(
            kit, on_open=on_open, on_look=on_look, access=access, bridge=bridge, name_of=name, margin=0, **told
        )
        plots = pn.pane.Bokeh(  # type: ignore[no-untyped-call]
            figures(name), sizing_mode="stretch_width", margin=(0, 8)
        )
        super().__init__(self.head, plots, **{"margin": 0, "styles": _SCROLLED, **params})


def page(session: PageSession) -> Timeline:
    """`q`: the search text. `range`: the shown range."""

    def look() -> None:
        session.remember_search(head.search, range="" if head.range == "fit" else head.range)

    wanted = session.query.get("range", "")
    made = Timeline(
        session.kit,
        range=wanted if wanted in RANGES else "fit",
        search=session.query.get("q", ""),
        on_open=session.open,
        on_look=look,
        is_open=False,
        access=session.access,
        bridge=session.bridge,
        sizing_mode="stretch_both",
    )
    head = made.head
    head.selected = session.job
    session.on_shown(lambda: head.param.update(is_open=True))
    session.on_hidden(lambda: head.param.update(is_open=False))
    session.on_query(lambda query: head.turn(query.get("range", "") or "fit", query.get("q", "")))
    session.on_job(lambda job_id: head.param.update(selected=job_id))
    return made
