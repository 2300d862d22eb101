"""`JobTable`: counters, search and one page of jobs, live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import param

from jobkit.client import Kit
from jobkit.store.grammar import HELP, read_search
from jobkit.ui.access.actions import ActionReply, Actions
from jobkit.ui.jobs.board import BoardFeed
from jobkit.ui.jobs.bulk import MOST, Bulk, BulkCall
from jobkit.ui.live.component import LivePage
from jobkit.ui.words import assets


class JobTable(LivePage):
    """One page of a kit's jobs with its counters and search box.

    Args:
        kit, on_open, bridge, access: as of `LivePage`; the id is "" to close.
        on_go: called in the session to turn to another page: `on_go("submit")`, `on_go("compare", ids="...")` for some
            jobs or `on_go("compare", q="...")` for all that a search finds.
        may_compare: whether comparing is offered.
        may_act: whether bulk cancel, retry and delete are offered and obeyed, where the access allows it.

    Attributes:
        search: the search text, see `store.grammar`. order: see `store.query.ORDERS`. cursor: where the page begins.
        selected: id of the job that is open beside the table.
        page, delta: what the browser shows first; see `board.Board`. What follows goes past them, see `bridge`.
        notice: one sentence about what did not work. problem: what is wrong with the search text.
        work: what is being done to many, see `bulk.Bulk`. help: the lines of the search box's help.
    """

    FEED = BoardFeed

    search = param.String(default="")
    order = param.String(default="")
    cursor = param.String(default="")
    problem = param.String(default="")
    work = param.String(default="")
    help = param.List(default=[list(line) for line in HELP])
    selected = param.String(default="")
    page = param.String(default="")
    delta = param.String(default="")
    notice = param.String(default="")
    may_act = param.Boolean(default=True)
    may_compare = param.Boolean(default=False)

    _esm = assets.esm("table")
    _stylesheets: ClassVar[list[str]] = [assets.css("table")]

    pales: ClassVar[bool] = False
    """A dashboard leaves it to the table to show that its rows may be old."""

    part_of: ClassVar[Mapping[str, str]] = {"page": "delta"}

    def __init__(
        self,
        kit: Kit,
        *,
        on_go: Callable[..., object] = lambda *_, **__: None,
        access: Actions | None = None,
        may_act: bool = True,
        **params: Any,
    ) -> None:
        access = access or Actions(kit)
        self._on_go = on_go
        self._trail = [""]  # cursors of the pages up to this one
        may_act = may_act and access.may("cancel")
        super().__init__(kit, access=access, may_act=may_act, **params)
        self._bulk = Bulk(self._access, lambda text: self._bridge.put(self, {"work": text}))
        self.param.watch(lambda *_: self._follow(), ["search", "order", "cursor"])

    def _feeds(self) -> list[tuple[Any, ...]]:
        if self.cursor != self._trail[-1]:  # by a link, or the back button
            self._trail = ["", self.cursor] if self.cursor else [""]
        query, self.problem = read_search(self.search, self.order, self.cursor)
        return [(BoardFeed, query, self._access.person.only_owner)]

    def _deliver(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
        depth = len(self._trail) - 1
        super()._deliver({name: f'{text[:-1]},"depth":{depth}}}' for name, text in whole.items()}, parts)

    # -- requests of the browser, in the session -------------------------------------------------------------------

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "open":
            self.selected = str(asked.get("id", ""))[:200]
        super()._do(action, asked)
        if action == "hello" and self._bulk.shown:
            self._bridge.put(self, {"work": self._bulk.shown})

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "search":
            self.param.update(search=str(asked.get("text", ""))[:500], cursor="")
        elif action == "order":
            self.param.update(order=str(asked.get("by", ""))[:20], cursor="")
        elif action == "older" and asked.get("cursor"):
            self._trail.append(str(asked["cursor"])[:2000])
            self.cursor = self._trail[-1]
        elif action == "newer" and len(self._trail) > 1:
            self._trail.pop()
            self.cursor = self._trail[-1]
        elif action == "first":
            self.cursor = ""
        elif action == "refresh":
            for subscriber in self._subscribers:
                subscriber.ask(lambda feed: feed.reload())
        elif action == "open-submit":
            self._on_go("submit")
        elif action == "compare" and self.may_compare:
            ids = asked.get("ids")
            chosen = ",".join(map(str, ids[:MOST])) if isinstance(ids, list) else ""
            self._on_go("compare", **({"ids": chosen} if chosen else {"q": self.search or "state:ended"}))
        elif self.may_act:
            self._act_on_many(action, asked)

    def _act_on_many(self, action: str, asked: Mapping[str, Any]) -> None:
        ids = asked.get("ids")
        if action == "bulk" and isinstance(ids, list):
            self._bulk.ask(BulkCall(str(asked.get("what")), tuple(map(str, ids[:MOST]))))
        elif action == "bulk":
            query, problem = read_search(self.search)
            if not problem:
                self._bulk.ask(BulkCall(str(asked.get("what")), query=query))
        elif action == "go":
            self._bulk.go()
        elif action == "stop":
            self._bulk.stop()
        elif action == "retry" and isinstance(ids, list):
            self._access.begin(action, [str(job_id) for job_id in ids[:MOST]], self._acted)

    def _acted(self, answer: ActionReply) -> None:
        """On the background loop: one sentence about what did not work."""
        self._bridge.push(lambda: self.param.update(notice=answer.problem))
