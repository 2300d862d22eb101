"""`JobTable`: counters, search and one page of jobs, live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.store.grammar import HELP, read_search
from jobkit.ui.access.actions import ActionReply, Actions
from jobkit.ui.jobs.board_feed import BoardFeed
from jobkit.ui.jobs.bulk import MOST, Bulk, BulkCall
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.browser_requests import on_request
from jobkit.ui.live.component import Component
from jobkit.ui.live.shared_feed import FeedSubscription, Subscriber
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client import Kit


class JobTable(Component, JSComponent):
    """One page of a kit's jobs with its counters and search box.

    Args:
        kit: whose jobs.
        on_open: called in the session with the id of the job whose row was opened, "" to close.
        on_look: called in the session when search text, order or cursor have changed here.
        on_compare: called in the session with the ids of the jobs to compare, [] for all that are found; without
            it, comparing is not offered.
        may_act: whether bulk cancel, retry and delete are offered and obeyed, where the access allows it.
        bridge, access: of the session, where the caller already has them.

    Attributes:
        search: the search text, see `store.grammar`. order: see `store.query.ORDERS`. cursor: where the page begins.
        selected: id of the job that is open beside the table.
        page, delta: what the browser shows first; see `board.Board`. What follows goes past them, see `bridge`.
        notice: one sentence about what did not work. problem: what is wrong with the search text.
        work: what is being done to many, see `bulk.Bulk`. help: the lines of the search box's help.
        request: the browser's newest request.
    """

    search = param.String(default="")
    order = param.String(default="")
    cursor = param.String(default="")
    problem = param.String(default="")
    work = param.String(default="")
    help = param.List(default=[])
    selected = param.String(default="")
    page = param.String(default="")
    delta = param.String(default="")
    notice = param.String(default="")
    may_act = param.Boolean(default=True)
    may_compare = param.Boolean(default=False)
    request = param.String(default="")

    _esm = assets.esm("table")
    _stylesheets: ClassVar[list[str]] = [assets.css("table")]

    pales: ClassVar[bool] = False
    """A dashboard leaves it to the table to show that its rows may be old."""

    part_of: ClassVar[Mapping[str, str]] = {"page": "delta"}

    def __init__(
        self,
        kit: Kit,
        *,
        on_open: Callable[[str], object] | None = None,
        on_look: Callable[[], object] | None = None,
        on_compare: Callable[[list[str]], object] | None = None,
        bridge: SessionBridge | None = None,
        access: Actions | None = None,
        may_act: bool = True,
        **params: Any,
    ) -> None:
        self._access = access or Actions(kit)
        may_act = may_act and self._access.may("cancel")
        params.setdefault("help", [list(line) for line in HELP])
        super().__init__(may_act=may_act, may_compare=on_compare is not None, **params)
        self._kit = kit
        self._on_open = on_open
        self._on_look, self._on_compare = on_look, on_compare
        self._bridge = bridge or SessionBridge()
        self._cursors: list[str] = []
        self._bulk = Bulk(self._access, lambda text: self._bridge.put(self, {"work": text}))
        self._watching: FeedSubscription[BoardFeed, Subscriber] | None = None
        self._is_turned = self._is_hidden = False
        self._bridge.on_close(self._leave)
        on_request(self, self._bridge, self._do)
        self.param.watch(lambda *_: self._look(), ["search", "order", "cursor"])
        self._look()

    def _look(self) -> None:
        """Watch the page that search text, order and cursor name."""
        self._leave()
        if self._is_turned or self._is_hidden:
            return
        query, self.problem = read_search(self.search, self.order, self.cursor)
        depth = len(self._cursors)

        def deliver(whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
            page = {name: f'{text[:-1]},"depth":{depth}}}' for name, text in whole.items()}
            self._bridge.put(self, page, parts)

        only = self._access.person.only_owner
        self._watching = FeedSubscription(self._kit, BoardFeed, Subscriber(deliver), query, only).start()

    def _leave(self) -> None:
        if self._watching is not None:
            self._watching.stop()
            self._watching = None

    def pause(self) -> None:
        """Stop reading until `resume`: the page is hidden."""
        self._hide(is_turned=True)

    def resume(self) -> None:
        """Read again: the page is shown."""
        self._hide(is_turned=False)

    def _hide(self, is_turned: bool | None = None, is_hidden: bool | None = None) -> None:
        """Read only if neither another page (`is_turned`) nor another tab of the browser (`is_hidden`) is shown."""
        self._is_turned = self._is_turned if is_turned is None else is_turned
        self._is_hidden = self._is_hidden if is_hidden is None else is_hidden
        if self._is_turned or self._is_hidden:
            self._leave()
        elif self._watching is None:
            self._look()

    def turn_to(self, search: str, order: str = "", cursor: str = "") -> None:
        """Another page: a link, or the back button."""
        self._cursors = [""] if cursor else []
        self.param.update(search=search[:500], order=order[:20], cursor=cursor[:2000])

    # -- requests of the browser, in the session -------------------------------------------------------------------

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "hello":
            if self._watching is not None:
                self._watching.resend(asked.get("at", 0))
            if self._bulk.shown:
                self._bridge.put(self, {"work": self._bulk.shown})
        elif action == "open":
            self.selected = str(asked.get("id", ""))
            if self._on_open is not None:
                self._on_open(self.selected)
        elif action == "search":
            self._turn([], search=str(asked.get("text", ""))[:500])
        elif action == "order":
            self._turn([], order=str(asked.get("by", ""))[:20])
        elif action == "older" and asked.get("cursor"):
            self._turn([*self._cursors, self.cursor], cursor=str(asked["cursor"])[:2000])
        elif action == "newer":
            self._turn(self._cursors[:-1], cursor=self._cursors[-1] if self._cursors else "")
        elif action == "first":
            self._turn([])
        elif action == "refresh":
            self._look()
        elif action == "compare" and self._on_compare is not None:
            ids = asked.get("ids")
            self._on_compare([str(job_id)[:100] for job_id in ids[:MOST]] if isinstance(ids, list) else [])
        elif action in ("hidden", "visible"):
            self._hide(is_hidden=action == "hidden")
        elif self.may_act:
            self._act(action, asked)

    def _turn(self, cursors: list[str], **changes: str) -> None:
        """To another page; `cursors` are those of the pages before it."""
        self._cursors = cursors
        self.param.update(**{"cursor": "", **changes})
        if self._on_look is not None:
            self._on_look()

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
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
