"""Home, the page of all jobs in no other order: what runs, what waits in the order of start, and what ended last.

The whole page is read anew after changes of state, because the positions of other rows follow from them. What is read
is bounded. In between, single jobs change by their events, as on every page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, zip_longest
from typing import Any

import msgspec

from jobkit.client.kit import Kit
from jobkit.model import EventType, JobEvent, JobSnapshot, JobState, apply
from jobkit.model.plain import iso
from jobkit.model.start import Start
from jobkit.store.grammar import COUNTERS
from jobkit.store.lines import HEAD, MOST_RUNNING, Lines, read_lines, running_jobs
from jobkit.store.query import Query, QueryPage
from jobkit.ui.jobs.board import WAITING, Board, BoardFeed
from jobkit.ui.jobs.groups import Group, groups
from jobkit.ui.live.shared_feed import QueryFeed, Subscriber

#: Rows of what runs, at most; of what waits, at most if enough has ended to fill the page, and in any case.
_RUNNING, _WAITING, _WAITING_MOST = 15, 8, HEAD

#: Waiting jobs that are looked at for those that start next.
_HEADS = 60

#: Ended jobs and groups that are looked at for those that ended last.
_LOOKED_AT = 100

#: The page after this one is the first of all jobs, newest first. Above any time of submit.
AFTER_HOME = str(10**18 - 1)

#: Seconds between two reads of the page, at least: a multiple of the time that the last one took, between these.
_ARRANGE_S, _ARRANGE_REST, _ARRANGE_MOST_S = 0.5, 5, 5.0

#: Seconds between two reads while jobs wait, at most, since the forecast moves with the time.
_FORECAST_S = 15.0

_NEVER = datetime.max.replace(tzinfo=UTC)


def is_home(query: Query) -> bool:
    """Return True if a page of this query is home."""
    return query == Query(limit=query.limit)


class HomeBoard(Board):
    """The rows of home. New jobs come with the next read, in their place; see `is_outdated`."""

    def __init__(self, query: Query, only: str | None = None) -> None:
        self.is_outdated = False
        """A job has come, gone or changed its state: read the page again."""
        self._is_read = False
        self._has_moved = False
        super().__init__(query, only)

    def load(
        self,
        page: QueryPage,
        counts: Mapping[str, int] | None,
        total: int | None = None,
        found: Mapping[str, Group] | None = None,
    ) -> None:
        """Start from a page that was just read; what differs from the one before is in the next `delta`."""
        rows, before, told = self.jobs, self.groups, self._told
        new, changed, left = set(self._new), set(self._changed), set(self._left)
        super().load(page, counts, total, found)
        self.is_outdated = False
        if self._is_read:
            self._told = told
            self._has_moved = self._has_moved or [*rows] != [*self.jobs]
            self._left = (rows.keys() | left) - self.jobs.keys()
            self._new = [row_id for row_id in reversed(self.jobs) if row_id in new or row_id not in rows]
            self._changed = {
                row_id
                for row_id, job in self.jobs.items()
                if row_id in changed or job != rows.get(row_id) or self.groups.get(row_id) != before.get(row_id)
            }
        self._is_read = True

    def take(self, event: JobEvent) -> None:
        known = self.jobs.get(event.job_id)
        if known is not None and event.type is not EventType.DELETED:
            moved = apply(known, event)
            if moved is not None and moved is not known:
                self._put(moved, event.at)
        self.is_outdated = self.is_outdated or not event.type.is_news

    def whole(self, now: datetime) -> dict[str, Any]:
        return {**super().whole(now), "home": True, "more": self._more}

    def delta(self, now: datetime) -> dict[str, Any]:
        """As of `Board`, and `order`: the ids of all rows, if their order has changed."""
        moved, self._has_moved = self._has_moved, False
        delta = super().delta(now)
        return {**delta, "order": [*self.jobs], "now": iso(now)} if moved else delta

    def _numbers(self) -> dict[str, Any]:
        return {**super()._numbers(), "more": self._more}

    @property
    def _more(self) -> str:
        """The cursor of the next page, "" if every job is on this one."""
        shown = sum(self.groups[id].made if id in self.groups else 1 for id in self.jobs)
        return "" if self.total is not None and self.total <= shown else self.next_cursor


class HomePage(msgspec.Struct, frozen=True):
    """The rows of home in their order, the groups among them, and the expected starts."""

    page: QueryPage
    groups: Mapping[str, Group]
    starts: dict[str, Start]


async def read_home(kit: Kit, query: Query, only: str | None) -> HomePage:
    """Read the page. `query`: of home, with its owner."""
    store, of = kit.verbs.store, groups()
    running, lines, newest, (ended, searched) = await asyncio.gather(
        _running(kit, only), read_lines(store), of.newest(kit, _LOOKED_AT, only), _ended(kit, query)
    )
    waiting = await _waiting(kit, lines, only)
    running.sort(key=lambda job: job.started_at or _NEVER, reverse=True)
    ids = [job.id for job in running]
    homes = dict(zip(ids, await of.homes(kit, ids), strict=True))
    homes |= dict(zip(waiting, await of.homes(kit, waiting), strict=True))
    infos = {group.id: group for group in newest}
    missing = sorted({home for home in homes.values() if home} - infos.keys())
    infos |= {group.id: group for group in await of.infos(kit, missing) if group is not None}

    def alone(job_ids: Iterable[str]) -> list[str]:
        return [id for id in job_ids if homes[id] is not None and homes[id] not in infos]

    first = {of.row_id(home): place for place, id in reversed([*enumerate(waiting)]) if (home := homes[id]) in infos}
    heads = {row_id: waiting[place] for row_id, place in first.items()}  # what holds back the first job of a group
    jobs = await _jobs(kit, [*alone(ids)[:_RUNNING], *alone(waiting), *heads.values()])
    looked_at = [jobs[id] for id in (*alone(waiting), *heads.values()) if id in jobs]
    starts = await kit.verbs.expected_starts(looked_at, lines)
    starts |= {row_id: starts[id] for row_id, id in heads.items() if id in starts}
    rows = [*(jobs[id] for id in chain(alone(ids), alone(waiting)) if id in jobs), *ended]
    shown = {row.id: row for row in rows} | {of.row_id(id): of.snapshot_of(group) for id, group in infos.items()}
    page = _arranged(shown.values(), starts, first, query.limit)
    on_page = {row.id for row in page}
    found = {row_id: group for id, group in infos.items() if (row_id := of.row_id(id)) in on_page}
    return HomePage(QueryPage(tuple(page), AFTER_HOME, searched), found, starts)


def _arranged(
    rows: Iterable[JobSnapshot], starts: Mapping[str, Start], first: Mapping[str, int], limit: int
) -> list[JobSnapshot]:
    """Return the rows of the page in their order. `first`: place in line of the first waiting job of groups."""
    every = list(rows)
    running = [row for row in every if row.state is JobState.RUNNING]
    running.sort(key=lambda row: row.started_at or _NEVER, reverse=True)
    waiting = [row for row in every if row.state in WAITING]
    ended = [row for row in every if row.is_terminal]
    ended.sort(key=lambda row: row.finished_at or _NEVER, reverse=True)

    def start(row: JobSnapshot) -> tuple[Any, ...]:
        found = starts.get(row.id, Start(ahead=first.get(row.id)))
        place = found.ahead if found.ahead is not None else limit
        return found.at or _NEVER, place, row.submitted_at or _NEVER

    waiting.sort(key=start)
    running = running[:_RUNNING]
    room = max(_WAITING, limit - len(running) - len(ended))
    alive = [*running, *waiting[: min(room, _WAITING_MOST)]]
    return [*alive, *ended[: limit - len(alive)]]


async def _running(kit: Kit, only: str | None) -> list[JobSnapshot]:
    """Return running jobs: those that were submitted last, of all or of an owner."""
    if only is not None:  # among the newest of all there may be none of theirs
        return list((await kit.verbs.page(Query(states=("running",), owner=only, limit=MOST_RUNNING))).jobs)
    return [one.job for one in await running_jobs(kit.verbs.store)]


async def _waiting(kit: Kit, lines: Lines, only: str | None) -> list[str]:
    """Return ids of waiting jobs, those that start next among them; of an owner's jobs the oldest."""
    if only is not None:
        query = Query(states=("queued", "scheduled"), owner=only, order="submitted", limit=HEAD)
        return [job.id for job in (await kit.verbs.page(query)).jobs]
    parts = [ids for part in (lines.ready, lines.held, lines.due) for ids in part.values()]
    heads = [id for some in zip_longest(*parts) for id in some if id is not None][:_HEADS]
    store = kit.verbs.store  # those that wait for results of others stand in no line
    others = store.names("state:scheduled", await store.ask("ZREVRANGE", "state:scheduled", 0, HEAD - 1))
    return list(dict.fromkeys([*heads, *others]))


async def _ended(kit: Kit, query: Query) -> tuple[list[JobSnapshot], int | None]:
    """Return ended jobs of no group, those that ended last among them, and `searched` as of `QueryPage`."""
    store = kit.verbs.store
    ended = msgspec.structs.replace(query, states=COUNTERS["ended"], limit=_LOOKED_AT)
    if query.owner is not None:
        page = await kit.verbs.page(msgspec.structs.replace(ended, batch=("",)))
        return list(page.jobs), page.searched
    (by_age, _), by_end, singles = await asyncio.gather(
        store.finder.page(ended),
        store.ask("ZREVRANGE", "expiry", 0, _LOOKED_AT - 1),
        groups().singles(kit, _LOOKED_AT),  # those of the other two may all be of one group
    )
    ids = list(dict.fromkeys([*by_age, *store.names("expiry", by_end), *singles]))
    homes = await groups().homes(kit, ids)
    alone = [job_id for job_id, home in zip(ids, homes, strict=True) if home == ""]
    found = [one.job for one in await store.finder.candidates(alone) if one is not None and one.job.is_terminal]
    found.sort(key=lambda job: job.finished_at or _NEVER, reverse=True)
    return list((await _jobs(kit, [job.id for job in found[: query.limit]])).values()), None


async def _jobs(kit: Kit, ids: Sequence[str]) -> dict[str, JobSnapshot]:
    """Return the jobs that are kept, by id."""
    return {job.id: job for job in await kit.verbs.store.snapshots(ids) if job is not None}


class HomeFeed(BoardFeed):
    """Keeps home up to date for all sessions that show it."""

    MODEL = HomeBoard
    model: HomeBoard

    def __init__(self, kit: Kit, query: Query, only: str | None = None) -> None:
        super().__init__(kit, query, only)
        self._arranger = self.paced(_ARRANGE_S, self.reload)
        self._is_told = False

    async def _page(self) -> tuple[QueryPage, Mapping[str, Group]]:
        began = asyncio.get_running_loop().time()
        home = await read_home(self.kit, self.query, self.only)
        took_s = asyncio.get_running_loop().time() - began
        self._arranger.window_s = min(_ARRANGE_MOST_S, max(_ARRANGE_S, _ARRANGE_REST * took_s))
        self.model.tell("starts", home.starts)
        return home.page, home.groups

    def loaded(self) -> None:
        if not self._is_told:
            self._is_told = self.searched is None  # while the index is filled, the whole page says how far it is
            super().loaded()
        self.look_at_best.poke()
        self.poke()
        if self.model.waiting:
            self.reload_in(_FORECAST_S)

    def tell(self, subscriber: Subscriber, version: Any = None) -> None:
        if self.is_loading:  # what is being read is told as a whole, as it would be by other feeds
            self._is_told = False
        super().tell(subscriber, version)

    def flush(self) -> None:
        QueryFeed.flush(self)

    def take(self, event: JobEvent) -> None:
        super().take(event)
        if self.model.is_outdated:
            self._arranger.poke()

    async def look_at_starts(self) -> None:
        """They are read with the page."""
