"""What the page of failures shows, read once for all who look at it, and again when something of it has changed."""

from __future__ import annotations

import asyncio
import json
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobkit.model import EventType, FailureGroup, GroupState, JobEvent, JobkitError, JobSnapshot, Pause
from jobkit.model.failure import shared
from jobkit.model.snapshot import iso
from jobkit.store.values import CONTROL
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.params import describe
from jobkit.ui.live.pace import Pacer, Rereading, answered, on_loop
from jobkit.ui.words.format import defaults_of, params_brief, value_brief
from jobkit.ui.words.trace import chain_of

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")

#: Seconds between two looks, and until the next one where nothing has happened: the sparklines move with the hours.
_WINDOW_S, _LOOK_S = 0.2, 60.0

#: Groups on the page, and jobs of a group at first and at most.
GROUPS, JOBS, MOST_JOBS = 300, 20, 500

#: So many of the newest jobs are compared to find what they have in common.
_COMPARED = 100

#: Changes of a job's state that change a group.
_TELLING = (EventType.FAILED, EventType.DELETED)


def picture(groups: Sequence[FailureGroup], pauses: Sequence[Pause] = ()) -> dict[str, Any]:
    """All groups, that failed last first, how many there are of each kind, and which tasks are paused."""
    counts = {"open": 0, "muted": 0, "resolved": 0}
    for group in groups:
        counts["open" if group.state.needs_a_look else str(group.state)] += 1
    return {
        "groups": [{**group.to_json(), "message": "", "waiting": group.waiting} for group in groups],
        "counts": counts,
        "paused": {pause.name: pause.to_json() for pause in pauses if pause.kind == "task"},
        "is_cut": len(groups) >= GROUPS,
    }


def detail(
    group: FailureGroup,
    jobs: Sequence[JobSnapshot],
    repeated: set[str],
    has_more: bool,
    info: TaskInfo | None,
    limit: int,
) -> dict[str, Any]:
    """One group: the newest error, its jobs, what they have in common, and what could be changed."""
    same, different = shared(job.spec.params for job in jobs[:_COMPARED])
    newest = next((job for job in jobs if job.error is not None), None)
    error = newest.error if newest is not None else None
    defaults = None if info is None else defaults_of({group.task: info})[group.task]
    return {
        "id": group.id,
        "task": group.task,
        "message": group.message,
        "error": error.to_json() if error else None,
        "error_of": newest.id if newest else "",
        "chain": [
            {
                "headline": raised.headline,
                "frames": [frame.to_json() for frame in raised.frames],
            }
            for raised in (chain_of(error.traceback) if error else ())
        ],
        "shared": [[name, value_brief(value, 120)] for name, value in same.items()] if len(jobs) > 1 else [],
        "different": different,
        "compared": min(len(jobs), _COMPARED),
        "jobs": [
            {
                "id": job.id,
                "args": params_brief({n: v for n, v in job.spec.params.items() if n in different})
                if len(jobs) > 1
                else params_brief(job.spec.params, defaults),
                "finished_at": iso(job.finished_at),
                "worker": job.worker,
                "owner": job.spec.owner,
                "repeated": job.id in repeated,
            }
            for job in jobs[:limit]
        ],
        "more": has_more or len(jobs) > limit,
        "params": [
            {
                "name": spec.name,
                "what": describe(spec),
                "value": value_brief(same[spec.name], 120) if spec.name in same else "",
                "differs": spec.name in different,
            }
            for spec in (info.params if info is not None else ())
        ],
    }


@dataclass(eq=False, slots=True)
class Looker:
    """One tab: whom to deliver texts to, and which group is open there. `detail` is the one that it has."""

    deliver: Callable[[Mapping[str, str]], None]
    group: str = ""
    limit: int = JOBS
    has: dict[str, str] = field(default_factory=dict)


class FailuresFeed:
    """Reads for all who look. Lives on the background loop."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._lookers: list[Looker] = []
        self._reading = Rereading(self._read)
        self._pacer = Pacer(_WINDOW_S, self._reading.ask)
        self._stops: list[Callable[[], None]] = []
        self._runner: asyncio.Task[None] | None = None

    def add(self, looker: Looker) -> None:
        self._lookers.append(looker)
        if self._runner is None:
            self._stops = [
                self._kit.hub.listen(lambda event: on_loop(self._heard, event), None),
                self._kit.hub.listen(lambda event: on_loop(self._heard, event), CONTROL),
                self._kit.hub.on_status(lambda is_live: on_loop(self._status, is_live)),
            ]
            self._runner = asyncio.get_running_loop().create_task(self._watch())
        else:
            self.again(looker)

    def leave(self, looker: Looker) -> None:
        if looker in self._lookers:
            self._lookers.remove(looker)
        if not self._lookers and self._runner is not None:
            self._pacer.stop()
            for stop in self._stops:
                stop()
            self._reading.stop()
            self._runner.cancel()
            self._runner = None
            if _feeds.get(self._kit) is self:
                del _feeds[self._kit]

    def again(self, looker: Looker) -> None:
        """All texts to this one, soon: it has just come, or looks at another group."""
        looker.has.clear()
        self._pacer.poke()

    def _heard(self, event: JobEvent) -> None:
        if event.job_id == CONTROL or event.type in _TELLING:
            self._pacer.poke()

    def _status(self, is_live: bool) -> None:
        if is_live:
            self._pacer.poke()

    async def _watch(self) -> None:
        await self._kit.hub.ready(None)
        await self._kit.hub.ready(CONTROL)
        while True:
            self._pacer.poke()
            await asyncio.sleep(_LOOK_S)

    async def _read(self) -> None:
        try:
            await answered(self._read_all)
        except JobkitError as error:
            logger.warning("failures could not be read: %s", error)

    async def _read_all(self) -> None:
        store = self._kit.verbs.store
        pauses = [pause for rule in await store.rules() if (pause := Pause.of(rule)) is not None]
        whole = picture(await store.failures((), "", GROUPS), pauses)
        self._give(self._lookers, "picture", whole)
        details: dict[tuple[str, int], dict[str, Any]] = {}
        for looker in list(self._lookers):
            which = (looker.group, looker.limit)
            if looker.group and which not in details:
                details[which] = await self._detail(*which)
        for which, found in details.items():
            self._give([one for one in self._lookers if (one.group, one.limit) == which], "detail", found)

    async def _detail(self, id: str, limit: int) -> dict[str, Any]:
        store = self._kit.verbs.store
        group = await store.failure(id)
        if group is None:
            return {"id": id, "gone": True}
        ids, cursor = await store.failed_jobs(id, limit=max(limit, _COMPARED))
        again, _ = await store.failed_jobs(id, limit=max(limit, _COMPARED), is_repeated=True)
        jobs = [job for job in await store.snapshots(ids) if job is not None]
        infos = await self._kit.aio.tasks()
        return detail(group, jobs, set(again), bool(cursor), infos.get(group.task), limit)

    def _give(self, lookers: Sequence[Looker], name: str, found: Mapping[str, Any]) -> None:
        """To those who have not got the very same."""
        body = json.dumps(found, separators=(",", ":"), ensure_ascii=False, default=str)
        text = f'{body[:-1]},"now":"{iso(datetime.now(UTC))}"}}'
        for looker in list(lookers):
            if looker.has.get(name) != body:
                looker.has[name] = body
                looker.deliver({name: text})


_feeds: weakref.WeakKeyDictionary[Kit, FailuresFeed] = weakref.WeakKeyDictionary()


def feed_of(kit: Kit) -> FailuresFeed:
    """The one of this kit; on the background loop."""
    return _feeds.get(kit) or _feeds.setdefault(kit, FailuresFeed(kit))


STATES = ("open", str(GroupState.MUTED), str(GroupState.RESOLVED))
