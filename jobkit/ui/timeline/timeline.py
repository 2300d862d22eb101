"""`Timeline`: the attempts of each worker as bars, with their waiting time, live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import panel as pn
import param
from bokeh.util.serialization import make_globally_unique_id
from panel.custom import JSComponent

from jobkit.store.grammar import HELP, read_search
from jobkit.store.query import Query
from jobkit.ui.access.actions import Actions
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.browser_requests import on_request
from jobkit.ui.live.component import Component
from jobkit.ui.live.page import PageSession
from jobkit.ui.live.shared_feed import FeedSubscription
from jobkit.ui.timeline.timeline_feed import TimelineFeed, TimelineSubscriber
from jobkit.ui.timeline.timeline_model import RANGES_MS
from jobkit.ui.timeline.timeline_plot import figures
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client import Kit

#: What may be looked at; the first is what a page begins with.
RANGES = ("fit", *RANGES_MS)

_SCROLLED = {"overflow-y": "auto", "overflow-x": "hidden", "min-height": "0"}


class TimelineHead(Component, JSComponent):
    """The lines above the figures, which also fills and colours them.

    Attributes:
        name_of: what the names of the figures' models begin with.
        range: one of `RANGES`. page, delta, series: see `TimelineFeed`.
        search: the search text, see `store.grammar`. problem: what is wrong with it. help: the lines of its help.
        request: the browser's newest request.
    """

    name_of = param.String(default="")
    range: Any = param.Selector(default="fit", objects=list(RANGES))
    search = param.String(default="")
    problem = param.String(default="")
    help = param.List(default=[])
    selected = param.String(default="")
    page = param.String(default="")
    delta = param.String(default="")
    series = param.String(default="")
    request = param.String(default="")

    part_of: ClassVar[Mapping[str, str]] = {"page": "delta"}

    _esm = assets.esm("timeline")
    _stylesheets: ClassVar[list[str]] = [assets.css("timeline")]


class Timeline(pn.Column):
    """A kit's timeline.

    Args:
        kit: whose jobs.
        range: "fit" (all that is kept), "15m", "1h", "6h" or "24h".
        search: which jobs, as in the search box of the jobs: "task:train state:failed".
        on_open: called in the session with the id of the job whose bar was clicked.
        on_look: called in the session when range or search text have changed here.
        is_open: whether it reads at once; see `pause`.
        access: of the session; some people see their own jobs alone.
        bridge: of the session, where the caller already has one.

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
        if range not in RANGES:
            raise ValueError(f"range must be one of {', '.join(RANGES)}, not {range!r}")
        name = f"jk-{make_globally_unique_id()}"
        told: dict[str, Any] = {"range": range, "search": search, "help": [list(line) for line in HELP]}
        self._head = TimelineHead(name_of=name, **told, sizing_mode="stretch_width", margin=0)
        plots = pn.pane.Bokeh(  # type: ignore[no-untyped-call]
            figures(name), sizing_mode="stretch_width", margin=(0, 8)
        )
        super().__init__(self._head, plots, **{"margin": 0, "styles": _SCROLLED, **params})
        self._kit = kit
        self._access = access or Actions(kit)
        self._on_open = on_open
        self._on_look = on_look
        self._bridge = bridge or SessionBridge()
        self._looking: FeedSubscription[TimelineFeed, TimelineSubscriber] | None = None
        self._bridge.on_close(self.pause)
        on_request(self._head, self._bridge, self._do)
        if is_open:
            self.resume()

    @property
    def range(self) -> str:
        """The shown range."""
        return str(self._head.range)

    @property
    def search(self) -> str:
        """The search text."""
        return str(self._head.search)

    def turn(self, range: str, search: str) -> None:
        """Turn to another range, if it is valid, and to the jobs that a search text finds."""
        if range in RANGES and range != self.range:
            self._head.range = range
            if self._looking is not None:
                subscriber = self._looking.subscriber
                self._looking.ask(lambda feed: feed.turn(subscriber, range))
        if search[:500] != self.search:
            self._head.search = search[:500]
            if self._looking is not None:
                self.pause()
                self.resume()

    def mark(self, job_id: str) -> None:
        """Mark the bars of a job."""
        self._head.selected = job_id

    def pause(self) -> None:
        """Stop reading until `resume`: the page is hidden."""
        if self._looking is not None:
            self._looking.stop()
            self._looking = None

    def resume(self) -> None:
        """Read again: the page is shown."""
        if self._looking is not None or not self._bridge.is_open:
            return

        query, self._head.problem = read_search(self.search)
        query = Query(states=("none",)) if self._head.problem else query
        subscriber = TimelineSubscriber(partial(self._bridge.put, self._head), self.range)
        only = self._access.person.only_owner
        self._looking = FeedSubscription(self._kit, TimelineFeed, subscriber, query, only).start()

    # -- requests of the browser, in the session --------------------------------------------------------------------

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "hello" and self._looking is not None:
            at = asked.get("at", 0)
            self._looking.resend(at if isinstance(at, int) else 0)
        elif action == "open" and self._on_open is not None:
            self._on_open(str(asked.get("id", ""))[:200])
        elif action in ("range", "search"):
            range, search = asked.get("range", self.range), asked.get("text", self.search)
            self.turn(str(range), str(search))
            if self._on_look is not None:
                self._on_look()


def page(session: PageSession) -> Timeline:
    """`q`: the search text. `range`: the shown range."""

    def look() -> None:
        session.remember_search(made.search, range="" if made.range == "fit" else made.range)

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
    session.on_shown(made.resume)
    session.on_hidden(made.pause)
    session.on_query(lambda query: made.turn(query.get("range", "") or "fit", query.get("q", "")))
    session.on_job(made.mark)
    made.mark(session.job)
    return made
