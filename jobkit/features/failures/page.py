"""`FailuresPage`: failed jobs in groups, with their errors and actions. Live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import param

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.features.failures.group import FailureGroup, GroupState, shared
from jobkit.features.failures.kit import Failures
from jobkit.features.failures.store import FailureStore
from jobkit.model import EventType, InvalidParams, JobEvent, JobSnapshot, Pause, UnknownTask
from jobkit.model.format import many, params_brief, value_brief
from jobkit.model.plain import iso
from jobkit.model.trace import picture_of
from jobkit.store.values import CONTROL
from jobkit.tasks.info import TaskInfo, defaults_of
from jobkit.tasks.params import describe
from jobkit.ui.access.actions import ActionCall, ActionReply, action, deed_actions, each
from jobkit.ui.app.fed import fed
from jobkit.ui.form.form_model import read_field
from jobkit.ui.live.component import FeedPage
from jobkit.ui.live.page import Page, Turn
from jobkit.ui.live.shared_feed import TextFeed

#: States that can be listed; "open" has the regressed ones as well.
STATES = ("open", str(GroupState.MUTED), str(GroupState.RESOLVED))

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
        "chain": picture_of(error),
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


class FailuresFeed(TextFeed):
    """All groups of failures; see `picture`."""

    CHANNELS = (None, CONTROL)
    WINDOW_S = 0.2
    LOOK_S = 60.0  # the sparklines move with the hours

    def is_news(self, event: JobEvent) -> bool:
        return event.type in _TELLING

    async def data(self) -> dict[str, Any]:
        store = self.kit.verbs.store
        return picture(await store.part(FailureStore).groups((), "", GROUPS), await self.kit.verbs.pauses())


class GroupFeed(FailuresFeed):
    """One group of failures, with so many of its jobs at most; see `detail`."""

    NAME = "detail"

    def __init__(self, kit: Kit, group: str, limit: int) -> None:
        super().__init__(kit)
        self._group, self._limit = group, limit

    async def data(self) -> dict[str, Any]:
        store, id, limit = self.kit.verbs.store, self._group, self._limit
        failures = store.part(FailureStore)
        group = await failures.group(id)
        if group is None:
            return {"id": id, "gone": True}
        ids, cursor = await failures.jobs(id, limit=max(limit, _COMPARED))
        again, _ = await failures.jobs(id, limit=max(limit, _COMPARED), is_repeated=True)
        jobs = [job for job in await store.snapshots(ids) if job is not None]
        info = await _info_of(self.kit, group.task, ids)
        return detail(group, jobs, set(again), bool(cursor), info, limit)


async def _info_of(kit: Kit, task: str, ids: Sequence[str]) -> TaskInfo | None:
    """Return the task of a group with these jobs; None if it is not known here, or if the newest ran other code."""
    info: TaskInfo | None = (await kit.aio.tasks()).get(task)
    is_other = info is not None and ids and await kit.aio.runs_other_code(ids[0])
    return None if is_other else info


# -- what can be done --------------------------------------------------------------------------------------------------


async def _retry(call: ActionCall, group: str) -> None:
    changes = await _changes(call, group)
    came = await call.kit.aio.failures.retry(group, changes=changes, owner=call.person.name)
    call.made += came.jobs.values()
    call.done = f"run again: {many(len(came.jobs), 'job')}"
    if came.refused:
        why = next(iter(came.refused.values()))
        call.refuse(group, f"{many(len(came.refused), 'job')} could not be run again: {why}")
    elif not came.jobs:
        call.refuse(group, "every job of this group has been run again already")


async def _changes(call: ActionCall, group: str) -> dict[str, Any]:
    """Return the other arguments that were asked for, from the fields of a form; the kit checks them."""
    fields = call.details.get("changes")
    if not isinstance(fields, Mapping) or not fields:
        return {}
    task = (await call.kit.aio.failures.get(group)).task
    ids, _ = await background.call_async(call.kit.verbs.store.part(FailureStore).jobs(group, limit=1))
    info = await _info_of(call.kit, task, ids)
    if info is None:
        why = call.kit.verbs.refused_tasks.get(task) or f"task {task!r} is not known here"
        raise UnknownTask(f"{why}; so its arguments cannot be checked; run it from Python")
    specs = {spec.name: spec for spec in info.params}
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in specs:
            raise InvalidParams(f"task {task!r} has no argument {str(name)[:60]!r}", str(name))
        values[name] = read_field(specs[name], field if isinstance(field, Mapping) else {"text": str(field)})
    return values


async def _drop(call: ActionCall, group: str) -> None:
    call.done = f"dropped: {many(await call.kit.aio.failures.drop(group), 'job')} deleted"


action("retry_group", each(_retry), "run again", on="group")
deed_actions(Failures)
action("drop_group", each(_drop), "dropped", on="group")

#: Those that the page of failures offers.
GROUP_ACTIONS = ("retry_group", "mute_group", "resolve_group", "reopen_group", "drop_group")


class FailuresPage(FeedPage):
    """Groups of failures.

    Attributes:
        detail: of the group that is open, see `detail`.
        group: id of the group that is open, or "". state: the listed one of `STATES`.
    """

    ACTIONS = (*GROUP_ACTIONS, "pause_task", "resume_task")

    detail = param.String(default="")
    group = param.String(default="")
    state: Any = param.Selector(default=STATES[0], objects=list(STATES))

    _limit = JOBS

    MODULE = "failures"

    def __init__(self, kit: Kit, **params: Any) -> None:
        super().__init__(kit, **params)
        self.param.watch(lambda _: self._show(JOBS), "group")

    def _feeds(self) -> list[tuple[Any, ...]]:
        return [(FailuresFeed,), *([(GroupFeed, self.group, self._limit)] if self.group else [])]

    def _show(self, limit: int) -> None:
        self._limit = limit
        self._follow()

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "group":
            self.group = str(asked.get("id", ""))[:200]
        elif action == "state" and asked.get("state") in STATES:
            self.param.update(state=str(asked["state"]), group="")
        elif action == "more":
            self._show(min(MOST_JOBS, self._limit * 3))

    def _details(self, action: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        changes = asked.get("changes")
        return {"changes": changes} if action == "retry_group" and isinstance(changes, dict) else {}

    def _acted(self, action: str, id: str, reply: ActionReply) -> None:
        can_undo = reply.is_ok and action in ("mute_group", "resolve_group")
        self._say(text=reply.sentence, level="info" if reply.is_ok else "error", undo=id if can_undo else "")


PAGE = Page(
    "failures",
    "Failures",
    partial(fed, FailuresPage, url={"group": "group", "state": "state"}),
    keys=(("j  k", "next, previous group"),),
    turn=Turn(lambda group: {"group": group}),
)
