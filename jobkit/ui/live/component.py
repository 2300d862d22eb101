"""`Component`: base of all Panel components here; `LivePage`, `FeedPage`: those that show feeds; `Notice`: a sentence.

Panel gives every component links to its own style sheets: on its server's address inside `panel serve`, on a CDN
everywhere else, also for a window whose session is made anew after a long absence. jobkit's components need none, and
make those beside them ask this server.

A browser pulls the document first and says later that it is ready. What a parameter became between the two reaches it
never: Panel drops such changes, since "the Document is serialized in full once the session connects"
(`panel.io.document._drain_unconnected_events`). So they are sent once more when it is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

import panel as pn
import param
from bokeh.document.events import ModelChangedEvent
from panel.custom import JSComponent
from panel.io.resources import LOCAL_DIST

import jobkit.ui.panel_server as panel_server  # which must be loaded before the first request
from jobkit.client.kit import Kit
from jobkit.model.plain import dumps
from jobkit.ui.access.actions import ActionReply, Actions
from jobkit.ui.live.bridge import SessionBridge, send_beats
from jobkit.ui.live.control import on_request
from jobkit.ui.live.shared_feed import SharedFeed, Subscriber
from jobkit.ui.patch import ComponentHooks, models_of, send_changes, session_of
from jobkit.ui.words import assets


class Component(ComponentHooks, JSComponent):
    """Base of all components; see the module's docstring.

    Attributes:
        MODULE: name of its script and style sheet, see `assets.esm`.
        fills_page: whether a dashboard gives it the whole page; it then has own margins and scrolls by itself.
        beat: set by the browser that shows the component; then changes in that browser alone, see `send_beats`.
    """

    beat = param.String(default="")

    MODULE: ClassVar[str] = ""
    fills_page: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "MODULE" in vars(cls):
            cls._esm, cls._stylesheets = assets.esm(cls.MODULE), [assets.css(cls.MODULE)]
        if cls.__module__.startswith("jobkit.") and cls._esm:
            assets.publish(cls.__name__, str(cls._esm), cls._stylesheets)

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
            own = self.values().keys() - {"beat"}
            self.param.watch(lambda *events: moved.update(event.name for event in events), [*own])
            pn.state.onload(lambda: self._tell_again(moved - self.carried))

    def values(self) -> dict[str, Any]:
        """Return what its script reads."""
        return {name: getattr(self, name) for name in self.param if name not in JSComponent.param}

    def _module_url(self) -> str:
        prefix = panel_server.modules_prefix()
        if prefix is None or self.stylesheets or not type(self).__module__.startswith("jobkit."):
            return ""
        return prefix + assets.module_url(type(self).__name__)

    def _tell_again(self, names: set[str]) -> None:
        for model in models_of(self) or ():
            if (session := session_of(model.document)) is not None:
                data, document = model.data, model.document
                changed = [ModelChangedEvent(document, data, name, getattr(data, name)) for name in sorted(names)]
                send_changes(session, changed)


class Notice(Component):
    """One thing to say.

    Attributes:
        said: in a few words, "" for nothing. more: in a sentence. lines: commands to type.
        is_banner: whether it is a line above other content, and also says when the server does not answer.
    """

    said = param.String(default="")
    more = param.String(default="")
    lines = param.List(default=[], item_type=str)
    is_banner = param.Boolean(default=False)

    MODULE = "notice"

    def __init__(self, said: str = "", more: str = "", lines: Sequence[str] = (), *, is_banner: bool = False) -> None:
        look = {"sizing_mode": "stretch_width", "styles": {"flex": "none"}} if is_banner else {}
        shown = {"sizing_mode": "stretch_both", **look, "said": said, "more": more, "lines": list(lines)}
        super().__init__(margin=0, is_banner=is_banner, **shown)


class LivePage(Component):
    """A component that is fed while its page is shown.

    Args:
        kit: whose data.
        on_open: called in the session with the id of the job that was clicked.
        bridge, access: of the session, where the caller already has them.

    Attributes:
        FEED: its feed, if it has one.
        is_open: whether the page is shown; only then is anything read.
        request: the browser's newest request.
    """

    FEED: ClassVar[type[SharedFeed[Any]] | None] = None

    is_open = param.Boolean(default=True)
    request = param.String(default="")

    part_of: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        kit: Kit,
        *,
        on_open: Callable[[str], object] | None = None,
        bridge: SessionBridge | None = None,
        access: Actions | None = None,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self._kit = kit
        self._access = access or Actions(kit)
        self._on_open = on_open
        self._bridge = bridge or SessionBridge()
        self._is_hidden = False  # its tab of the browser
        self._subscribers: list[Subscriber] = []
        self._bridge.on_close(self._follow)
        on_request(self, self._bridge, self._do)
        self.param.watch(lambda _: self._follow(), "is_open")
        self._follow()

    def changing(self) -> AbstractContextManager[object]:
        return self._bridge.changing()

    def _feeds(self) -> list[tuple[Any, ...]]:
        """Return the feeds that the page shows: the class and the key of each."""
        return [] if self.FEED is None else [(self.FEED,)]

    def _subscriber(self) -> Subscriber:
        return Subscriber(self._deliver)

    def _follow(self) -> None:
        """Subscribe to `_feeds` while the page is shown, else to none."""
        old = self._subscribers
        wanted = self._feeds() if self.is_open and not self._is_hidden and self._bridge.is_open else []
        self._subscribers = [self._subscriber().start(self._kit, kind, *key) for kind, *key in wanted]
        for subscriber in old:  # after the new ones have begun, so that a feed of both goes on
            subscriber.stop()

    def stop(self) -> None:
        """Read nothing more: the component is not shown any more."""
        for subscriber in self._subscribers:
            subscriber.stop()

    def _deliver(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
        self._bridge.put(self, whole, parts)

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        """Handle a request of the browser, in the session."""
        if action == "hello":
            for subscriber in self._subscribers:
                subscriber.resend(asked.get("at"))
        elif action == "open" and self._on_open is not None:
            self._on_open(str(asked.get("id", ""))[:200])
        elif action in ("hidden", "visible"):
            self._is_hidden = action == "hidden"
            self._follow()
        else:
            self._act(action, asked)

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        """Handle a request that only this page knows."""


class FeedPage(LivePage):
    """A page that shows what a `TextFeed` reads, with actions.

    Attributes:
        ACTIONS: what the browser may ask for, each with the `id` of its target.
        picture: what the browser shows. notice: outcome of the last action, JSON.
        actions: those of `ACTIONS` that the person may do.
    """

    ACTIONS: ClassVar[tuple[str, ...]] = ()

    picture = param.String(default="")
    notice = param.String(default="")
    actions = param.List(default=[], item_type=str)

    def __init__(self, kit: Kit, *, access: Actions | None = None, **params: Any) -> None:
        access = access or Actions(kit)
        self._notices = 0
        super().__init__(kit, access=access, actions=list(filter(access.may, self.ACTIONS)), **params)

    # -- requests of the browser, in the session -----------------------------------------------------------------------

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action in self.ACTIONS:
            id = str(asked.get("id", ""))[:200]
            self._access.begin(action, [id], partial(self._acted, action, id), **self._details(action, asked))
        else:
            super()._do(action, asked)

    def _details(self, action: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the other arguments of an action."""
        return {}

    def _acted(self, action: str, id: str, reply: ActionReply) -> None:
        """On the background loop."""
        self._say(text=reply.problem, level="error")

    def _say(self, **notice: str) -> None:
        """Show a notice: `text` ("" for none), `level` ("info", "error") and `undo`; from any thread."""
        self._notices += 1
        text = dumps({**notice, "n": self._notices})  # the same sentence twice is told twice
        self._bridge.push(lambda: self.param.update(notice=text))
