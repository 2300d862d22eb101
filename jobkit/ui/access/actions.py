"""`Actions`: the one gate for everything that a user does on a page.

One per session: its kit and its person. `act` checks the role and the owner of the job, acts, writes an entry into the
audit log and returns one sentence for the page. The table `ACTIONS` has all actions; a page with actions of your own
adds a line for each:

    action("pause_queue", each(lambda call, queue: call.kit.aio.queues.pause(queue)), "paused", on="queue")

A page hides buttons that are not allowed (`may`); their requests are refused here all the same.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jobkit.client.checks import unknown_job
from jobkit.client.forms import Deed, Noun
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.client.pauses import Queues, Tasks
from jobkit.features import modules
from jobkit.model import InvalidParams, JobkitError, JobSnapshot, StoreUnavailable, SubmitUnanswered
from jobkit.model.person import AuditEntry, Person, Role
from jobkit.settings import user_name

logger = logging.getLogger("jobkit.ui")

#: Targets of one call of the store, at most.
_SLICE = 500

#: Targets that `each` acts on at once.
_AT_ONCE = 8


@dataclass(slots=True)
class ActionCall:
    """One call of an action.

    Attributes:
        kit: to act on. person: the caller, whose role has been checked.
        targets: ids or names, at most `_SLICE` at a time, in the order of the page.
        details: the other arguments of the request.
        done: participle for the reply, if that of the action does not fit.
        made: ids of jobs that were made. problems: why targets failed.
    """

    kit: Kit
    person: Person
    targets: Sequence[str]
    details: Mapping[str, Any]
    done: str = ""
    made: list[str] = field(default_factory=list)
    problems: dict[str, JobkitError] = field(default_factory=dict)

    def table(self, name: str) -> Any:
        """Return an argument that is a table, {} if it was not given."""
        return self.details.get(name) or {}

    @property
    def by(self) -> str | None:
        """Name of the caller for the record; None for the user of this process, "" if unknown."""
        return self.person.name or (None if self.person.role is Role.ADMIN else "")

    def refuse(self, target: str, why: JobkitError | str) -> None:
        """Add a target that failed, with the reason."""
        self.problems[target] = why if isinstance(why, JobkitError) else JobkitError(why)


Do = Callable[[ActionCall], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A known action.

    Attributes:
        name: as pages ask for it, a command: "cancel", "pause_queue".
        do: does it, see `ActionCall`; `each` makes it from a function for one target.
        done: what was done, as in "job 5f0c1234 was cancelled".
        on: what the targets are: "job" (their owner is checked), "queue", "worker", "group", "schedule", ...
        least: the role that it takes.
        own_too: whether the role `own` may do it to its own jobs.
    """

    name: str
    do: Do
    done: str
    on: str
    least: Role
    own_too: bool


ACTIONS: dict[str, Action] = {}


def action(
    name: str, do: Do, done: str, *, on: str = "job", least: Role = Role.OPERATE, own_too: bool | None = None
) -> None:
    """Register an action, see `Action`. Unless `own_too` is given, the role `own` may do those on jobs.

    Example:
        >>> async def restart(call, name):
        ...     cameras[name].restart()
        >>> action("restart_camera", each(restart), "restarted", on="camera", least=Role.OPERATE)
    """
    is_own = on == "job" if own_too is None else own_too
    ACTIONS[name] = Action(name=name, do=do, done=done, on=on, least=least, own_too=is_own)


def deed_actions(noun: type[Noun]) -> None:
    """Register an action for each deed of a noun of the kit, named like "pause_schedule"."""
    for deed in noun.DEEDS:

        async def do(call: ActionCall, name: str, deed: Deed = deed) -> None:
            await noun.carry_out(call.kit, deed, name, call.person.name)

        action(f"{deed.name}_{noun.ON}", each(do), deed.done, on=noun.ON, least=deed.least)


def own_name(person: Person) -> str:
    """Return the name of the user whose own settings these are; "" for a visitor without a name.

    Without a login it is the user of this process.
    """
    return person.name or (user_name() if person.role is Role.ADMIN else "")


def each(one: Callable[[ActionCall, str], Awaitable[object]]) -> Do:
    """Make an action of a coroutine for one target; the error that it raises is the reason of refusal.

    Example:
        >>> async def restart(call, name):
        ...     cameras[name].restart()
        >>> verb = each(restart)
    """

    async def do(call: ActionCall) -> None:
        places = asyncio.Semaphore(_AT_ONCE)

        async def go(target: str) -> None:
            async with places:
                try:
                    await one(call, target)
                except JobkitError as error:
                    call.refuse(target, error)

        await asyncio.gather(*map(go, call.targets))

    return do


@dataclass(frozen=True, slots=True)
class ActionReply:
    """Result of an action.

    Attributes:
        sentence: for the page. outcome: "done", "partly", "failed" or "refused".
        made: ids of jobs that were made. error: the first thing that went wrong.
        is_noted: whether it stands in the audit trail.
    """

    sentence: str
    outcome: str = "done"
    made: tuple[str, ...] = ()
    error: JobkitError | None = None
    is_noted: bool = True

    @property
    def is_ok(self) -> bool:
        return self.outcome == "done"

    @property
    def problem(self) -> str:
        """The sentence if something failed, or could not be written into the audit log; else ""."""
        return "" if self.is_ok and self.is_noted else self.sentence


class Actions:
    """See the module's docstring.

    Args:
        kit: where actions are done.
        person: default: the person of this browser session, see `judge_here`.
        only_looks: refuse all actions, whatever the role.

    Attributes:
        judge: returns the person as they are now: the role may have changed since the page was opened.
        on_refused: called when the store refuses a change, though it can be read.
    """

    def __init__(self, kit: Kit, person: Person | None = None, *, only_looks: bool = False) -> None:
        self.kit = kit
        judge: Callable[[], Person] = Person if person is None else lambda: person
        if person is None and "panel" in sys.modules:  # a notebook without Panel does not load it for this
            from jobkit.ui.access.session import judge_here

            judge = judge_here(kit.settings)
        self.judge: Callable[[], Person] = (lambda: judge().looking()) if only_looks else judge
        self.person = self.judge()
        self.on_refused: Callable[[], object] = lambda: None

    def may(self, name: str) -> bool:
        """Return whether the role allows this action. Jobs of other owners are still refused by `act`."""
        wanted = ACTIONS.get(name)
        return wanted is not None and self._is_allowed(wanted)

    def sees(self, snapshot: JobSnapshot) -> bool:
        """Return whether the person may see this job."""
        return self.person.sees(snapshot.spec.owner)

    def begin(
        self, name: str, targets: Sequence[str], then: Callable[[ActionReply], object] | None = None, /, **details: Any
    ) -> None:
        """`act` in the background, from any thread; `then` is called on the background loop with the answer."""

        async def run() -> None:
            answer = await self.act(name, targets, **details)
            if then is not None:
                then(answer)

        background.spawn(run())

    async def act(self, name: str, targets: Sequence[str], /, **details: Any) -> ActionReply:
        """Act on each of `targets`, in any event loop. Raises nothing except CancelledError.

        Args:
            name: one of `ACTIONS`.
            targets: ids or names; those of more than one kind of thing are no targets of one action.
            details: what else the action takes.
        """
        wanted = ACTIONS.get(name)
        if wanted is None:
            return ActionReply(f"there is no action {name[:60]!r} here", "refused")
        targets = list(dict.fromkeys(map(str, targets)))
        self.person = self.judge()
        if not self._is_allowed(wanted):
            return await self._noted(wanted, targets, ActionReply(self._not_allowed(wanted), "refused"))
        if not targets:
            return ActionReply(f"there is nothing to be {wanted.done}", "failed")
        try:
            answer = await self._carry_out(wanted, targets, details)
        except Exception:
            logger.exception("%s failed", name)
            answer = ActionReply("it did not work, by a fault of jobkit; the server's log has more", "failed")
        if isinstance(answer.error, StoreUnavailable) and answer.error.only_reads:
            self.on_refused()
        return await self._noted(wanted, targets, answer)

    async def _carry_out(self, wanted: Action, targets: Sequence[str], details: Mapping[str, Any]) -> ActionReply:
        call = ActionCall(self.kit, self.person, targets, details, wanted.done)
        try:
            for start in range(0, len(targets), _SLICE):
                call.targets = targets[start : start + _SLICE]
                if wanted.on == "job" and not self.person.sees_all:
                    await self._leave_out_foreign(call)
                if call.targets:
                    await wanted.do(call)
        except JobkitError as error:  # the store is away: as good as all of the rest
            if len(targets) == 1 or not call.made:
                return ActionReply(_words(error), "failed", tuple(call.made), error)
            call.refuse("", error)
        return _answer(wanted, targets, call)

    async def _leave_out_foreign(self, call: ActionCall) -> None:
        """Split targets into visible ones and problems; a job that the person may not see does not exist."""
        found: Sequence[JobSnapshot | None] = await background.call_async(self.kit.verbs.store.snapshots(call.targets))
        kept = []
        for target, snapshot in zip(call.targets, found, strict=True):
            if snapshot is not None and self.sees(snapshot):
                kept.append(target)
            else:
                call.refuse(target, unknown_job(target))
        call.targets = kept

    def _is_allowed(self, wanted: Action) -> bool:
        return self.person.may(wanted.least) or (self.person.may_with_own and wanted.own_too)

    def _not_allowed(self, wanted: Action) -> str:
        words = wanted.name.replace("_", " ")
        if self.person.only_looks:
            return f"this page only shows: you may not {words} here"
        return (
            f"{self.person.name or 'you'} may not {words} here: that takes the role {wanted.least}, "
            f"and {'theirs' if self.person.name else 'yours'} is {self.person.role}"
        )

    async def _noted(self, wanted: Action, targets: Sequence[str], answer: ActionReply) -> ActionReply:
        """Write the audit entry and return the reply, which says so if the entry could not be written."""
        entry = AuditEntry.of(
            self.person.name, self.person.role, "page", wanted.name, wanted.on, targets, answer.outcome, answer.sentence
        )
        logger.info("%s: %s %s: %s", entry.who or "anonymous", entry.action, ", ".join(entry.targets), entry.outcome)
        try:
            await background.call_async(self.kit.verbs.trail.note(entry))
        except JobkitError:  # the log has more
            sentence = f"{answer.sentence}; this is not in the audit trail yet, which cannot be written just now"
            return replace(answer, sentence=sentence, is_noted=False)
        return answer


def _answer(wanted: Action, targets: Sequence[str], call: ActionCall) -> ActionReply:
    all_, failed = len(targets), len(call.problems)
    if not failed:
        what = f"{wanted.on} {_short(targets[0])} was" if all_ == 1 else f"{all_:,} {wanted.on}s were"
        return ActionReply(f"{what} {call.done}", "done", tuple(call.made))
    first = next(iter(call.problems.values()))
    outcome = "failed" if failed == all_ else "partly"
    sentence = (
        _words(first) if all_ == 1 else f"{failed:,} of {all_:,} {wanted.on}s could not be {call.done}: {_words(first)}"
    )
    return ActionReply(sentence, outcome, tuple(call.made), first)


def _words(error: JobkitError) -> str:
    """Return an error's sentence for a page."""
    if not isinstance(error, SubmitUnanswered):
        return str(error)
    first, count = error.job_ids[0], len(error.job_ids)
    jobs = f"Job {first}" if count == 1 else f"{count:,} jobs (the first is {first})"
    return f"{error.reason}. {jobs} may have been accepted: look at the jobs before you submit again"


def _short(target: str) -> str:
    return target[:8] if len(target) == 32 and target.isalnum() else target[:60]


# -- what can be done --------------------------------------------------------------------------------------------------


async def _cancel(call: ActionCall) -> None:
    reason = str(call.details.get("reason") or "")
    at_checkpoint = call.details.get("checkpoint") is True
    states = await call.kit.aio.cancel_many(list(call.targets), reason, at_checkpoint=at_checkpoint, by=call.by)
    for job_id, state in zip(call.targets, states, strict=True):
        if not state:
            call.refuse(job_id, unknown_job(job_id))
        elif state == "running":
            call.done = "asked to stop"
        elif state != "cancelled":
            call.refuse(job_id, f"job {_short(job_id)} has already {state}")


async def _retry(call: ActionCall, job_id: str) -> None:
    from_checkpoint = call.details.get("checkpoint") is True
    call.made.append((await call.kit.aio.retry(job_id, owner=call.person.name, from_checkpoint=from_checkpoint)).id)


async def _delete(call: ActionCall) -> None:
    if call.details.get("led"):
        for module in modules("rows"):
            await module.delete_led(call)
    gone = await call.kit.aio.delete(list(call.targets))
    kept = [job_id for job_id, is_gone in zip(call.targets, gone, strict=True) if not is_gone]
    found = await background.call_async(call.kit.verbs.store.snapshots(kept))
    for job_id, snapshot in zip(kept, found, strict=True):
        if snapshot is None:
            call.refuse(job_id, unknown_job(job_id))
        else:
            call.refuse(job_id, f"job {_short(job_id)} is {snapshot.state}; cancel it first, then it can be deleted")


async def _submit(call: ActionCall, task: str) -> None:
    made = await call.kit.aio.submit_info(task, call.table("params"), call.table("options"), owner=call.person.name)
    call.made.append(made.id)


async def _change(call: ActionCall, job_id: str) -> None:
    made = await call.kit.aio.rerun_with(job_id, call.table("params"), call.table("options"), owner=call.person.name)
    call.made.append(made.id)


def _stop(how: str) -> Do:
    async def do(call: ActionCall, worker_id: str) -> None:
        if not await background.call_async(call.kit.verbs.store.stop_workers([worker_id], how)):
            raise JobkitError(f"worker {worker_id[:60]} is not there any more")

    return each(do)


action("submit", each(_submit), "submitted", on="task", own_too=True)
action("cancel", _cancel, "cancelled")
action("retry", each(_retry), "submitted again")
action("change", each(_change), "submitted again")
action("delete", _delete, "deleted")
action("drain_worker", _stop("retire"), "asked to finish and end", on="worker", least=Role.ADMIN)
action("stop_worker", _stop("now"), "asked to end at once", on="worker", least=Role.ADMIN)


# -- pause and resume queues and tasks, move waiting jobs --------------------------------------------------------------


async def _move(call: ActionCall) -> None:
    queue = str(call.details.get("queue") or "").strip() or None
    level = str(call.details.get("priority") or "").strip()
    try:
        priority = int(level) if level else None
    except ValueError:
        raise InvalidParams(f"priority must be a whole number, not {level[:40]!r}", "priority") from None
    jobs = list(call.targets)
    refused = await call.kit.aio.move(jobs, queue=queue, priority=priority, by=call.person.name)
    for job_id, why in refused.items():
        call.refuse(job_id, why)
    to = [*([f"queue {queue}"] if queue else []), *([f"priority {priority}"] if priority is not None else [])]
    call.done = f"moved to {' and '.join(to)}"


deed_actions(Queues)
deed_actions(Tasks)
action("move", _move, "moved", own_too=False)


PAUSE_ACTIONS = ("pause_queue", "resume_queue", "pause_task", "resume_task")
