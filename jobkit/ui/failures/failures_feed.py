"""`FailuresFeed`: groups of failures, read once for all sessions that show them, and again after each change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobkit.model import EventType, FailureGroup, GroupState, JobEvent, JobSnapshot, Pause
from jobkit.model.failure import shared
from jobkit.model.format import params_brief, value_brief
from jobkit.model.plain import iso
from jobkit.store.values import CONTROL
from jobkit.tasks.info import TaskInfo, defaults_of
from jobkit.tasks.params import describe
from jobkit.ui.live.shared_feed import SharedFeed, Subscriber
from jobkit.ui.words.trace import chain_of

#: Groups on the page, at most.
GROUPS = 300

#: Jobs of a group at first.
JOBS = 20

#: Jobs of a group at most.
MOST_JOBS = 500

#: So many of the newest jobs are compared to find what they have in common.
_COMPARED = 100

#: Changes of a job's state that change a group.
_TELLING = (EventType.FAILED, EventType.DELETED)


def picture(groups: Sequence[FailureGroup], pauses: Sequence[Pause] = ()) -> dict[str, Any]:
    """Return all groups, that failed last first, how many there are of each kind, and which tasks are paused."""
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
    """Return one group: the newest error, its jobs, what they have in common, and what could be changed."""
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
class FailuresSubscriber(Subscriber):
    """One page of failures: its open group ("" for none), how many jobs to show of it, and the texts that it has."""

    group: str = ""
    limit: int = JOBS
    has: dict[str, str] = field(default_factory=dict)


class FailuresFeed(SharedFeed[FailuresSubscriber]):
    """Delivers `picture`, the same to all, and `detail` of the group that is open there, as whole texts."""

    CHANNELS = (None, CONTROL)
    WINDOW_S = 0.2
    LOOK_S = 60.0  # the sparklines move with the hours

    def tell(self, subscriber: FailuresSubscriber, version: Any = None) -> None:
        subscriber.has.clear()
        self.poke()

    def take(self, event: JobEvent) -> None:
        if event.job_id == CONTROL or event.type in _TELLING:
            self.poke()

    def flush(self) -> None:
        self.reload()

    async def read(self) -> None:
        store = self.kit.verbs.store
        pauses = [pause for rule in await store.rules() if (pause := Pause.of(rule)) is not None]
        whole = picture(await store.failures.groups((), "", GROUPS), pauses)
        self._give(self.subscribers, "picture", whole)
        details: dict[tuple[str, int], dict[str, Any]] = {}
        for one in list(self.subscribers):
            which = (one.group, one.limit)
            if one.group and which not in details:
                details[which] = await self._detail(*which)
        for which, found in details.items():
            self._give([one for one in self.subscribers if (one.group, one.limit) == which], "detail", found)

    async def _detail(self, id: str, limit: int) -> dict[str, Any]:
        store = self.kit.verbs.store
        group = await store.failures.group(id)
        if group is None:
            return {"id": id, "gone": True}
        ids, cursor = await store.failures.jobs(id, limit=max(limit, _COMPARED))
        again, _ = await store.failures.jobs(id, limit=max(limit, _COMPARED), is_repeated=True)
        jobs = [job for job in await store.snapshots(ids) if job is not None]
        infos = await self.kit.aio.tasks()
        return detail(group, jobs, set(again), bool(cursor), infos.get(group.task), limit)

    def _give(self, subscribers: Sequence[FailuresSubscriber], name: str, found: Mapping[str, Any]) -> None:
        """Deliver to those that do not have the very same."""
        body = json.dumps(found, separators=(",", ":"), ensure_ascii=False, default=str)
        text = f'{body[:-1]},"now":"{iso(datetime.now(UTC))}"}}'
        for one in list(subscribers):
            if one.has.get(name) != body:
                one.has[name] = body
                one.deliver({name: text}, {})


STATES = ("open", str(GroupState.MUTED), str(GroupState.RESOLVED))
