"""One page of jobs, kept up to date: what every session that looks at the same page shares.

`Board` is pure: a page of snapshots and events in, rows and deltas as JSON out. `BoardFeed` keeps one up to date on the
background loop; a delta is made once per flush, however many sessions look at it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobkit.client.loop import background
from jobkit.model import EventType, JobEvent, JobkitError, JobSnapshot, JobState, apply
from jobkit.model.snapshot import iso
from jobkit.store.base import Page, Query
from jobkit.store.query import Brief, matches, narrowed
from jobkit.ui.feed import Eta
from jobkit.ui.format import face, params_brief
from jobkit.ui.live import Pacer, answered, on_loop

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")

#: Shortest time between two deltas, and between two looks at the counters.
_WINDOW_S, _COUNTS_S = 0.05, 0.5

#: The same for the counters of one owner, for which jobs have to be looked for.
_OWN_COUNTS_S = 3.0

#: Unknown jobs whose snapshots are read at once; the others follow.
_READ = 200

Defaults = Mapping[str, Mapping[str, Any]]


def row(snapshot: JobSnapshot, eta_s: float | None = None, defaults: Defaults | None = None) -> dict[str, Any]:
    """One job as a row of the table; what is empty is left out, since a page of them travels at once."""
    spec, error = snapshot.spec, snapshot.error
    cells: dict[str, Any] = {
        "id": snapshot.id,
        "seq": snapshot.seq,
        "face": face(snapshot),
        "name": spec.title or spec.task,
        "task": spec.task,
        "args": params_brief(spec.params, (defaults or {}).get(spec.task)),
        "queue": spec.queue,
        "owner": spec.owner,
        "worker": snapshot.worker,
        "cancelling": snapshot.is_cancelling,
        "progress": snapshot.progress if snapshot.state is not JobState.SUCCEEDED else None,
        "eta_s": eta_s,
        "message": snapshot.message if snapshot.state in (JobState.RUNNING, JobState.QUEUED) else "",
        "note": _note(snapshot, str(error) if error else ""),
        "submitted_at": iso(snapshot.submitted_at),
        "due_at": iso(snapshot.due_at) if snapshot.state is JobState.SCHEDULED else None,
        "started_at": iso(snapshot.started_at),
        "finished_at": iso(snapshot.finished_at),
        "attempt": snapshot.attempt if snapshot.attempt > 1 else None,
    }
    return {name: value for name, value in cells.items() if value not in (None, "", False)}


def _note(snapshot: JobSnapshot, error: str) -> str:
    """One line about how it ended."""
    text = (
        snapshot.summary if snapshot.state is JobState.SUCCEEDED else error if snapshot.state is JobState.FAILED else ""
    )
    return text if len(text) <= 200 else text[:199] + "…"


class Board:
    """A page of jobs and what has changed on it since the last delta. Not thread-safe."""

    def __init__(self, query: Query, defaults: Defaults | None = None, only: str | None = None) -> None:
        self.query = query
        self.only = only
        self.defaults = defaults or {}
        self.jobs: dict[str, JobSnapshot] = {}
        self.counts: dict[str, int] = {}
        self.next_cursor = ""
        self.unknown: dict[str, None] = {}
        """Ids of jobs that are new, or that were missed: read them and call `learn`. Newest last."""
        self._etas: dict[str, Eta] = {}
        self._changed: set[str] = set()
        self._gone: set[str] = set()
        self._new: list[str] = []
        self._counts_changed = False
        self.n = time.time_ns() // 1_000_000
        """Number of the last page or delta; starts so that no two boards share one."""

    def load(self, page: Page, counts: Mapping[str, int]) -> None:
        """Start from a page that was just read."""
        self.jobs = {job.id: job for job in page.jobs if self.only in (None, job.spec.owner)}
        self.counts = dict(counts)
        self.next_cursor = page.next_cursor
        self.unknown.clear()
        self._etas = {job_id: eta for job_id, eta in self._etas.items() if job_id in self.jobs}
        self._changed.clear()
        self._gone.clear()
        self._new.clear()
        self.n += 1

    def take(self, event: JobEvent) -> None:
        """Apply an event of any job."""
        known = self.jobs.get(event.job_id)
        if event.type is EventType.DELETED:
            self.unknown.pop(event.job_id, None)
            if known is not None:
                self._gone.add(event.job_id)
                del self.jobs[event.job_id]
        elif known is None:
            # News of a job on another page is nothing to us; a change of state may bring it here. To a page of all jobs
            # only its first event can.
            if not event.type.is_news and not self.query.cursor and (event.seq == 1 or not self._has_all):
                self.unknown.pop(event.job_id, None)
                self.unknown[event.job_id] = None
        else:
            moved = apply(known, event)
            if moved is None:
                self.unknown[event.job_id] = None
            elif moved is not known:
                self._put(moved, event.at)

    def to_read(self) -> list[str]:
        """The next ids to read the snapshots of; not unknown any more from here on."""
        ids = list(self.unknown)[:_READ]
        for job_id in ids:
            del self.unknown[job_id]
        return ids

    def learn(self, snapshots: Iterable[JobSnapshot | None], now: datetime) -> None:
        """Snapshots of jobs that were unknown; those that belong on this page join it."""
        for snapshot in snapshots:
            if snapshot is None:
                continue
            known = self.jobs.get(snapshot.id)
            if known is not None:
                if (snapshot.seq, snapshot.rev) > (known.seq, known.rev):
                    self._put(snapshot, now)
            elif self._belongs(snapshot, now) and not self._is_older(snapshot):
                self._new.append(snapshot.id)
                self.jobs = {snapshot.id: snapshot, **self.jobs}
                limit = 2 * self.query.limit
                if len(self.jobs) > limit:
                    self.jobs = dict(list(self.jobs.items())[:limit])

    def count(self, counts: Mapping[str, int]) -> None:
        if counts != self.counts:
            self.counts = dict(counts)
            self._counts_changed = True

    def page_json(self, now: datetime) -> str:
        """The whole page: `{"rows": [...], "counts": {...}, "more": cursor, "now", "n"}`."""
        rows = [self._row(snapshot) for snapshot in self.jobs.values()]
        return _dumps({"rows": rows, "counts": self.counts, "more": self.next_cursor, "now": iso(now), "n": self.n})

    def delta_json(self, now: datetime) -> str:
        """What changed since the last call: any of `rows`, `new` (newest first), `gone`, `counts`; "" for nothing.

        Deltas are numbered (`n`) without a gap, from the page's number on.
        """
        delta: dict[str, Any] = {}
        new = [job_id for job_id in reversed(self._new) if job_id in self.jobs]
        changed = [job_id for job_id in self._changed if job_id in self.jobs and job_id not in set(new)]
        if changed:
            delta["rows"] = [self._row(self.jobs[job_id]) for job_id in changed]
        if new:
            delta["new"] = [self._row(self.jobs[job_id]) for job_id in new]
        if self._gone:
            delta["gone"] = sorted(self._gone)
        if self._counts_changed:
            delta["counts"] = self.counts
        self._changed.clear()
        self._gone.clear()
        self._new.clear()
        self._counts_changed = False
        if not delta:
            return ""
        self.n += 1
        return _dumps({**delta, "now": iso(now), "n": self.n})

    @property
    def _has_all(self) -> bool:
        """Whether every job belongs on this page or on one behind it."""
        return self.query == Query(limit=self.query.limit, cursor=self.query.cursor)

    def _put(self, snapshot: JobSnapshot, at: datetime) -> None:
        self.jobs[snapshot.id] = snapshot
        self._changed.add(snapshot.id)
        if snapshot.state is JobState.RUNNING and snapshot.done is not None:
            self._etas.setdefault(snapshot.id, Eta()).update(
                snapshot.done, snapshot.total, snapshot.elapsed_s(at) or 0.0
            )
        elif snapshot.state is not JobState.RUNNING:
            self._etas.pop(snapshot.id, None)

    def _row(self, snapshot: JobSnapshot) -> dict[str, Any]:
        eta = self._etas.get(snapshot.id)
        return row(snapshot, eta.left_s if eta else None, self.defaults)

    def _belongs(self, snapshot: JobSnapshot, now: datetime) -> bool:
        if self.only not in (None, snapshot.spec.owner):
            return False
        return matches(Brief.of(snapshot), self.query, round(now.timestamp() * 1000))

    def _is_older(self, snapshot: JobSnapshot) -> bool:
        """Whether it belongs below this page, where the page is full."""
        if len(self.jobs) < self.query.limit or snapshot.submitted_at is None:
            return False
        oldest = next(reversed(self.jobs.values())).submitted_at
        return oldest is not None and snapshot.submitted_at < oldest


class BoardFeed:
    """Keeps one `Board` up to date for all who subscribed. Lives on the background loop."""

    def __init__(self, kit: Kit, query: Query, only: str | None = None) -> None:
        self._kit = kit
        self._only = only
        self.board = Board(query, only=only)
        self._subscribers: dict[int, Callable[[str, bool], None]] = {}
        self._next = 0
        self._pacer = Pacer(_WINDOW_S, self._flush)
        self._stops: list[Callable[[], None]] = []
        self._runners: set[asyncio.Task[Any]] = set()
        self._early: list[JobEvent] | None = []
        self._is_loading = self._again = False
        self._reading = False
        self._counts_due = False
        self._counting = False

    def add(self, deliver: Callable[[str, bool], None]) -> int:
        """Call `deliver(text, is_page)` with the page and then each delta; returns the key for `leave` and `tell`."""
        self._next += 1
        key = self._next
        self._subscribers[key] = deliver
        if len(self._subscribers) == 1:
            self._stops = [
                self._kit.hub.listen(lambda event: on_loop(self._take, event), None),
                self._kit.hub.on_status(lambda is_live: on_loop(self._status, is_live)),
            ]
            self._early = []
            self._run(self._open())
        else:
            self.tell(key)
        return key

    def tell(self, key: int, n: int = 0) -> None:
        """The whole page to one of them, unless `n` says that it has missed nothing."""
        if self._early is None and key in self._subscribers and n != self.board.n:
            self._subscribers[key](self.board.page_json(_now()), True)

    def leave(self, key: int) -> None:
        if self._subscribers.pop(key, None) is not None and not self._subscribers:
            self._pacer.stop()
            for stop in self._stops:
                stop()
            for runner in self._runners:
                runner.cancel()
            _forget(self._kit, self)

    async def _open(self) -> None:
        """The page, then what happened while it was read."""
        await self._kit.hub.ready(None)
        infos = await answered(self._kit.aio.tasks)
        self.board.defaults = {
            name: {spec.name: spec.default for spec in info.params if spec.has_default} for name, info in infos.items()
        }
        await self._read()

    async def _read(self) -> None:
        """One after the other: what is under way when somebody asks may be older than his reason to ask."""
        self._again = True
        if self._is_loading:
            return
        self._is_loading = True
        try:
            while self._again:
                self._again, self._early = False, []
                page, counts = await answered(self._page)
        finally:
            self._is_loading = False
        self.board.load(page, counts)
        for event in self._early or ():
            self.board.take(event)
        self._early = None
        self._publish(self.board.page_json(_now()), True)
        self._pacer.poke()

    async def _page(self) -> tuple[Page, dict[str, int]]:
        return await asyncio.gather(self._kit.verbs.page(self.board.query), self._kit.verbs.counts(self._only))

    def _take(self, event: JobEvent) -> None:
        if self._early is not None:
            self._early.append(event)
            return
        self.board.take(event)
        self._counts_due = self._counts_due or not event.type.is_news
        self._pacer.poke()

    def _status(self, is_live: bool) -> None:
        if is_live:
            self._run(self._read())

    def _flush(self) -> None:
        text = self.board.delta_json(_now())
        if text:
            self._publish(text, False)
        if self.board.unknown and not self._reading:
            self._reading = True
            self._run(self._learn())
        if self._counts_due and not self._counting:
            self._counting = True
            self._run(self._count())

    async def _learn(self) -> None:
        try:
            ids = self.board.to_read()
            found = await answered(lambda: self._kit.verbs.store.snapshots(ids))
            self.board.learn(found, _now())
        finally:
            self._reading = False
        self._pacer.poke()

    async def _count(self) -> None:
        try:
            self._counts_due = False
            self.board.count(await answered(lambda: self._kit.verbs.counts(self._only)))
            self._pacer.poke()
            await asyncio.sleep(_COUNTS_S if self._only is None else _OWN_COUNTS_S)
        finally:
            self._counting = False
        if self._counts_due:
            self._pacer.poke()

    def _publish(self, text: str, is_page: bool) -> None:
        for deliver in list(self._subscribers.values()):
            deliver(text, is_page)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        runner = asyncio.get_running_loop().create_task(self._guarded(work))
        self._runners.add(runner)
        runner.add_done_callback(self._runners.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except JobkitError as error:
            logger.warning("a page of jobs could not be read: %s", error)


_feeds: weakref.WeakKeyDictionary[Kit, dict[tuple[Query, str | None], BoardFeed]] = weakref.WeakKeyDictionary()


class Watching:
    """One table's hold on a page of jobs; from any thread.

    Args:
        kit, query: which.
        deliver: called with each text, and whether it is the whole page.
        only: the owner whose jobs are shown and counted, whatever the query says; None for everybody's.
    """

    def __init__(
        self, kit: Kit, query: Query, deliver: Callable[[str, bool], None], *, only: str | None = None
    ) -> None:
        self._kit = kit
        self._only = only
        self._query = query if only is None else narrowed(query, only)
        self._deliver = deliver
        self._feed: BoardFeed | None = None
        self._key = 0
        self._is_stopped = False
        background.start().call_soon_threadsafe(self._begin)

    def stop(self) -> None:
        self._is_stopped = True
        background.start().call_soon_threadsafe(self._end)

    def resend(self, n: int) -> None:
        """Deliver the page again, unless `n` is the number of the last delta."""
        background.start().call_soon_threadsafe(lambda: self._again(n))

    def _begin(self) -> None:
        if not self._is_stopped:
            feeds = _feeds.setdefault(self._kit, {})
            key = self._query, self._only
            self._feed = feeds.get(key) or feeds.setdefault(key, BoardFeed(self._kit, *key))
            self._key = self._feed.add(self._deliver)

    def _end(self) -> None:
        if self._feed is not None:
            self._feed.leave(self._key)

    def _again(self, n: int) -> None:
        if self._feed is not None and not self._is_stopped:
            self._feed.tell(self._key, n)


def _forget(kit: Kit, feed: BoardFeed) -> None:
    feeds = _feeds.get(kit, {})
    for key in [key for key, each in feeds.items() if each is feed]:
        del feeds[key]


def _now() -> datetime:
    return datetime.now(UTC)


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
