"""`JobTable`: counters, search and one page of jobs, live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import param
from msgspec.structs import replace

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.features import modules
from jobkit.model import JobkitError
from jobkit.model.plain import dumps
from jobkit.store.grammar import COUNTERS, MAX_CHARS
from jobkit.store.query import Query, narrowed
from jobkit.ui.access.actions import ActionReply, Actions
from jobkit.ui.jobs.activity import activity_feed
from jobkit.ui.jobs.board import BoardFeed, row
from jobkit.ui.jobs.groups import groups
from jobkit.ui.jobs.home import HomeFeed, is_home
from jobkit.ui.live.page import Turn
from jobkit.ui.live.search import SearchedPage

#: What may be done to many: the states in which it makes sense, and the words before and after it.
BULK = {
    "cancel": (("scheduled", "queued", "running"), "cancelled", "cancelled or asked to stop"),
    "retry": (COUNTERS["ended"], "retried", "submitted again"),
    "delete": (COUNTERS["ended"], "deleted", "deleted"),
}

#: Jobs of one slice; the page shows a step for each.
SLICE = 200

#: Seconds in which a delete can be undone.
UNDO_S = 5.0

#: Seconds for counting the jobs before the question, at most.
_COUNT_S = 10.0

#: What features add to the menu.
_MENU = tuple(modules("menu"))

#: Most ids that a browser may name.
MOST = 10_000


class JobTable(SearchedPage):
    """One page of a kit's jobs with its counters and search box.

    Args:
        kit, on_open, bridge, access: as of `LivePage`; the id is "" to close.
        on_go: called in the session to turn to another page: `on_go("submit")`, `on_go("log", id="...")`.
        turns: how selected jobs lead to pages, by slug.
        may_act: whether bulk cancel, retry and delete are offered and obeyed, where the access allows it.

    Attributes:
        search, problem, help: see `SearchedPage`. order: see `store.query.ORDERS`. cursor: where the page begins.
        hidden: columns that are not shown, joined by commas.
        replied: the reply to the newest request of what features add to the menu of the table.
        selected: id of the job that is open beside the table.
        page, delta: what the browser shows first; see `board.Board`. What follows goes past them, see `bridge`.
        notice: one sentence about what did not work.
        has_archive: whether the archive can be searched.
        work: what is being done to many, see `Bulk`.
        inside: the first jobs of a group whose row is open. activity: see `ActivityFeed`.

    Example:
        >>> card = JobCard(kit)
        >>> table = JobTable(kit, search="task:report", on_open=lambda job_id: setattr(card, "job_id", job_id))
        >>> layout = pn.Row(table, card)
    """

    FEED = BoardFeed

    order = param.String(default="")
    cursor = param.String(default="")
    work = param.String(default="")
    inside = param.String(default="")
    activity = param.String(default="")
    hidden = param.String(default="")
    replied = param.String(default="")
    selected = param.String(default="")
    page = param.String(default="")
    delta = param.String(default="")
    notice = param.String(default="")
    may_act = param.Boolean(default=True)
    turns = param.List(default=[])
    has_archive = param.Boolean(default=False)

    MODULE = "table"

    pales: ClassVar[bool] = False
    """A dashboard leaves it to the table to show that its rows may be old."""

    part_of: ClassVar[Mapping[str, str]] = {"page": "delta"}

    def __init__(
        self,
        kit: Kit,
        *,
        on_go: Callable[..., object] = lambda *_, **__: None,
        turns: Mapping[str, Turn] | None = None,
        access: Actions | None = None,
        may_act: bool = True,
        **params: Any,
    ) -> None:
        access = access or Actions(kit)
        self._on_go = on_go
        self._of_jobs = {slug: turn.of_jobs for slug, turn in (turns or {}).items() if turn.of_jobs is not None}
        self._trail = [""]  # cursors of the pages up to this one
        may_act = may_act and access.may("cancel")
        params["turns"] = [[slug, turn.word, turn.most] for slug, turn in (turns or {}).items() if turn.most]
        super().__init__(kit, access=access, may_act=may_act, has_archive=kit.verbs.has_older, **params)
        self._menu = {
            request: form
            for module in _MENU
            for form in [module.form(self._access, lambda text: self._bridge.put(self, {"replied": text}))]
            for request in module.REQUESTS
        }
        self._bulk = Bulk(self._access, lambda text: self._bridge.put(self, {"work": text}))
        self.param.watch(lambda *_: self._follow(), ["search", "order", "cursor"])

    def _feeds(self) -> list[tuple[Any, ...]]:
        if self.cursor != self._trail[-1]:  # by a link, or the back button
            self._trail = ["", self.cursor] if self.cursor else [""]
        query, self.problem = self.query_of(self.order, self.cursor)
        feed, only = BoardFeed if self.problem or not is_home(query) else HomeFeed, self._access.person.only_owner
        return [(feed, query, only), *([] if self.problem else [activity_feed(query, only)])]

    def _deliver(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
        depth = len(self._trail) - 1
        super()._deliver({name: f'{text[:-1]},"depth":{depth}}}' for name, text in whole.items()}, parts)

    # -- requests of the browser, in the session -------------------------------------------------------------------

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        page, group_id = groups().page_name, str(asked.get("id", ""))[:210].partition(" ")[2]
        if action == "open" and page and group_id:
            self._on_go(page, id=group_id)
            return
        if action == "open":
            self._with_archived([str(asked.get("id", ""))[:200]], lambda: self._open(asked))
            return
        super()._do(action, asked)
        if action == "hello" and self._bulk.shown:
            self._bridge.put(self, {"work": self._bulk.shown})

    def _open(self, asked: Mapping[str, Any]) -> None:
        self.selected = str(asked.get("id", ""))[:200]
        super()._do("open", asked)

    def _with_archived(self, ids: Sequence[str], then: Callable[[], object]) -> None:
        """Call `then` in the session, once jobs that are shown from the archive are kept again."""
        if not any(ids) or not self.query_of()[0].archived:
            then()
            return

        def reopened(answer: ActionReply) -> None:
            self._bridge.push(lambda: self.param.update(notice=answer.problem))
            if answer.outcome in ("done", "partly"):
                self._bridge.push(then)

        self._access.begin("restore", ids, reopened)

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        given = asked.get("ids")
        ids = [str(job_id) for job_id in given[:MOST]] if isinstance(given, list) else None
        if action in self._menu:
            background.spawn(self._menu[action].do(asked))
        elif action == "view":
            shown = {name: str(asked[name])[:MAX_CHARS] for name in ("search", "order", "hidden") if name in asked}
            self.param.update(**shown, cursor=self.cursor if shown.keys() == {"hidden"} else "")
        elif action == "search":
            self.param.update(search=str(asked.get("text", ""))[:500], cursor="")
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
        elif action == "expand":
            background.spawn(self._expand(str(asked.get("id", ""))[:200]))
        elif action == "open-submit":
            self._on_go("submit")
        elif action == "turn" and str(asked.get("to")) in self._of_jobs:
            self._with_archived(ids or [], lambda: background.spawn(self._turn_to(str(asked["to"]), ids or [])))
        elif not self.may_act:
            return
        elif action == "bulk":
            query, problem = self.query_of()
            if ids is not None:
                self._with_archived(ids, lambda: self._bulk.ask(str(asked.get("what")), ids))
            elif query.archived:
                self.notice = "jobs in the archive can only be run again if they are selected one by one"
            elif not problem:
                self._bulk.ask(str(asked.get("what")), query)
        elif action == "go":
            self._bulk.go()
        elif action == "stop":
            self._bulk.stop()
        elif action == "retry" and ids is not None:
            self._with_archived(ids, lambda: self._access.begin(action, ids, self._acted))

    async def _turn_to(self, slug: str, ids: Sequence[str]) -> None:
        """On the background loop: turn to a page with these jobs, or with all that the search finds."""
        query = await self._of_jobs[slug](self._access.kit, ids, self.search, self.zone)
        self._bridge.push(lambda: self._on_go(slug, **query))

    async def _expand(self, group_id: str) -> None:
        """On the background loop: send the first jobs of a group, for its row."""
        with suppress(JobkitError):
            kit = self._access.kit
            snapshots = await kit.verbs.store.snapshots(await groups().inside(kit, group_id))
            found = [job for job in snapshots if job is not None and self._access.sees(job)]
            told = {"id": group_id, "rows": [row(job) for job in found]}
            self._bridge.put(self, {"inside": dumps(told)})

    def _acted(self, answer: ActionReply) -> None:
        """On the background loop: one sentence about what did not work."""
        self._bridge.push(lambda: self.param.update(notice=answer.problem))


# -- bulk actions ------------------------------------------------------------------------------------------------------


class Bulk:
    """Bulk actions of one table: on the chosen jobs, or on all that a search finds.

    The jobs are counted, the user confirms, and the action runs in slices on the background loop while the page shows
    its progress; a delete waits for some seconds in which it can be undone. It goes on when the window is closed.
    `Actions` checks each slice and writes it into the audit log.

    `show` gets a JSON text each time that something is to be seen, in any thread: `state` is "counting", "asking",
    "undoable", "running" or "ended"; `action`, `total` (jobs, if known), `done`, `until` (ms, of "undoable"), and
    `sentence` (of "ended").
    """

    def __init__(self, access: Actions, show: Callable[[str], object]) -> None:
        self._access = access
        self._show = show
        self._asked: tuple[str, Sequence[str] | Query, int] | None = None
        self._stopped = asyncio.Event()
        self._is_busy = False
        self.shown = ""

    def ask(self, action: str, jobs: Sequence[str] | Query) -> None:
        """Count the jobs, which are given by id or by a query, and have the page ask for confirmation."""
        if not self._is_busy and action in BULK and self._access.may(action):
            background.spawn(self._ask(action, self._candidates(action, jobs) if isinstance(jobs, Query) else jobs))

    def go(self) -> None:
        """Start: the user has confirmed."""
        asked, self._asked = self._asked, None
        if asked is not None and not self._is_busy:
            self._is_busy = True
            self._stopped.clear()
            background.spawn(self._run(*asked))

    def stop(self) -> None:
        """Cancel, undo, or stop between two slices; finished slices stay done."""
        self._asked = None
        if self._is_busy:
            background.start().call_soon_threadsafe(self._stopped.set)
        else:
            self._tell()

    def _candidates(self, action: str, query: Query) -> Query:
        """Return the query of those in a state for the action, newest first: jobs that come meanwhile are left out."""
        states: tuple[str, ...] = BULK[action][0]
        if query.states:
            states = tuple(state for state in query.states if state in states) or ("none",)
        query = replace(query, states=states, order="", cursor="", limit=SLICE)
        return narrowed(query, self._access.person.only_owner)

    # -- on the background loop --------------------------------------------------------------------------------------

    async def _ask(self, action: str, jobs: Sequence[str] | Query) -> None:
        self._asked = None
        self._tell("counting", action)
        led = 0
        try:
            if isinstance(jobs, Query):
                total = await self._access.kit.verbs.count(jobs, _COUNT_S)
            else:
                total = len(jobs)
                if action == "delete":  # a leader goes with the jobs of its group, which the user must know
                    for module in modules("rows"):
                        led += await module.led(self._access.kit, jobs)
        except JobkitError as error:
            self._tell("ended", action, sentence=str(error))
            return
        if total is None:
            sentence = "how many jobs that would be is not known yet: they are still being read; try again in a moment"
            self._tell("ended", action, sentence=sentence)
        elif not total:
            self._tell("ended", action, sentence=f"no job here can be {BULK[action][1]}")
        else:
            self._asked = action, jobs, total
            self._tell("asking", action, total=total, **({"led": led} if led else {}))

    async def _run(self, action: str, jobs: Sequence[str] | Query, total: int) -> None:
        done, problem = 0, ""
        details = {"led": True} if action == "delete" and not isinstance(jobs, Query) else {}
        try:
            if action == "delete":
                self._tell("undoable", action, total=total, until=int((time.time() + UNDO_S) * 1000))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), UNDO_S)
                    self._tell()
                    return
            async for ids in self._slices(jobs):
                if self._stopped.is_set():
                    break
                self._tell("running", action, total=total, done=done)
                answer = await self._access.act(action, ids, **details)
                done += len(ids)
                if not answer.is_ok:
                    problem = problem or answer.sentence
            sentence = f"{done:,} {'job' if done == 1 else 'jobs'} {BULK[action][2]}"
            if problem:
                sentence = problem if done <= SLICE else f"{done:,} jobs were gone through; first problem: {problem}"
            elif self._stopped.is_set():
                sentence += ", then stopped"
            self._tell("ended", action, total=total, done=done, sentence=sentence, is_ok=not problem)
        except JobkitError as error:
            self._tell("ended", action, done=done, sentence=f"after {done:,} jobs: {error}")
        finally:
            self._is_busy = False

    async def _slices(self, jobs: Sequence[str] | Query) -> AsyncIterator[Sequence[str]]:
        if not isinstance(jobs, Query):
            for start in range(0, len(jobs), SLICE):
                yield jobs[start : start + SLICE]
            return
        while True:
            page = await self._access.kit.verbs.page(jobs)
            if page.jobs:
                yield [job.id for job in page.jobs]
            if not page.next_cursor:
                return
            jobs = replace(jobs, cursor=page.next_cursor)

    def _tell(self, state: str = "", action: str = "", **facts: Any) -> None:
        self.shown = dumps({"state": state, "action": action, **facts}) if state else ""
        self._show(self.shown)
