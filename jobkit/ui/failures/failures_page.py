"""`FailuresPage`: failed jobs in groups, with their errors and actions. Live."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.model import InvalidParams, UnknownTask
from jobkit.ui.access.actions import PAUSE_ACTIONS, ActionCall, ActionReply, Actions, action, each
from jobkit.ui.failures.failures_feed import JOBS, MOST_JOBS, STATES, FailuresFeed, FailuresSubscriber
from jobkit.ui.form.form_values import read_field
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.browser_requests import on_request
from jobkit.ui.live.component import Component
from jobkit.ui.live.shared_feed import FeedSubscription
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client import Kit

# -- what can be done --------------------------------------------------------------------------------------------------


async def _retry(call: ActionCall, group: str) -> None:
    changes = await _changes(call, group)
    came = await call.kit.aio.retry_failures(group, changes=changes, owner=call.person.name)
    for job_id in came.jobs.values():
        call.make(job_id)
    call.done = f"run again: {_jobs(len(came.jobs))}"
    if came.refused:
        why = next(iter(came.refused.values()))
        call.refuse(group, f"{_jobs(len(came.refused))} could not be run again: {why}")
    elif not came.jobs:
        call.refuse(group, "every job of this group has been run again already")


async def _changes(call: ActionCall, group: str) -> dict[str, Any]:
    """Return the other arguments that were asked for, from the fields of a form."""
    fields = call.details.get("changes")
    if not isinstance(fields, Mapping) or not fields:
        return {}
    task = (await call.kit.aio.failure(group)).task
    infos = await call.kit.aio.tasks()
    if task not in infos:
        why = call.kit.verbs.refused_tasks.get(task) or f"task {task!r} is not known here"
        raise UnknownTask(f"{why}; so its arguments cannot be checked; run it from Python")
    specs = {spec.name: spec for spec in infos[task].params}
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in specs:
            raise InvalidParams(f"task {task!r} has no argument {str(name)[:60]!r}", str(name))
        values[name] = read_field(specs[name], field if isinstance(field, Mapping) else {"text": str(field)})
    changes: dict[str, Any] = infos[task].changes(values)
    return changes


async def _drop(call: ActionCall, group: str) -> None:
    call.done = f"dropped: {_jobs(await call.kit.aio.drop(group))} deleted"


async def _mute(call: ActionCall, group: str) -> None:
    await call.kit.aio.mute(group, by=call.person.name)


async def _resolve(call: ActionCall, group: str) -> None:
    await call.kit.aio.resolve(group, by=call.person.name)


async def _reopen(call: ActionCall, group: str) -> None:
    await call.kit.aio.reopen(group, by=call.person.name)


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"


action("retry_group", each(_retry), "run again", on="group", is_dangerous=True)
action("mute_group", each(_mute), "muted", on="group")
action("resolve_group", each(_resolve), "resolved", on="group")
action("reopen_group", each(_reopen), "opened again", on="group")
action("drop_group", each(_drop), "dropped", on="group", is_dangerous=True)

#: Those that the page of failures offers.
GROUP_ACTIONS = ("retry_group", "mute_group", "resolve_group", "reopen_group", "drop_group")

OFFERED = (*GROUP_ACTIONS, *PAUSE_ACTIONS)


class FailuresPage(Component, JSComponent):
    """Groups of failures.

    Args:
        kit: whose.
        on_open: called in the session with the id of the job that was clicked.
        on_choose: called in the session with the id of the group that was opened ("" for none) and the state that
            is listed, when either was chosen in the browser.
        bridge, access: of the session, where the caller already has them.

    Attributes:
        picture, detail: what the browser shows; see `failures_feed`.
        group: id of the group that is open, or "". state: "open" (with those that regressed), "muted" or "resolved".
        notice: result of the last action, JSON. actions: the allowed ones, JSON.
        is_open: whether the page is shown; only then is anything read.
    """

    picture = param.String(default="")
    detail = param.String(default="")
    group = param.String(default="")
    state = param.String(default="open")
    notice = param.String(default="")
    actions = param.String(default="[]")
    is_open = param.Boolean(default=True)
    request = param.String(default="")

    part_of: ClassVar[Mapping[str, str]] = {}

    _esm = assets.esm("failures")
    _stylesheets: ClassVar[list[str]] = [assets.css("failures")]

    def __init__(
        self,
        kit: Kit,
        *,
        on_open: Callable[[str], object] | None = None,
        on_choose: Callable[[str, str], object] | None = None,
        bridge: SessionBridge | None = None,
        access: Actions | None = None,
        **params: Any,
    ) -> None:
        self._access = access or Actions(kit)
        offered = json.dumps(self._access.offered(OFFERED))
        super().__init__(actions=offered, **params)
        self._kit = kit
        self._on_open, self._on_choose = on_open, on_choose
        self._bridge = bridge or SessionBridge()
        self._subscriber = FailuresSubscriber(lambda texts, _: self._bridge.put(self, texts), self.group)
        self._subscription = FeedSubscription(kit, FailuresFeed, self._subscriber)
        self._n = 0
        self._bridge.on_close(self._subscription.stop)
        on_request(self, self._bridge, self._do)
        self.param.watch(lambda _: self._follow(), ["is_open", "group"])
        self._follow()

    def _follow(self) -> None:
        if not self.is_open or not self._bridge.is_open:
            self._subscription.stop()
        elif self._subscription.is_active:
            group = self.group
            self._subscription.ask(lambda feed: self._turn(group, feed))
        else:
            self._turn(self.group)
            self._subscription.start()

    def _turn(self, group: str, feed: FailuresFeed | None = None) -> None:
        if group != self._subscriber.group:
            self._subscriber.group, self._subscriber.limit = group, JOBS
        if feed is not None:
            feed.tell(self._subscriber)

    def _more(self, feed: FailuresFeed) -> None:
        self._subscriber.limit = min(MOST_JOBS, self._subscriber.limit * 3)
        feed.tell(self._subscriber)

    def _acted(self, action: str, group: str, answer: ActionReply) -> None:
        can_undo = answer.is_ok and action in ("mute_group", "resolve_group")
        told = {
            "text": answer.sentence,
            "level": "info" if answer.is_ok else "error",
            "undo": group if can_undo else "",
            "action": action,
        }
        self._bridge.push(lambda: self._told(told))

    # -- in the session ---------------------------------------------------------------------------------------------

    def _told(self, told: Mapping[str, Any]) -> None:
        self._n += 1
        self.notice = json.dumps({**told, "n": self._n})  # the same sentence twice is told twice

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        id = str(asked.get("id", ""))[:200]
        if action == "hello":
            self._subscription.resend()
        elif action == "open" and self._on_open is not None:
            self._on_open(id)
        elif action == "group":
            self.group = id
            self._chosen()
        elif action == "state" and asked.get("state") in STATES:
            self.param.update(state=str(asked["state"]), group="")
            self._chosen()
        elif action == "more":
            self._subscription.ask(self._more)
        elif action in ("pause_task", "resume_task"):
            self._access.begin(action, [str(asked.get("task", ""))[:200]], partial(self._acted, action, id))
        elif action in GROUP_ACTIONS:
            changes = asked.get("changes")
            details = {"changes": changes} if action == "retry_group" and isinstance(changes, dict) else {}
            self._access.begin(action, [id], partial(self._acted, action, id), **details)

    def _chosen(self) -> None:
        if self._on_choose is not None:
            self._on_choose(self.group, self.state)
