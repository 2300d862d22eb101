"""`AuditPage`: who did what, newest first. For admins; read when somebody looks, and again every few seconds."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.client.loop import background
from jobkit.model import JobkitError
from jobkit.model.audit import AuditEntry
from jobkit.model.people import Role
from jobkit.model.snapshot import iso
from jobkit.ui.access.desk import Desk
from jobkit.ui.live.asked import obey
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.own import SelfContained
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client import Kit
    from jobkit.ui.live.page import PageSession

logger = logging.getLogger("jobkit.ui")

#: Entries on a page, and seconds between two looks at the newest.
_LIMIT, _LOOK_S = 100, 3.0


def picture(entries: Sequence[AuditEntry], now: datetime, *, is_first: bool) -> str:
    """What the browser shows, JSON; `more` is what to ask for to go on, "" at the end."""
    more = entries[-1].id if len(entries) >= _LIMIT else ""
    told = {"rows": [entry.to_json() for entry in entries], "more": more, "first": is_first, "now": iso(now)}
    return json.dumps(told, separators=(",", ":"))


async def has_people(kit: Kit) -> bool:
    """Whether somebody with a name has done something: before, the page is not worth a place in the header."""
    return any(entry.who and entry.via != "cli" for entry in await kit.aio.audit(200))


class AuditPage(SelfContained, JSComponent):
    """The audit trail.

    Args:
        desk: of the session; shows nothing to who is no admin.
        on_open: called in the session with the id of the job that was clicked.
        bridge: of the session.

    Attributes:
        picture: what the browser shows, see `picture`. is_open: whether anybody looks; only then is anything read.
        request: what the browser asks for.
    """

    picture = param.String(default="")
    is_open = param.Boolean(default=False)
    request = param.String(default="")

    part_of: ClassVar[Mapping[str, str]] = {}

    _esm = assets.esm("audit")
    _stylesheets: ClassVar[list[str]] = [assets.css("audit")]

    def __init__(self, desk: Desk, *, on_open: Any = None, bridge: SessionBridge | None = None, **params: Any) -> None:
        super().__init__(**params)
        self._desk = desk
        self._on_open = on_open
        self._bridge = bridge or SessionBridge()
        self._before = ""
        self._runner: asyncio.Task[None] | None = None
        self._bridge.on_close(self._leave)
        obey(self, self._bridge, self._do)
        self.param.watch(lambda _: self._follow(), "is_open")
        self._follow()

    def _follow(self) -> None:
        background.start().call_soon_threadsafe(self._begin if self.is_open else self._end)

    def _leave(self) -> None:
        background.start().call_soon_threadsafe(self._end)

    # -- on the background loop -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._end()
        if self._bridge.is_open and self._desk.person.may(Role.ADMIN):
            self._runner = asyncio.get_running_loop().create_task(self._watch())

    def _end(self) -> None:
        if self._runner is not None:
            self._runner.cancel()
            self._runner = None

    async def _watch(self) -> None:
        last = ""
        while True:
            before = self._before
            try:
                entries = await self._desk.kit.verbs.audit(_LIMIT, before)
            except JobkitError as error:  # the header says that the server is away
                logger.debug("the audit trail could not be read: %s", error)
            else:
                newest = f"{before}|{entries[0].id if entries else ''}|{len(entries)}"
                if newest != last:
                    last = newest
                    self._bridge.put(self, {"picture": picture(entries, datetime.now(UTC), is_first=not before)})
            await asyncio.sleep(_LOOK_S)

    # -- requests of the browser, in the session --------------------------------------------------------------------

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "open" and self._on_open is not None:
            self._on_open(str(asked.get("id", ""))[:200])
        elif action in ("hello", "first", "older"):
            self._before = str(asked.get("before", ""))[:60] if action == "older" else ""
            if self.is_open:
                self._follow()


def audit(session: PageSession) -> AuditPage:
    """The page of a dashboard."""
    page = AuditPage(
        session.desk, on_open=session.open, bridge=session.bridge, is_open=False, sizing_mode="stretch_both", margin=0
    )
    session.on_shown(lambda: page.param.update(is_open=True))
    session.on_hidden(lambda: page.param.update(is_open=False))
    return page
