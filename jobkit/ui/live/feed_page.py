"""`FeedPage`: a page that shows the one text of a `PageFeed`; workers and schedules are such pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.ui.access.desk import Answer, Desk
from jobkit.ui.live.asked import obey
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.own import SelfContained
from jobkit.ui.live.page_feed import Follower, PageFeed

if TYPE_CHECKING:
    from jobkit.client import Kit


class FeedPage(SelfContained, JSComponent):
    """A page that is fed while somebody looks.

    Args:
        kit: whose.
        on_open: called in the session with the id of the job that was clicked.
        bridge, desk: of the session, where the caller already has them.

    Attributes:
        FEED: what it shows.
        picture: what the browser shows. notice: a sentence about what did not work.
        may_act: whether anything may be done here, where the desk allows it.
        is_open: whether anybody looks; only then is anything read.
    """

    FEED: ClassVar[type[PageFeed]] = PageFeed

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
        desk: Desk | None = None,
        **params: Any,
    ) -> None:
        self._desk = desk or Desk(kit)
        super().__init__(**self._allowed(params))
        self._kit = kit
        self._on_open = on_open
        self._bridge = bridge or SessionBridge()
        self._follower = Follower(kit, self.FEED, self._bridge, lambda text: self._bridge.put(self, {"picture": text}))
        obey(self, self._bridge, self._do)
        self.param.watch(lambda _: self._follower.follow(self.is_open), "is_open")
        self._follower.follow(self.is_open)

    def _allowed(self, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters, with what the desk does not allow taken out."""
        raise NotImplementedError

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        """What this page alone can do, in the session."""
        raise NotImplementedError

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "hello":
            self._follower.again()
        elif action != "open":
            self._act(action, asked)
        elif self._on_open is not None:
            self._on_open(str(asked.get("id", ""))[:200])

    def _acted(self, answer: Answer) -> None:
        self._say({"notice": answer.problem})

    def _say(self, texts: Mapping[str, str]) -> None:
        """From any thread."""
        self._bridge.push(lambda: self.param.update(**texts))
