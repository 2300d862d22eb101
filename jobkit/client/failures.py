"""Verbs about failed jobs: look at their groups, run many again, also with other arguments, forget them.

Nothing here unpickles: a job is run again from its sealed call as it is, and changed arguments travel beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from jobkit.client import checks
from jobkit.client.blocking import Blocking
from jobkit.client.prepare import new_id
from jobkit.codec import MSGPACK, Subject
from jobkit.model import (
    ErrorKind,
    FailureGroup,
    GroupState,
    InvalidParams,
    JobkitError,
    JobNotFound,
    JobSnapshot,
    JobSpec,
    JobState,
    UnknownTask,
)
from jobkit.store.values import Submission
from jobkit.tasks.arguments import shown_and_abridged
from jobkit.tasks.call import read_head, with_changes
from jobkit.tasks.options import check_submit_options
from jobkit.tasks.specs import with_part

if TYPE_CHECKING:
    from jobkit.client.job import Job

#: Jobs that one step runs again or forgets: a worker's claim must not wait long behind it.
SLICE = 100

#: Called after each step with how many are done so far.
Step = Callable[[int], object]


@dataclass(slots=True)
class Repeated:
    """The result of running jobs again.

    Attributes:
        jobs: the new job's id by the old one's. refused: why not, by the old one's.
    """

    jobs: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class FailureVerbs(Blocking):
    """Part of `jobkit.client.kit.Kit`. Every method may raise `StoreUnavailable`."""

    _owner: str

    def _retry(self, job_id: str, again: dict[str, Job], owner: str = "") -> Job:
        raise NotImplementedError

    def _send(self, prepared: Submission, again: Callable[[str], Submission] | None = None) -> Job:
        raise NotImplementedError

    # -- looking ------------------------------------------------------------------------------------------------------

    def failures(
        self, state: str | Sequence[str] | None = None, task: str | None = None, limit: int = 100
    ) -> list[FailureGroup]:
        """Failed jobs in groups: of one task, with the same type of error at the same place. That failed last first.

        Args:
            state: one state or several: "open", "regressed" (was resolved, and failed again), "muted", "resolved".
            task: only groups of this task.
            limit: at most so many, from 1 to 10000.
        """
        names = checks.states(state, GroupState)
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 10_000:
            raise InvalidParams(f"limit must be a whole number from 1 to 10000, not {limit!r}", "limit")
        return self._call(lambda: self._verbs.store.failures.groups(names, task or "", limit))

    def failure(self, group: str) -> FailureGroup:
        """One group by its id.

        Raises:
            JobNotFound: there is none.
        """
        found = self._call(partial(self._verbs.store.failures.group, group))
        if found is None:
            raise JobNotFound(f"there is no group of failures {group!r}: its jobs are gone, or it was dropped")
        return found

    def failed_jobs(
        self,
        group: str,
        *,
        is_repeated: bool | None = None,
        older_than: float | None = None,
        newer_than: float | None = None,
    ) -> Iterator[str]:
        """Ids of a group's jobs, that failed first first; read as it goes.

        Args:
            is_repeated: only those that another job repeats (True), or that none does (False).
            older_than, newer_than: only those that failed more, or less, than so many seconds ago.
        """
        now = datetime.now(UTC).timestamp()
        cursor = "" if newer_than is None else f"{(now - newer_than) * 1e6:.0f}"
        last_us = None if older_than is None else (now - older_than) * 1e6
        while True:
            read = partial(
                self._verbs.store.failures.jobs, group, before=cursor, limit=500, oldest_first=True,
                is_repeated=is_repeated, until=last_us,
            )  # fmt: skip
            ids, cursor = self._call(read)
            yield from ids
            if not cursor:
                return

    def failed_snapshots(self, group: str, *, limit: int = 50) -> list[JobSnapshot]:
        """A group's jobs, that failed last first, at most so many."""
        ids, _ = self._call(partial(self._verbs.store.failures.jobs, group, limit=limit))
        found = self._call(partial(self._verbs.store.snapshots, ids))
        return [snapshot for snapshot in found if snapshot is not None]

    def groups_of(self, job_ids: Sequence[str]) -> list[str]:
        """Id of the group that each job is in, "" for those that are in none."""
        return self._call(partial(self._verbs.store.failures.groups_of, job_ids))

    # -- saying what is thought of a group ----------------------------------------------------------------------------

    def mute(self, group: str, *, by: str = "") -> None:
        """Known, not to be shown any more; it goes on counting."""
        self._judge(group, GroupState.MUTED, by)

    def resolve(self, group: str, *, by: str = "") -> None:
        """Mark as fixed. If it fails again, it is shown as regressed."""
        self._judge(group, GroupState.RESOLVED, by)

    def reopen(self, group: str, *, by: str = "") -> None:
        """Take back what was said of it."""
        self._judge(group, GroupState.OPEN, by)

    def _judge(self, group: str, state: GroupState, by: str) -> None:
        self.failure(group)
        self._call(partial(self._verbs.store.failures.judge, [group], str(state), by or self._owner))

    # -- acting on many -----------------------------------------------------------------------------------------------

    def retry_failures(
        self, group: str, *, changes: Mapping[str, Any] | None = None, owner: str = "", on_step: Step | None = None
    ) -> Repeated:
        """Run the jobs of a group again that were not run again yet, each as a new job; see `retry_many`."""
        self.failure(group)
        return self.retry_many(
            self.failed_jobs(group, is_repeated=False), changes=changes, owner=owner, on_step=on_step
        )

    def retry_many(
        self,
        job_ids: Iterable[str],
        *,
        changes: Mapping[str, Any] | None = None,
        owner: str = "",
        on_step: Step | None = None,
    ) -> Repeated:
        """Run ended jobs again, each as a new job that names the old one; in steps of some hundred at most.

        Args:
            changes: other values for some arguments, checked by the task's definition before anything is submitted.
            owner: of the new jobs; the person at this process unless given.
            on_step: called after each step with how many have been seen to.

        Raises:
            InvalidParams: a change is refused, or the jobs are of several tasks; nothing was submitted then.
            UnknownTask: the task's definition is not known here, so changes could not be checked.
        """
        ids = list(dict.fromkeys(job_ids))
        plain = self._checked_changes(ids, changes) if changes else {}
        out, again = Repeated(), dict[str, "Job"]()
        for start in range(0, len(ids), SLICE):
            self._repeat(ids[start : start + SLICE], plain, owner, out, again)
            if on_step is not None:
                on_step(min(start + SLICE, len(ids)))
        return out

    def checked_changes(self, task: str, changes: Mapping[str, Any] | Iterable[str]) -> dict[str, Any]:
        """Other values for some arguments of a task, checked, as plain data.

        Args:
            changes: by name, or a command line's `["n=5"]`.

        Raises:
            InvalidParams: one is refused. UnknownTask: the task's definition is not known here.
        """
        infos = self.tasks()
        if task not in infos:
            raise UnknownTask(f"{self._verbs.unknown_task(task, infos)}; so changed arguments cannot be checked here")
        return infos[task].changes(changes)

    def _checked_changes(self, ids: Sequence[str], changes: Mapping[str, Any]) -> dict[str, Any]:
        tasks: dict[str, None] = {}
        for start in range(0, len(ids), 500):
            for found in self._call(partial(self._verbs.store.snapshots, ids[start : start + 500])):
                if found is not None:
                    tasks[found.spec.task] = None
        if len(tasks) > 1:
            raise InvalidParams(f"arguments can be changed for jobs of one task, not of {', '.join(sorted(tasks))}")
        return self.checked_changes(next(iter(tasks)), changes) if tasks else {}

    def _repeat(
        self, ids: Sequence[str], changes: Mapping[str, Any], owner: str, out: Repeated, again: dict[str, Job]
    ) -> None:
        """One step of `retry_many`."""
        snapshots = self._call(partial(self._verbs.store.snapshots, ids))
        payloads = self._call(partial(self._verbs.store.payloads, ids))
        made: dict[str, Submission] = {}
        for job_id, snapshot, payload in zip(ids, snapshots, payloads, strict=True):
            try:
                if _failed_with_a_need(snapshot) and not changes:
                    out.jobs[job_id] = self._retry(job_id, again, owner).id
                else:
                    made[job_id] = self._again_as(job_id, snapshot, payload, changes, owner)
            except JobkitError as error:
                if isinstance(error, ConnectionError):
                    raise
                out.refused[job_id] = str(error)
        replies = self._call(partial(self._verbs.submit_many, list(made.values())))
        for job_id, reply in zip(made, replies, strict=True):
            out.jobs[job_id] = reply.job_id  # that of another job if the same work waits or runs already
            if reply.created_ms:
                self._run_here(reply.job_id)

    def rerun_with(
        self, job_id: str, changes: Mapping[str, Any], options: Mapping[str, Any] | None = None, *, owner: str = ""
    ) -> Job:
        """Submit an ended job once more with other values for some arguments; the others keep theirs, unread.

        Args:
            changes: values as of JSON, by name; checked by the task's definition.
            options: queue, delay, at, tags and priority of the new job.
            owner: who submits; the person at this process unless given.

        Raises:
            InvalidParams: a change or option is refused. UnknownTask: the task's definition is not known here.
        """
        over = check_submit_options(options or {})
        snapshots = self._call(partial(self._verbs.store.snapshots, [job_id]))
        payloads = self._call(partial(self._verbs.store.payloads, [job_id]))
        plain = self.checked_changes(snapshots[0].spec.task, changes) if changes and snapshots[0] else {}
        made = self._again_as(job_id, snapshots[0], payloads[0], plain, owner)
        chosen: dict[str, Any] = {
            name: getattr(over, name) for name in ("queue", "tags", "priority") if name in over.given
        }
        chosen["delay_ms"] = round(over.delay_s * 1000)
        chosen["at_ms"] = int(over.at.timestamp() * 1000) if over.at else 0
        return self._send(replace(made, spec=replace(made.spec, **chosen)))

    def _again_as(
        self,
        job_id: str,
        snapshot: JobSnapshot | None,
        payload: bytes | None,
        changes: Mapping[str, Any],
        owner: str,
    ) -> Submission:
        """The submission that repeats a job. Raises `JobkitError` where there can be none."""
        if snapshot is None or payload is None:
            raise JobNotFound(f"no job {job_id!r} is kept here: it was removed, or has expired")
        if not snapshot.is_terminal:
            raise JobkitError(f"job {job_id} is {snapshot.state}; only an ended job can be run again")
        old = snapshot.spec
        form, body = self.codec.verify(payload, Subject("args", old.id, old.task))
        params = dict(old.params)
        if changes:
            if form != MSGPACK or read_head(body)[0].ref.startswith("jobkit.worker."):
                raise JobkitError(f"job {job_id} came by arq's client; its arguments cannot be changed here")
            body = with_changes(body, changes)
            for name, value in changes.items():
                first, dot, rest = name.partition(".")
                params[first] = with_part(params.get(first), rest, value) if dot and first in params else value
            old = replace(old, once=None, cache_key="", cache_ms=0)  # other arguments are other work
        spec = repeating(old, owner or self._owner, params)
        return Submission(spec, self.codec.seal(form, body, Subject("args", spec.id, spec.task)))

    def delete_many(self, job_ids: Iterable[str], *, on_step: Step | None = None) -> int:
        """Forget ended jobs with all they own, in steps; how many are gone. Others are left alone."""
        ids, gone = list(dict.fromkeys(job_ids)), 0
        for start in range(0, len(ids), SLICE):
            gone += sum(self._call(partial(self._verbs.delete, ids[start : start + SLICE])))
            if on_step is not None:
                on_step(min(start + SLICE, len(ids)))
        return gone

    def drop(self, group: str, *, on_step: Step | None = None) -> int:
        """Forget all jobs of a group, and the group; how many jobs that were."""
        self.failure(group)
        gone = self.delete_many(self.failed_jobs(group), on_step=on_step)
        self.forget_group(group)
        return gone

    def forget_group(self, group: str) -> None:
        """Forget a group that has no jobs; another one stays."""
        self._call(partial(self._verbs.store.failures.judge, [group], "dropped", ""))


def repeating(old: JobSpec, owner: str, params: Mapping[str, Any]) -> JobSpec:
    """The spec of a new job that repeats one, at once: it neither reuses a kept result nor replaces another job."""
    params, abridged = shown_and_abridged(params)
    kept = [name for name in old.abridged if params.get(name) == old.params.get(name)]
    return replace(
        old,
        id=new_id(),
        key="",
        retry_of=old.id,
        owner=owner,
        params=params,
        abridged=tuple(dict.fromkeys([*kept, *abridged])),
        delay_ms=0,
        at_ms=0,
        once=None if old.once is not None and old.once.scope == "debounce" else old.once,
        is_fresh=bool(old.cache_key),
    )


def _failed_with_a_need(snapshot: JobSnapshot | None) -> bool:
    """Return True if a job that it needs failed too, and has to run again before it."""
    if snapshot is None or snapshot.state is not JobState.FAILED or snapshot.error is None:
        return False
    return snapshot.error.kind is ErrorKind.DEPENDENCY and bool(snapshot.spec.needs)
