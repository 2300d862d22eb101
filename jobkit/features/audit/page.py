"""`AuditPage`: the audit trail, newest first, for admins; read every few seconds while it is open."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from jobkit.client.kit import Kit
from jobkit.model.person import Role
from jobkit.ui.app.fed import fed
from jobkit.ui.live.component import FeedPage
from jobkit.ui.live.page import Page
from jobkit.ui.live.shared_feed import TextFeed

#: Entries on a page.
_LIMIT = 100


async def has_people(kit: Kit) -> bool:
    """Return whether the trail has entries of named users: before, the header does not name the page."""
    return any(entry.who and entry.via != "cli" for entry in await kit.aio.audit(200))


class AuditFeed(TextFeed):
    """Entries of the audit trail before the entry `before`: `rows`, and `more`, the next `before`, "" at the end."""

    CHANNELS = ()
    LOOK_S = 3.0

    def __init__(self, kit: Kit, before: str) -> None:
        super().__init__(kit)
        self._before = before

    async def data(self) -> dict[str, Any]:
        entries = await self.kit.verbs.store.audit_log.entries(_LIMIT, self._before)
        more = entries[-1].id if len(entries) >= _LIMIT else ""
        return {"rows": [entry.to_json() for entry in entries], "more": more, "first": not self._before}


class AuditPage(FeedPage):
    """The audit trail; it stays empty unless the person is an admin."""

    _before = ""

    MODULE = "audit"

    def _feeds(self) -> list[tuple[Any, ...]]:
        return [(AuditFeed, self._before)] if self._access.person.may(Role.ADMIN) else []

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        if action in ("first", "older"):
            self._before = str(asked.get("before", ""))[:60] if action == "older" else ""
            self._follow()


PAGE = Page("audit", "Audit", partial(fed, AuditPage), role=Role.ADMIN, is_shown=has_people)
