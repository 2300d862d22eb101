"""Failed jobs in groups: look at them, mute and resolve them. Runs on the background loop; nothing here unpickles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from jobkit.client import checks
from jobkit.client.connection import Connection
from jobkit.client.tables import Failures
from jobkit.model import FailureGroup, GroupState, JobNotFound, JobSnapshot
from jobkit.tasks.params import checked


class FailureVerbs:
    """Verbs about groups of failures. Every one may raise `StoreUnavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def failures(
        self, state: str | Sequence[str] | None = None, task: str | None = None, limit: int = 100
    ) -> Failures:
        """Failed jobs in groups: of one task, with the same type of error at the same place. That failed last first.

        Args:
            state: one state or several: "open", "regressed" (was resolved, and failed again), "muted", "resolved".
            task: only groups of this task.
            limit: at most so many, from 1 to 10000.
        """
        names = checks.states(state, GroupState)
        most = checked("limit", limit, "int", min=1, max=10_000)
        return Failures(await self._connection.store.failures.groups(names, task or "", most))

    async def failure(self, group: str) -> FailureGroup:
        """One group by its id.

        Raises:
            JobNotFound: there is none.
        """
        found = await self._connection.store.failures.group(group)
        if found is None:
            raise JobNotFound(f"there is no group of failures {group!r}: its jobs are gone, or it was dropped")
        return found

    async def failed_jobs(
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
            ids, cursor = await self._connection.store.failures.jobs(
                group, before=cursor, limit=500, oldest_first=True, is_repeated=is_repeated, until=last_us
            )
            for job_id in ids:
                yield job_id
            if not cursor:
                return

    async def failed_snapshots(self, group: str, *, limit: int = 50) -> list[JobSnapshot]:
        """A group's jobs, that failed last first, at most so many."""
        ids, _ = await self._connection.store.failures.jobs(group, limit=limit)
        found = await self._connection.store.snapshots(ids)
        return [snapshot for snapshot in found if snapshot is not None]

    async def mute(self, group: str, *, by: str = "") -> None:
        """Hide a known group; it goes on counting."""
        await self._judge(group, GroupState.MUTED, by)

    async def resolve(self, group: str, *, by: str = "") -> None:
        """Mark as fixed. If it fails again, it is shown as regressed."""
        await self._judge(group, GroupState.RESOLVED, by)

    async def reopen(self, group: str, *, by: str = "") -> None:
        """Undo `mute` or `resolve`."""
        await self._judge(group, GroupState.OPEN, by)

    async def _judge(self, group: str, state: GroupState, by: str) -> None:
        await self.failure(group)
        await self._connection.store.failures.judge([group], str(state), by or self._connection.owner)

    async def forget_group(self, group: str) -> None:
        """Delete a group that has no jobs; another one stays."""
        await self._connection.store.failures.judge([group], "dropped", "")
