"""`FeedPage`: a page that shows one text of a `TextFeed`: workers, schedules, the audit log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.model import JobEvent, JobkitError
from jobkit.ui.access.actions import ActionReply, Actions
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.browser_requests import on_request
from jobkit.ui.live.component import Component
from jobkit.ui.live.shared_feed import FeedSubscription, SharedFeed, Subscriber

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")


class TextFeed(SharedFeed[Subscriber]):
    """One text, `picture`, made anew every `LOOK_S` seconds, and soon after each event that `is_news`."""

    LOOK_S = 2.0
    WINDOW_S = 0.4

    def __init__(self, kit: Kit, *key: Any) -> None:
        super().__init__(kit)
        self._text = ""
        self._is_new = False

    def is_news(self, event: JobEvent) -> bool:
        """Return True if the page looks different after the event."""
        return not event.type.is_news

    async def text(self) -> str:
        """Read the store and return the text.

        Raises:
            JobkitError: the text could not be read; the next look tries again.
        """
        raise NotImplementedError

    async def read(self) -> None:
        before, self._text = self._text, await self.text()
        self._is_new = self._text != before

    def loaded(self) -> None:
        if self._is_new:
            self.publish({"picture": self._text})

    def failed(self, error: Exception) -> None:
        if not isinstance(error, JobkitError):
            raise error
        logger.debug("%s could not read: %s", type(self).__name__, error)  # the next look tries again

    def take(self, event: JobEvent) -> None:
        if self.is_news(event):
            self.poke()

    def flush(self) -> None:
        self.reload()

    def tell(self, subscriber: Subscriber, version: Any = None) -> None:
        if self._text:
            subscriber.deliver({"picture": self._text}, {})


class FeedPage(Component, JSComponent):
    """A page that is fed while it is open.

    Args:
        kit: whose.
        on_open: called in the session with the id of the job that was clicked.
        bridge, access: of the session, where the caller already has them.

    Attributes:
        FEED: what it shows.
        picture: what the browser shows. notice: a sentence about what did not work.
        may_act: whether anything may be done here, where the access allows it.
        is_open: whether the page is shown; only then is anything read.
    """

    FEED: ClassVar[type[TextFeed]] = TextFeed

    picture = param.String(default="")
    notice = param.String(default="")
    may_act = param.Boolean(default=True)
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
        self._access = access or Actions(kit)
        super().__init__(**self._allowed(params))
        self._kit = kit
        self._on_open = on_open
        self._bridge = bridge or SessionBridge()
        self._subscription = FeedSubscription(
            kit, self.FEED, Subscriber(lambda texts, _: self._bridge.put(self, texts))
        )
        self._bridge.on_close(self._subscription.stop)
        on_request(self, self._bridge, self._do)
        self.param.watch(lambda _: self._follow(), "is_open")
        self._follow()

    def _follow(self) -> None:
        if self.is_open and self._bridge.is_open:
            self._subscription.start()
        else:
            self._subscription.stop()

    def _allowed(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters, without those that `Actions` does not allow."""
        raise NotImplementedError

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        """Handle a request that only this page knows, in the session."""
        raise NotImplementedError

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "hello":
            self._subscription.resend()
        elif action != "open":
            self._act(action, asked)
        elif self._on_open is not None:
            self._on_open(str(asked.get("id", ""))[:200])

    def _acted(self, answer: ActionReply) -> None:
        self._say({"notice": answer.problem})

    def _say(self, texts: Mapping[str, str]) -> None:
        """From any thread."""
        self._bridge.push(lambda: self.param.update(**texts))
