"""`kit.failures`: groups of failed jobs, listed when called, and what is done with a group.

Nothing here unpickles.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from jobkit.client import checks
from jobkit.client.connection import Connection
from jobkit.client.forms import Deed, Noun, in_thread, on_loop, stream, submitting
from jobkit.client.repeat import Repeated
from jobkit.client.tables import Table
from jobkit.features.failures.group import FailureGroup, GroupState
from jobkit.features.failures.store import FailureStore
from jobkit.model import JobNotFound, JobSnapshot
from jobkit.model.cells import Columns
from jobkit.tasks.params import checked


class FailureGroups(Table, list[FailureGroup]):
    """Groups of failures."""

    COLUMNS: ClassVar[Columns] = {
        "Group": lambda group: group.id,
        "State": lambda group: str(group.state),
        "Jobs": lambda group: group.jobs,
        "Seen": lambda group: group.count,
        "Last": lambda group: group.last_seen,
        "Task": lambda group: group.task,
        "Where": lambda group: group.where,
        "Error": lambda group: group.title,
    }
    EMPTY = "No failures."


class FailureVerbs:
    """Verbs about groups of failures. Every one may raise `StoreUnavailable`."""

    def __init__(self, kit: Any) -> None:
        self._connection: Connection = kit.connection
        self._repeater = kit.repeater

    @property
    def store(self) -> FailureStore:
        """The verbs of the store; of another one after a fork."""
        return self._connection.store.part(FailureStore)

    async def list(
        self, state: str | Sequence[str] | None = None, task: str | None = None, limit: int = 100
    ) -> FailureGroups:
        """Failed jobs in groups: of one task, with the same type of error at the same place. That failed last first.

        Args:
            state: one state or several: "open", "regressed" (was resolved, and failed again), "muted", "resolved".
            task: only groups of this task.
            limit: at most so many, from 1 to 10000.
        """
        names = checks.states(state, GroupState)
        most = checked("limit", limit, "int", min=1, max=10_000)
        return FailureGroups(await self.store.groups(names, task or "", most))

    async def get(self, group: str) -> FailureGroup:
        """One group by its id.

        Raises:
            JobNotFound: there is none.
        """
        found = await self.store.group(group)
        if found is None:
            raise JobNotFound(f"there is no group of failures {group!r}: its jobs are gone, or it was dropped")
        return found

    async def jobs(
        self,
        group: str,
        *,
        is_repeated: bool | None = None,
        older_than: checks.Timeout = None,
        newer_than: checks.Timeout = None,
    ) -> AsyncIterator[str]:
        """Ids of a group's jobs, that failed first first; read as it goes.

        Args:
            is_repeated: only those that another job repeats (True), or that none does (False).
            older_than, newer_than: only those that failed longer, or less long, ago than this: seconds, `timedelta` or
                text like "7d".
        """
        now = datetime.now(UTC).timestamp()
        oldest_s, newest_s = checks.seconds_of(newer_than, "newer_than"), checks.seconds_of(older_than, "older_than")
        cursor = "" if oldest_s is None else f"{(now - oldest_s) * 1e6:.0f}"
        last_us = None if newest_s is None else (now - newest_s) * 1e6
        while True:
            ids, cursor = await self.store.jobs(
                group, before=cursor, limit=500, oldest_first=True, is_repeated=is_repeated, until=last_us
            )
            for job_id in ids:
                yield job_id
            if not cursor:
                return

    async def snapshots(self, group: str, *, limit: int = 50) -> Sequence[JobSnapshot]:
        """A group's jobs, that failed last first, at most so many."""
        ids, _ = await self.store.jobs(group, limit=limit)
        found = await self._connection.store.snapshots(ids)
        return [snapshot for snapshot in found if snapshot is not None]

    async def mute(self, group: str, *, by: str = "") -> None:
        """Mute a group: it is counted, but no longer listed."""
        await self._judge(group, GroupState.MUTED, by)

    async def resolve(self, group: str, *, by: str = "") -> None:
        """Resolve a group: it is shown as regressed if it fails again."""
        await self._judge(group, GroupState.RESOLVED, by)

    async def reopen(self, group: str, *, by: str = "") -> None:
        """Reopen a muted or resolved group."""
        await self._judge(group, GroupState.OPEN, by)

    async def _judge(self, group: str, state: GroupState, by: str) -> None:
        await self.get(group)
        await self.store.judge([group], str(state), by or self._connection.owner)

    async def forget(self, group: str) -> None:
        """Delete a group that has no jobs; another one stays."""
        await self.store.judge([group], "dropped", "")

    async def of_jobs(self, job_ids: Sequence[str]) -> Sequence[str]:
        """The group of each of these jobs, or ""."""
        return await self.store.groups_of(job_ids)

    def retry(self, group: str, *, changes: Mapping[str, Any] | None = None, owner: str = "") -> Repeated:
        """Run the jobs of a group again that were not run again yet, each as a new job; see `kit.retry_many`.

        Args:
            changes: other values for some arguments, checked before anything is submitted.
            owner: of the new jobs; the person at this process unless given.

        Raises:
            JobNotFound: there is no such group.
            InvalidParams: a change is refused. UnknownTask: it cannot be checked here.
        """
        ids = self._connection.call(self._ids, group, is_repeated=False)
        made: Repeated = self._repeater.retry_many(ids, changes=changes, owner=owner)
        return made

    def drop(self, group: str) -> int:
        """Delete all jobs of a group, and the group; return how many jobs those were.

        Raises:
            JobNotFound: there is no such group.
        """
        gone: int = self._repeater.delete_many(self._connection.call(self._ids, group))
        self._connection.call(self.forget, group)
        return gone

    async def _ids(self, group: str, is_repeated: bool | None = None) -> Sequence[str]:
        await self.get(group)
        return [job_id async for job_id in self.jobs(group, is_repeated=is_repeated)]


class Failures(Noun):
    """`kit.failures()` lists groups of failed jobs; `kit.failures.mute(id)` and others act on one.

    Example:
        >>> for group in kit.failures("open"):
        ...     kit.failures.retry(group.id)
    """

    ON = "group"
    DEEDS = (Deed("mute", "muted"), Deed("resolve", "resolved"), Deed("reopen", "opened again"))
    _SERVICE = FailureVerbs
    _internal = frozenset({"forget", "of_jobs", "snapshots"})

    __call__ = on_loop("verbs", FailureVerbs.list)
    get = on_loop("verbs", FailureVerbs.get)
    jobs = stream("verbs", FailureVerbs.jobs)
    mute = on_loop("verbs", FailureVerbs.mute)
    resolve = on_loop("verbs", FailureVerbs.resolve)
    reopen = on_loop("verbs", FailureVerbs.reopen)
    retry = submitting("verbs", FailureVerbs.retry)
    drop = in_thread("verbs", FailureVerbs.drop)
    snapshots = on_loop("verbs", FailureVerbs.snapshots)
    of_jobs = on_loop("verbs", FailureVerbs.of_jobs)
    forget = on_loop("verbs", FailureVerbs.forget)
