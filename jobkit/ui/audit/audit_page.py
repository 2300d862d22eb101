"""`AuditPage`: the audit log, newest first, for admins; read every few seconds while it is open."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.model.people import AuditEntry, Role
from jobkit.model.plain import iso
from jobkit.ui.access.actions import Actions
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.browser_requests import on_request
from jobkit.ui.live.component import Component
from jobkit.ui.live.feed_page import TextFeed
from jobkit.ui.live.shared_feed import FeedSubscription, Subscriber
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client import Kit
    from jobkit.ui.live.page import PageSession

#: Entries on a page.
_LIMIT = 100


def picture(entries: Sequence[AuditEntry], now: datetime, *, is_first: bool) -> str:
    """Return the page as JSON; `more` is the cursor of the next page, "" at the end."""
    more = entries[-1].id if len(entries) >= _LIMIT else ""
    told = {"rows": [entry.to_json() for entry in entries], "more": more, "first": is_first, "now": iso(now)}
    return json.dumps(told, separators=(",", ":"))


async def has_people(kit: Kit) -> bool:
    """Return whether the log has entries of named users: before, the header does not name the page."""
    return any(entry.who and entry.via != "cli" for entry in await kit.aio.audit(200))


class AuditFeed(TextFeed):
    """One page of the audit log, delivered when its entries have changed.

    Args:
        kit: whose log.
        before: id of the entry after which the page begins, "" for the newest.
    """

    CHANNELS = ()
    LOOK_S = 3.0

    def __init__(self, kit: Kit, before: str) -> None:
        super().__init__(kit)
        self._before = before
        self._entries: list[AuditEntry] | None = None

    async def text(self) -> str:
        entries = list(await self.kit.verbs.audit(_LIMIT, self._before))
        if entries == self._entries:
            return self._text
        self._entries = entries
        return picture(entries, datetime.now(UTC), is_first=not self._before)


class AuditPage(Component, JSComponent):
    """The audit log.

    Args:
        access: of the session; the page stays empty unless its person is an admin.
        on_open: called in the session with the id of the job that was clicked.
        bridge: of the session.

    Attributes:
        picture: what the browser shows, see `picture`. is_open: whether the page is shown; only then is anything read.
        request: the browser's newest request.
    """

    picture = param.String(default="")
    is_open = param.Boolean(default=False)
    request = param.String(default="")

    part_of: ClassVar[Mapping[str, str]] = {}

    _esm = assets.esm("audit")
    _stylesheets: ClassVar[list[str]] = [assets.css("audit")]

    def __init__(
        self, access: Actions, *, on_open: Any = None, bridge: SessionBridge | None = None, **params: Any
    ) -> None:
        super().__init__(**params)
        self._access = access
        self._on_open = on_open
        self._bridge = bridge or SessionBridge()
        self._subscription: FeedSubscription[AuditFeed, Subscriber] | None = None
        self._bridge.on_close(self._leave)
        on_request(self, self._bridge, self._do)
        self.param.watch(lambda _: self._follow(), "is_open")
        self._follow()

    def _leave(self) -> None:
        if self._subscription is not None:
            self._subscription.stop()
            self._subscription = None

    def _follow(self, before: str = "") -> None:
        self._leave()
        if self.is_open and self._bridge.is_open and self._access.person.may(Role.ADMIN):
            subscriber = Subscriber(lambda texts, _: self._bridge.put(self, texts))
            self._subscription = FeedSubscription(self._access.kit, AuditFeed, subscriber, before).start()

    # -- requests of the browser, in the session --------------------------------------------------------------------

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "open" and self._on_open is not None:
            self._on_open(str(asked.get("id", ""))[:200])
        elif action in ("hello", "first", "older"):
            self._follow(str(asked.get("before", ""))[:60] if action == "older" else "")


def audit(session: PageSession) -> AuditPage:
    """Return the page of a dashboard."""
    page = AuditPage(
        session.access, on_open=session.open, bridge=session.bridge, is_open=False, sizing_mode="stretch_both", margin=0
    )
    session.on_shown(lambda: page.param.update(is_open=True))
    session.on_hidden(lambda: page.param.update(is_open=False))
    return page
