"""`Board`: one page of jobs as data, and `BoardFeed`, which keeps it up to date for all sessions with the same query.

A board is pure: a page of snapshots and events in, rows and deltas as JSON out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import Any, ClassVar

from jobkit.client.kit import Kit
from jobkit.client.waits import level_of
from jobkit.model import EventType, JobEvent, JobkitError, JobSnapshot, JobState, StoreUnavailable, apply
from jobkit.model.format import Eta, params_brief, shortened
from jobkit.model.plain import iso, to_ms
from jobkit.model.result import ended_text
from jobkit.model.start import Start
from jobkit.store.completion import HINTED, unknown
from jobkit.store.query import ASKING, Query, QueryPage, is_pattern, matches
from jobkit.store.values import CONTROL
from jobkit.tasks.info import Defaults, defaults_of
from jobkit.ui.jobs.groups import Best, Group, groups
from jobkit.ui.jobs.retries import read_retries
from jobkit.ui.live.shared_feed import CALM_S, NEWS_S, QueryFeed, Subscriber, answered

#: Seconds between two reads of the counters, at least.
_COUNTS_S = 0.5

#: The same, as a multiple of the time that the last read took.
_REST = 20

#: Seconds between two forecasts of the starts of waiting jobs, at least.
_STARTS_S = 2.0

#: Seconds between two looks at the best jobs of groups, at least.
_BEST_S = 2.0

#: Seconds until a page that many rows have left is read again.
_THIN_S = 1.0


#: The states of jobs that wait.
WAITING = (JobState.QUEUED, JobState.SCHEDULED)


def row(
    snapshot: JobSnapshot,
    eta_s: float | None = None,
    defaults: Defaults | None = None,
    group: Group | None = None,
    start: Start | None = None,
    best: str = "",
) -> dict[str, Any]:
    """Return one job, or a group of jobs, as a row without empty values, since a page of them travels at once.

    Args:
        start: what is known of the start of a waiting job.
        best: words about the best job of a group.
    """
    spec = snapshot.spec
    start = start if start is not None and snapshot.state in WAITING else Start()
    is_stuck = snapshot.state is JobState.QUEUED and level_of(start.why) == "warning"
    cells: dict[str, Any] = {
        "id": snapshot.id,
        "seq": snapshot.seq,
        "face": snapshot.face,
        "name": spec.title or spec.task,
        "task": spec.task,
        "args": params_brief(spec.params, (defaults or {}).get(spec.task)),
        "queue": spec.queue,
        "owner": spec.owner,
        "worker": snapshot.worker,
        "cancelling": snapshot.is_cancelling,
        "asks": bool(snapshot.asking),
        "progress": snapshot.progress if snapshot.state is not JobState.SUCCEEDED else None,
        "eta_s": None if snapshot.asking else eta_s,
        "typical_s": snapshot.typical_s if snapshot.progress is None else None,
        "message": snapshot.shown_message
        if snapshot.asking or snapshot.state is JobState.RUNNING
        else start.why
        if is_stuck
        else snapshot.shown_message or start.why
        if snapshot.state is JobState.QUEUED
        else "",
        "stuck": is_stuck,
        "note": shortened(ended_text(snapshot), 200),
        "spark": snapshot.metrics.spark if len(snapshot.metrics.spark) > 1 else None,
        "metric": _metric(snapshot),
        "submitted_at": iso(snapshot.submitted_at),
        "due_at": iso(snapshot.due_at) if snapshot.state is JobState.SCHEDULED and not snapshot.asking else None,
        "starts_at": iso(start.at),
        "ahead": start.ahead or None,
        "started_at": iso(snapshot.started_at),
        "finished_at": iso(snapshot.finished_at),
        "attempt": snapshot.attempt if snapshot.attempt > 1 else None,
    }
    if group is not None:
        cells |= groups().cells(group, best)
    return {name: value for name, value in cells.items() if value is not None and value is not False and value != ""}


def _metric(snapshot: JobSnapshot) -> str:
    """Return the first metric with its newest value."""
    name, value = next(iter(snapshot.metrics.newest.items()), ("", 0.0))
    return f"{name} {value:.4g}" if name else ""


class Board:
    """A page of jobs and what has changed on it since the last delta. Not thread-safe."""

    def __init__(self, query: Query, only: str | None = None) -> None:
        self.query = query
        self.only = only
        self.defaults: Defaults = {}
        self.jobs: dict[str, JobSnapshot] = {}
        self.counts: dict[str, int] | None = {}
        """Number of jobs by state, and "asking", that match, whatever states the query asks for; None if unknown."""
        self.total: int | None = None
        """Number of jobs that the query finds; None if unknown."""
        self.kept: int | None = None
        """Number of all jobs, set while an index is being filled."""
        self.hint = ""
        """Why the search finds nothing, if that is known."""
        self.next_cursor = ""
        self.unknown: dict[str, None] = {}
        """Ids of jobs that are new, or that were missed: read them and call `learn`. Newest last."""
        self.starts: dict[str, Start] = {}
        """Expected starts of waiting jobs, see `expect`."""
        self.paused: dict[str, str] = {}
        """Queues that hand out nothing, and what rows of jobs that wait in them say of it."""
        self.retries: dict[str, str] = {}
        self.best: dict[str, Best] = {}
        self.problem = ""
        """Why the page cannot be read, or what is left out of it."""
        self.is_away = False
        """The server does not answer, so what is shown may be old."""
        # Whether every job belongs on this page or on a later one.
        self._has_all = query == Query(limit=query.limit, cursor=query.cursor, order=query.order)
        self.folds = groups().folds(query, only)
        self.groups: dict[str, Group] = {}
        """Groups with a row in place of their jobs, by the id of the row."""
        self.other_groups: set[str] = set()
        """Ids of those that have further jobs, or fewer: `groups_to_read` gives them."""
        self._reading_groups: set[str] = set()
        self._loads = self._loads_before = 0  # how often the page was read, and when the reading of groups began
        self._reading: set[str] = set()
        self._etas: dict[str, Eta] = {}
        self._changed: set[str] = set()
        self._gone: set[str] = set()
        self._left: set[str] = set()
        self._new: list[str] = []
        self._fresh: set[str] = set()
        self._told = self._numbers()

    def load(
        self,
        page: QueryPage,
        counts: Mapping[str, int] | None,
        total: int | None = None,
        found: Mapping[str, Group] | None = None,
    ) -> None:
        """Start from a page that was just read."""
        self._loads += 1
        self.groups = dict(found or {})
        self.other_groups.clear()
        self.jobs = {job.id: job for job in page.jobs if self.only in (None, job.spec.owner)}
        self.counts = None if counts is None else dict(counts)
        self.total, self.next_cursor = total, page.next_cursor
        self._etas = {job_id: eta for job_id, eta in self._etas.items() if job_id in self.jobs}
        self.unknown.clear()
        self._fresh.clear()
        self._forget_changes()

    def take(self, event: JobEvent) -> None:
        """Apply an event of any job."""
        known = self.jobs.get(event.job_id)
        if known is None and not event.type.is_news and groups().row_id(event.job_id) in self.groups:
            self.other_groups.add(event.job_id)  # it may lead a group
        elif event.type is EventType.DELETED:
            self.unknown.pop(event.job_id, None)
            self._reading.discard(event.job_id)
            if known is not None:
                self._remove(event.job_id)
            else:  # perhaps the last one of a group
                self.other_groups |= {group.id for group in self.groups.values()} | self._reading_groups
        elif known is None:
            # News of a job on another page is nothing to us; a change of state may bring it here. To a page of all jobs
            # only its first event can. What comes while it is read may be missing in the snapshot.
            may_come = not event.type.is_news and (event.seq == 1 or not self._has_all)
            if (may_come or event.job_id in self._reading) and not self.query.cursor:
                self.unknown.pop(event.job_id, None)
                self.unknown[event.job_id] = None
        else:
            moved = apply(known, event)
            if moved is None:
                self.unknown[event.job_id] = None
            elif moved is not known and (event.type.is_news or self._belongs(moved, event.at)):
                self._put(moved, event.at)
            elif moved is not known:  # it ended, say, on a page of those that run
                self._leave(event.job_id)

    def to_read(self, limit: int) -> list[str]:
        """Return the next ids to read; call `learn` with their snapshots before the next ones."""
        ids = list(self.unknown)[:limit]
        self._reading = set(ids)
        for job_id in ids:
            del self.unknown[job_id]
        return ids

    def learn(self, snapshots: Iterable[JobSnapshot | None], now: datetime) -> None:
        """Add jobs that were unknown, if they belong on this page and were not deleted meanwhile."""
        for snapshot in filter(None, snapshots):
            known = self.jobs.get(snapshot.id)
            if self.folds and snapshot.batch:
                if self._belongs(snapshot, now):
                    self.other_groups.add(snapshot.batch)
                continue
            if known is None and snapshot.id not in self._reading:
                continue
            if not self._belongs(snapshot, now):
                self._leave(snapshot.id)
            elif known is not None:
                if (snapshot.seq, snapshot.rev) > (known.seq, known.rev):
                    self._put(snapshot, now)
            elif not self.query.is_newest_first:
                self._fresh.add(snapshot.id)  # its position is known after the next read of the page
            elif not self._is_older(to_ms(snapshot.submitted_at)):
                self._put_new(snapshot)
        self._reading = set()

    def groups_to_read(self) -> set[str]:
        """Return ids of groups to read; call `put_groups` with them. What changes meanwhile is to be read again."""
        self._reading_groups, self.other_groups = self.other_groups, set()
        self._loads_before = self._loads
        return self._reading_groups

    def put_groups(self, found: Mapping[str, Group | None], now: datetime) -> None:
        """Take groups as they are now, None for deleted ones: those of this page, and new ones."""
        others, self._reading_groups = self._reading_groups, set()
        if self._loads != self._loads_before:  # the page may know of a newer end of them
            self.other_groups |= others
            return
        for row_id, group in found.items():
            is_known, before = row_id in self.jobs, self.groups.get(row_id)
            if group is None:
                if is_known:
                    self._remove(row_id)
                continue
            snapshot = groups().snapshot_of(group)
            if not is_known and (self.query.cursor or not self._belongs(snapshot, now)):
                continue
            if not is_known and self._is_older(group.last_us // 1000):
                continue
            self.groups[row_id] = group
            if group.id in self.jobs:  # its leader: its first job has come
                self._leave(group.id)
            if is_known and group != before:
                self._put(snapshot, now)
            elif not is_known:
                self._put_new(snapshot)

    def _put_new(self, snapshot: JobSnapshot) -> None:
        """Add a row above those that are older."""
        self._new.append(snapshot.id)
        at_ms, others = self._submitted_ms(snapshot), iter(self.jobs.items())
        newer = dict(takewhile(lambda item: self._submitted_ms(item[1]) > at_ms, others))
        jobs = newer | {snapshot.id: snapshot} | self.jobs
        self.jobs = dict(islice(jobs.items(), 2 * self.query.limit))
        for row_id in jobs.keys() - self.jobs.keys():
            self.groups.pop(row_id, None)

    def tell(self, name: str, facts: Mapping[str, Any]) -> None:
        """Set `starts`, `retries` or `best` by the ids of rows, and mark the rows that say something else now."""
        known = getattr(self, name)
        self._changed |= {row_id for row_id in known.keys() | facts.keys() if known.get(row_id) != facts.get(row_id)}
        setattr(self, name, dict(facts))

    @property
    def waiting(self) -> list[JobSnapshot]:
        """The jobs on the page that wait, without groups."""
        return [job for job in self.jobs.values() if job.state in WAITING and job.id not in self.groups]

    def pause(self, paused: Mapping[str, str]) -> None:
        """Set the paused queues, and mark the rows that must say so, or no longer."""
        touched = {queue for queue, _ in self.paused.items() ^ paused.items()}
        self.paused = dict(paused)
        self._changed |= {
            job.id for job in self.jobs.values() if job.state is JobState.QUEUED and job.spec.queue in touched
        }

    def whole(self, now: datetime) -> dict[str, Any]:
        """Return the whole page: `rows`, `counts`, `total`, `away`, `now`, and `more`, the cursor of the next one."""
        rows = [self._row(snapshot) for snapshot in self.jobs.values()]
        return {
            "rows": rows,
            **self._numbers(),
            "kept": self.kept,
            "hint": self.hint,
            "more": self.next_cursor,
            "now": iso(now),
        }

    def delta(self, now: datetime) -> dict[str, Any]:
        """Return the changes since the last call: any of `rows`, `new` (newest first), `gone` (deleted), `left` (no
        match any more), `fresh` (number of new jobs in another order), `counts`, `total`, `away`; {} for none.

        A new row that is not on top has `below`, the id of the next row above it that is not new.
        """
        new, known = set(self._new), ""
        added = []
        for row_id in self.jobs if new else ():
            if row_id in new:
                added.append(self._row(self.jobs[row_id]) | ({"below": known} if known else {}))
            else:
                known = row_id
        lists = {
            "rows": [self._row(self.jobs[job_id]) for job_id in (self._changed & self.jobs.keys()).difference(new)],
            "new": added,
            "gone": sorted(self._gone),
            "left": sorted(self._left),
        }
        numbers = {name: value for name, value in self._numbers().items() if value != self._told[name]}
        self._forget_changes()
        delta: dict[str, Any] = {name: each for name, each in lists.items() if each} | numbers
        return {**delta, "now": iso(now)} if delta else {}

    def _numbers(self) -> dict[str, Any]:
        return {
            "counts": self.counts, "total": self.total, "away": self.is_away, "fresh": len(self._fresh),
            "problem": self.problem,
        }  # fmt: skip

    def _forget_changes(self) -> None:
        self._told = self._numbers()
        self._changed.clear()
        self._gone.clear()
        self._left.clear()
        self._new.clear()

    def _remove(self, row_id: str) -> None:
        """Take out a row that was deleted."""
        self._gone.add(row_id)
        del self.jobs[row_id]
        self.groups.pop(row_id, None)

    def _leave(self, job_id: str) -> None:
        if self.jobs.pop(job_id, None) is not None:
            self._left.add(job_id)

    def _put(self, snapshot: JobSnapshot, at: datetime) -> None:
        self.jobs[snapshot.id] = snapshot
        self._changed.add(snapshot.id)
        if snapshot.state is JobState.RUNNING and snapshot.completed is not None:
            self._etas.setdefault(snapshot.id, Eta()).update(
                snapshot.completed, snapshot.total, snapshot.elapsed_s(at) or 0.0
            )
        elif snapshot.state is not JobState.RUNNING:
            self._etas.pop(snapshot.id, None)

    def _row(self, snapshot: JobSnapshot) -> dict[str, Any]:
        eta = self._etas.get(snapshot.id)
        cells = row(
            snapshot,
            eta.left_s if eta else None,
            self.defaults,
            self.groups.get(snapshot.id),
            self.starts.get(snapshot.id),
            self.best.get(snapshot.id, (0, ""))[1],
        )
        if retry := self.retries.get(snapshot.id):
            cells["note"] = " · ".join(filter(None, (retry, cells.get("note"))))
        if snapshot.state is JobState.QUEUED and snapshot.spec.queue in self.paused:
            cells["message"] = self.paused[snapshot.spec.queue]
        return cells

    def _belongs(self, snapshot: JobSnapshot, now: datetime) -> bool:
        if self.only not in (None, snapshot.spec.owner):
            return False
        return self._has_all or matches(snapshot, self.query, to_ms(now))

    def _is_older(self, submitted_ms: int) -> bool:
        """Return whether the page is full and a row with this time of submit (0: unknown) belongs below it."""
        if len(self.jobs) < self.query.limit or not submitted_ms:
            return False
        return submitted_ms < self._submitted_ms(next(reversed(self.jobs.values())))

    def _submitted_ms(self, row: JobSnapshot) -> int:
        """Return the time of submit by which a row is placed: of a group, that of its newest job."""
        group = self.groups.get(row.id)
        return to_ms(row.submitted_at) if group is None else group.last_us // 1000


class BoardFeed(QueryFeed[Subscriber]):
    """Keeps one `Board` up to date. The query says also where the page begins."""

    CHANNELS: ClassVar[tuple[str | None, ...]] = (None, CONTROL)
    WINDOW_S = 0.05
    MODEL = Board

    def __init__(self, kit: Kit, query: Query, only: str | None = None) -> None:
        super().__init__(kit, query, only)
        self._news = self.paced(NEWS_S, self.flush)
        self._curves = self.paced(CALM_S, self.flush, is_prompt=False)
        self._starts = self.paced(_STARTS_S, self.look_at_starts)
        self._retries = self.paced(_STARTS_S, self._look_at_retries)
        self.look_at_best = self.paced(_BEST_S, self._look_at_best)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def count_s(self) -> float:
        return _COUNTS_S

    async def read(self) -> None:
        if not self.has_read:
            self.kit.verbs.use_index()
            self.model.defaults = defaults_of(await self.kit.aio.tasks())
        await self._look_at_pauses()
        (page, found), counts = await asyncio.gather(self._page(), self._counts())
        is_all = not page.next_cursor and not self.query.cursor and page.searched is None
        is_all = is_all and not found
        total = len(page.jobs) if is_all else await self._total(counts)
        self.searched = page.searched
        if page.searched is not None and self.only is None:
            self.model.kept = sum((await self.kit.verbs.counts()).values())
        self.model.problem = self.model.problem or " ".join(page.problems)
        self.model.hint = "" if page.jobs or page.searched is not None else await self._hint()
        self.model.load(page, counts, total, found)
        self.model.is_away = not self.kit.hub.is_live

    async def _hint(self) -> str:
        """Return why a search finds nothing, if no job has the value of a field that it asks for."""
        for name in HINTED if self.only is None and not self.query.archived else ():
            if getattr(self.query, name):
                counts = await self.kit.verbs.tally(Query(), name)
                if counts and (hint := await asyncio.to_thread(unknown, self.query, name, counts)):
                    return hint
        return ""

    async def _page(self) -> tuple[QueryPage, Mapping[str, Group]]:
        """Read the page and the groups on it; an archive that cannot be read is an empty page with the reason."""
        self.model.problem = ""
        try:
            if self.model.folds:
                return await groups().page(self.kit, self.query)
            return await self.kit.verbs.page(self.query), {}
        except JobkitError as error:
            if not self.query.archived or isinstance(error, StoreUnavailable):
                raise
            self.model.problem = str(error)
            return QueryPage(()), {}

    def loaded(self) -> None:
        super().loaded()
        self._retries.poke()
        self.look_at_best.poke()
        if (span := self.query.aging_s) is not None:
            self.reload_in(min(60.0, max(2.0, span / 50)))
        if self.model.waiting:
            self._starts.poke()

    async def _look_at_retries(self) -> None:
        store, jobs = self.kit.verbs.store, [*self.model.jobs.values()]
        self.model.tell("retries", await answered(lambda: read_retries(store, jobs)))
        self.poke()

    async def _look_at_best(self) -> None:
        began = asyncio.get_running_loop().time()
        best, is_all = await answered(lambda: groups().best(self.kit, self.model.groups, self.model.best))
        self.look_at_best.window_s = max(_BEST_S, _REST * (asyncio.get_running_loop().time() - began))
        self.model.tell("best", best)
        if not is_all:
            self.look_at_best.poke()
        self.poke()

    async def look_at_starts(self) -> None:
        """Read when the waiting jobs of the page will start."""
        waiting = self.model.waiting
        self.model.tell("starts", await answered(lambda: self.kit.verbs.expected_starts(waiting)))
        self.poke()

    async def _look_at_pauses(self) -> None:
        pauses = await answered(self.kit.aio.queues.paused)
        by = {pause.name: f" by {pause.by}" if pause.by else "" for pause in pauses}
        self.model.pause({name: f"queue {name} is paused{who}" for name, who in by.items()})
        self.poke()

    async def _counts(self) -> dict[str, int] | None:
        """Return the number of jobs of this search by state, see `Verbs.counts_of`; None if it is not known."""
        if self.only is not None and is_pattern(self.only):
            return None  # a name, and no pattern: others' jobs are not to be counted
        began = asyncio.get_running_loop().time()
        try:
            counts = await self.kit.verbs.counts_of(self.query)
        except JobkitError as error:
            if not self.query.archived or isinstance(error, StoreUnavailable):
                raise
            return None  # the page says why
        took_s = asyncio.get_running_loop().time() - began
        self._counter.window_s = max(_COUNTS_S, _REST * took_s)
        return counts

    async def _total(self, counts: Mapping[str, int] | None) -> int | None:
        if counts is None or (self.query.states and self.query.is_asking):
            return None if self.only is not None and is_pattern(self.only) else await self.kit.verbs.count(self.query)
        return counts[ASKING] if self.query.is_asking else sum(counts[state] for state in self.query.states or JobState)

    def take(self, event: JobEvent) -> None:
        if event.job_id == CONTROL:
            self.runners.run(self._look_at_pauses())
            return
        self.model.take(event)
        if event.type.is_news:
            (self._curves if "metrics" in event.data else self._news).poke()
        else:
            self.recount()
            self.poke()
            self._retries.poke()
            if self.model.starts:
                self._starts.poke()

    def status(self, is_live: bool) -> None:
        if not is_live:
            self.model.is_away = True
            self.poke()
        super().status(is_live)

    def flush(self) -> None:
        super().flush()
        if self.model.other_groups:
            self.recount()
        if self.model.next_cursor and len(self.model.jobs) < 0.6 * self.query.limit:
            self.reload_in(_THIN_S)  # many have left: fill it up from the next page

    async def count(self) -> None:
        if self.query.archived:
            return
        self.model.counts = await self._counts()
        self.model.total = await self._total(self.model.counts)
        model = self.model
        if model.other_groups or any(group.ended_at is None for group in model.groups.values()):
            others = model.groups_to_read()
            try:
                found = await groups().refreshed(self.kit, model.groups, others)
            except BaseException:
                model.other_groups |= others
                raise
            model.put_groups(found, self.now())
            self.look_at_best.poke()
        self.poke()
