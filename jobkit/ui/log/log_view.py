"""The page of one job's log: `?page=log&id=5f0c1234aabbccdd`, with `q` and `level` as in its search.

A link to lines has `#L182` or `#L182-L190`. `/job/ID/log` leads to the page, and so does the log of a job's card; the
header does not name it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import param

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.model import JobkitError, JobNotFound
from jobkit.model.plain import dumps
from jobkit.ui.access.actions import Actions
from jobkit.ui.card.job_feed import CardControl
from jobkit.ui.live.component import LivePage
from jobkit.ui.live.page import PageSession

logger = logging.getLogger("jobkit.ui")

#: Texts that the page needs, of those of a card and of `LogControl`.
_SHOWN = ("snapshot", "file", "refused", "page", "hits")


class LogControl(CardControl):
    """The control of a log's page: that of a card, and answers about lines of the whole log."""

    NEWEST: ClassVar[Mapping[str, str]] = {"log-lines": "page", "log-hits": "hits"}


class LogView(LivePage):
    """The log of one job, which `follow` names.

    Args:
        on_wanted: called in the session with `q` and `level` when the person has changed the search.

    Attributes:
        snapshot, file, refused: as of `JobCard`.
        news: changes when there are new lines.
        page, hits: answers to the browser's newest question for lines, and for the places of lines.
        wanted: the search that the browser is to show, JSON: `q` and `level`.
    """

    snapshot = param.String(default="")
    news = param.String(default="")
    page = param.String(default="")
    hits = param.String(default="")
    file = param.String(default="")
    refused = param.String(default="")
    wanted = param.String(default="{}")

    MODULE = "log_view"

    def __init__(
        self,
        kit: Kit,
        *,
        on_wanted: Callable[[str, str], object] = lambda q, level: None,
        access: Actions | None = None,
        **params: Any,
    ) -> None:
        access = access or Actions(kit)
        super().__init__(kit, access=access, **params)
        self._on_wanted = on_wanted
        self._news = self._searches = 0
        self._control = LogControl(access, self._put)
        self._bridge.on_close(self._control.stop)

    def follow(self, job_id: str) -> None:
        """Show the log of another job, or none for ""."""
        if job_id != self._control.job_id:
            self._control.follow(job_id)

    def search(self, q: str, level: str) -> None:
        """Search for a text, and show only lines of a level."""
        self._searches += 1
        self.wanted = dumps({"q": q, "level": level, "n": self._searches})

    def _put(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
        """Give the browser what it needs of the texts of a card: of the log only that it has changed."""
        shown = {name: text for name, text in whole.items() if name in _SHOWN}
        if "log" in whole or "log_append" in parts:
            self._news += 1
            shown["news"] = str(self._news)
        if shown:
            self._bridge.put(self, shown, {})

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "wanted":
            self._on_wanted(str(asked.get("q", ""))[:200], str(asked.get("level", ""))[:20])
        elif action == "open":
            super()._do(action, asked)
        else:
            self._control.do(action, asked)


def log_page(session: PageSession) -> LogView:
    """`id`: the job. `q`: text to find. `level`: "warning" or "error", the least that is shown."""
    view = LogView(
        session.kit,
        access=session.access,
        bridge=session.bridge,
        on_open=session.open,
        on_wanted=lambda q, level: session.remember_search(q, level=level),
        sizing_mode="stretch_both",
        margin=0,
    )

    def show(query: Mapping[str, str]) -> None:
        view.search(query.get("q", ""), query.get("level", ""))
        background.spawn(find(query.get("id", "")))

    async def find(job_id: str) -> None:
        """On the background loop. A job that only the archive has is brought back."""
        if job_id and session.kit.verbs.has_older:
            try:
                await session.kit.aio.snapshot(job_id)
            except JobNotFound:
                await session.access.act("restore", [job_id])
            except JobkitError as error:
                logger.info("job %s could not be read: %s", job_id, error)
        session.bridge.push(partial(follow, job_id))

    def follow(job_id: str) -> None:
        if session.is_shown and session.query.get("id", "") == job_id:
            view.follow(job_id)

    session.on_query(show)
    session.on_shown(lambda: show(session.query))
    session.on_hidden(lambda: view.follow(""))
    return view
