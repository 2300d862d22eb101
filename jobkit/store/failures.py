"""What a store knows of groups of failed jobs; part of `jobkit.store.base.Store`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jobkit.model import FailureGroup


class Failures(Protocol):
    """The verbs of a store about groups of failed jobs: of one exception, raised at one place, in one task."""

    async def failures(self, states: Sequence[str] = (), task: str = "", limit: int = 100) -> list[FailureGroup]:
        """Groups in any of these states (all where there are none) and of this task, that failed last first."""
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
        """Ids of a group's jobs, that failed last first, and the cursor for the next page: `before`, "" at the end.

        Args:
            is_repeated: only those that another job repeats, or only those that none does.
            until: with `oldest_first`, only those that failed up to this time (us).
        """
        ...

    async def judge(self, groups: Sequence[str], state: str, by: str = "") -> list[bool]:
        """Set what is thought of groups ("open", "muted", "resolved"), or forget those without jobs ("dropped").

        True for those that are known. `by` is who says so.
        """
        ...

    async def groups_of(self, job_ids: Sequence[str]) -> list[str]:
        """The group that each job is in, "" for those that are in none."""
        ...
