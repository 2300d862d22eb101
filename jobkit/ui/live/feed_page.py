"""`FeedPage`: a page that shows what a `TextFeed` reads: workers, schedules, failures, the audit log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.model import JobEvent, JobkitError
from jobkit.model.plain import dumps, iso
from jobkit.ui.access.actions import ActionReply, Actions
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.component import Component
from jobkit.ui.live.control import on_request
from jobkit.ui.live.shared_feed import S, SharedFeed, Subscriber

if TYPE_CHECKING:
    from jobkit.client import Kit


logger = logging.getLogger("jobkit.ui")


class TextFeed(SharedFeed[S]):
    """Data of a page as JSON, read every `LOOK_S` seconds and soon after each event that `is_news`.

    It is delivered as the text `NAME` when anything but its time (`now`) has changed.
    """

    NAME = "picture"
    LOOK_S = 2.0
    WINDOW_S = 0.4

    _body = _told = _text = ""

    def is_news(self, event: JobEvent) -> bool:
        """Return True if the page looks different after the event."""
        return not event.type.is_news

    async def data(self) -> dict[str, Any]:
        """Read the store and return the data, not empty; `now` is this machine's time unless given."""
        return {}

    async def read(self) -> None:
        data = await self.data()
        now = data.pop("now", iso(datetime.now(UTC)))
        self._body = dumps(data)
        self._text = f'{self._body[:-1]},"now":"{now}"}}'

    def loaded(self) -> None:
        if self._body != self._told:
            self._told = self._body
            self.publish({self.NAME: self._text})

    def failed(self, error: Exception) -> None:
        if not isinstance(error, JobkitError):
            raise error
        logger.debug("%s could not read: %s", type(self).__name__, error)  # it tries again in `LOOK_S` seconds

    def take(self, event: JobEvent) -> None:
        if self.is_news(event):
            self.poke()

    def flush(self) -> None:
        self.reload()

    def tell(self, subscriber: S, version: Any = None) -> None:
        if self._text:
            subscriber.deliver({self.NAME: self._text}, {})


class LivePage(Component, JSComponent):
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
