"""`Timeline`: what each worker did when, one bar an attempt, and what was waited for, live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import panel as pn
import param
from bokeh.util.serialization import make_globally_unique_id
from panel.custom import JSComponent

from jobkit.ui import assets
from jobkit.ui.asked import obey
from jobkit.ui.bridge import SessionBridge
from jobkit.ui.desk import Desk
from jobkit.ui.own import SelfContained
from jobkit.ui.page import PageSession
from jobkit.ui.timeline_feed import Looking
from jobkit.ui.timeline_plot import figures
from jobkit.ui.timeline_series import RANGES_MS

if TYPE_CHECKING:
    from jobkit.client import Kit

#: What may be looked at; the first is what a page begins with.
RANGES = ("fit", *RANGES_MS)

_SCROLLED = {"overflow-y": "auto", "overflow-x": "hidden", "min-height": "0"}


class TimelineHead(SelfContained, JSComponent):
    """The lines above the figures, which also fills and colours them.

    Attributes:
        name_of: what the names of the figures' models begin with.
        range: one of `RANGES`. page, delta, series: see `TimelineFeed`.
        request: what the browser asks for.
    """

    name_of = param.String(default="")
    range: Any = param.Selector(default="fit", objects=list(RANGES))
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
        on_open: called in the session with the id of the job whose bar was clicked.
        on_range: called in the session with the range that was chosen.
        is_open: whether it reads at once; see `pause`.
        desk: of the session, which knows who looks: some see their own jobs alone.
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
        on_open: Callable[[str], object] | None = None,
        on_range: Callable[[str], object] | None = None,
        is_open: bool = True,
        desk: Desk | None = None,
        bridge: SessionBridge | None = None,
        **params: Any,
    ) -> None:
        if range not in RANGES:
            raise ValueError(f"range must be one of {', '.join(RANGES)}, not {range!r}")
        name = f"jk-{make_globally_unique_id()}"
        self._head = TimelineHead(name_of=name, range=range, sizing_mode="stretch_width", margin=0)
        plots = pn.pane.Bokeh(  # type: ignore[no-untyped-call]
            figures(name), sizing_mode="stretch_width", margin=(0, 8)
        )
        super().__init__(self._head, plots, **{"margin": 0, "styles": _SCROLLED, **params})
        self._kit = kit
        self._desk = desk or Desk(kit)
        self._on_open = on_open
        self._on_range = on_range
        self._bridge = bridge or SessionBridge()
        self._looking: Looking | None = None
        self._generation = 0
        self._bridge.on_close(self.pause)
        obey(self._head, self._bridge, self._do)
        if is_open:
            self.resume()

    def turn(self, range: str) -> None:
        """Turn to another range; one that is none is left alone."""
        if range in RANGES and range != self._head.range:
            self._head.range = range
            if self._looking is not None:
                self._looking.look(range)

    def mark(self, job_id: str) -> None:
        """Mark the bars of a job."""
        self._head.selected = job_id

    def pause(self) -> None:
        """Nobody looks: read nothing until `resume`."""
        self._generation += 1
        if self._looking is not None:
            self._looking.stop()
            self._looking = None

    def resume(self) -> None:
        """Somebody looks again."""
        if self._looking is not None or not self._bridge.is_open:
            return
        self._generation += 1
        generation = self._generation

        def deliver(whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
            if generation == self._generation:  # which is there before the first delivery may come, in another thread
                self._bridge.put(self._head, whole, parts)

        self._looking = Looking(self._kit, self._head.range, deliver, self._desk.person.only_owner)

    # -- requests of the browser, in the session --------------------------------------------------------------------

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "hello" and self._looking is not None:
            at = asked.get("at", 0)
            self._looking.resend(at if isinstance(at, int) else 0)
        elif action == "open" and self._on_open is not None:
            self._on_open(str(asked.get("id", ""))[:200])
        elif action == "range" and asked.get("range") in RANGES:
            self.turn(asked["range"])
            if self._on_range is not None:
                self._on_range(asked["range"])


def page(session: PageSession) -> Timeline:
    """`range`: what is looked at."""

    def chosen(range: str) -> None:
        session.remember(range="" if range == "fit" else range)

    wanted = session.query.get("range", "")
    made = Timeline(
        session.kit,
        range=wanted if wanted in RANGES else "fit",
        on_open=session.open,
        on_range=chosen,
        is_open=False,
        desk=session.desk,
        bridge=session.bridge,
        sizing_mode="stretch_both",
    )
    session.on_shown(made.resume)
    session.on_hidden(made.pause)
    session.on_query(lambda query: made.turn(query.get("range", "") or "fit"))
    session.on_job(made.mark)
    made.mark(session.job)
    return made
