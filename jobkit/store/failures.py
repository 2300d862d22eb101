"""Verbs of the store for groups of failed jobs; part of `jobkit.store.base.Store`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jobkit.model import FailureGroup


class Failures(Protocol):
    """The verbs of a store for groups of failed jobs: the same exception at the same place in one task."""

    async def failures(self, states: Sequence[str] = (), task: str = "", limit: int = 100) -> list[FailureGroup]:
        """Return groups in any of these states (empty: all) and of this task, the last failure first."""
        ...

    async def failure(self, group: str) -> FailureGroup | None: ...

    async def failed_jobs(
        self,
        group: str,
        *,
        before: str = "",
        limit: int = 100,
        oldest_first: bool = False,
        is_repeated: bool | None = None,
        until: float | None = None,
    ) -> tuple[list[str], str]:
        """Return ids of a group's jobs, the last failure first, and the cursor `before` of the next page, or "".

        Args:
            is_repeated: only jobs that were retried, or only those that were not.
            until: with `oldest_first`, only jobs that failed up to this time (us).
        """
        ...

    async def judge(self, groups: Sequence[str], state: str, by: str = "") -> list[bool]:
        """Set the status of groups ("open", "muted", "resolved"), or delete those without jobs ("dropped").

        True for known groups. `by` is the user.
        """
        ...

    async def groups_of(self, job_ids: Sequence[str]) -> list[str]:
        """Return the group of each job, or ""."""
        ...
