"""`Component`: base of all Panel components here; self-contained styles, and no update lost while a page loads.

Panel gives every component links to its own style sheets: on its server's address inside `panel serve`, on a CDN
everywhere else, also for a window whose session is made anew after a long absence. jobkit's components need none, and
make those beside them ask this server.

A browser pulls the document first and says later that it is ready. What a parameter became between the two reaches it
never: Panel drops such changes, since "the Document is serialized in full once the session connects"
(`panel.io.document._drain_unconnected_events`). So they are sent once more when it is ready.
"""

from __future__ import annotations

from typing import Any, ClassVar

import panel as pn
import param
from bokeh.document.events import ModelChangedEvent
from panel.custom import JSComponent
from panel.io.resources import LOCAL_DIST

from jobkit.ui import panel_server  # noqa: F401  # must be loaded before the first request
from jobkit.ui.live.bridge import send_beats
from jobkit.ui.patch import ComponentHooks, models_of, send_changes, session_of


class Component(ComponentHooks, param.Parameterized):
    """Mixed into a component of `panel.custom`.

    Attributes:
        fills_page: whether a dashboard gives it the whole page; it then has own margins and scrolls by itself.
        beat: set by the browser that shows the component; then changes in that browser alone, see `send_beats`.
    """

    beat = param.String(default="")

    fills_page: ClassVar[bool] = True

    def __init__(self, **params: Any) -> None:
        if not params.keys() & {"sizing_mode", "width"}:
            params["sizing_mode"] = "stretch_width"  # Panel's own default is as narrow as the browser can make it
        super().__init__(**params)  # type: ignore[no-untyped-call]  # param's
        self.carried: set[str] = set()
        """Parameters that a `SessionBridge` takes to the browser: that asks for them itself."""
        document: Any = pn.state.curdoc
        if document is None or document.session_context is None:
            return
        # Panel sets this only while it renders a page. A session that is made anew, for a window that was away for long
        # (a laptop that slept), has no such moment: without this, all components of the page would ask a CDN.
        prefix = f"{pn.state.rel_path}/" if pn.state.rel_path else ""
        document.template_variables.setdefault("dist_url", prefix + LOCAL_DIST)
        self.param.watch(lambda _: send_beats(document, self), "beat")
        if not pn.state.loaded:
            moved: set[str] = set()
            own = [name for name in self.param if name not in JSComponent.param and name != "beat"]
            self.param.watch(lambda *events: moved.update(event.name for event in events), own)
            pn.state.onload(lambda: self._tell_again(moved - self.carried))

    def _tell_again(self, names: set[str]) -> None:
        for model in models_of(self) or ():
            if (session := session_of(model.document)) is not None:
                data, document = model.data, model.document
                changed = [ModelChangedEvent(document, data, name, getattr(data, name)) for name in sorted(names)]
                send_changes(session, changed)
