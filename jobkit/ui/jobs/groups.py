"""`groups()`: groups of jobs that have one row in the table, in place of the rows of their jobs; a feature has them.

Such a row is the snapshot of a job that cannot exist, since no id of one has a space; what only groups have is beside
it. This module reads and writes nothing: the feature's `rows.py` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from jobkit.features import modules
from jobkit.model import JobSnapshot
from jobkit.store.query import Query, QueryPage

if TYPE_CHECKING:
    from jobkit.client.kit import Kit

#: Of a group, the number of jobs that have succeeded, and words about the best one of these.
Best = tuple[int, str]


class Group(Protocol):
    """A group of jobs: `made`, their number so far; `last_us`, when the newest one was submitted (us)."""

    @property
    def id(self) -> str: ...
    @property
    def made(self) -> int: ...
    @property
    def last_us(self) -> int: ...
    @property
    def ended_at(self) -> datetime | None: ...


class Groups:
    """Answers for the table about groups of jobs. Here no job is in a group.

    Attributes:
        page_name: slug of the page of one group, which gets its id.
    """

    page_name = ""

    def row_id(self, group_id: str) -> str:
        """Return the id of the row of a group."""
        return f"group {group_id}"

    def folds(self, query: Query, only: str | None) -> bool:
        """Return True if groups have one row each on a page of this query, of all owners or of `only`."""
        return False

    def snapshot_of(self, group: Any) -> JobSnapshot:
        """Return a group as the snapshot of a job."""
        raise NotImplementedError

    def cells(self, group: Any, best: str = "") -> dict[str, Any]:
        """Return what only the row of a group has; `best`: words about the best one of its jobs."""
        return {}

    async def page(self, kit: Kit, query: Query) -> tuple[QueryPage, Mapping[str, Group]]:
        """Return a page of a query that `folds`, and the groups on it by the ids of their rows."""
        return await kit.verbs.page(query), {}

    async def refreshed(self, kit: Kit, known: Mapping[str, Any], others: set[str]) -> Mapping[str, Group | None]:
        """Return the groups of a page that are open, or are among `others` (ids), as they are now, by their rows' ids;
        None for those that are not kept any more."""
        return {}

    async def best(
        self, kit: Kit, groups: Mapping[str, Any], known: Mapping[str, Best]
    ) -> tuple[Mapping[str, Best], bool]:
        """Return the best values of groups by the ids of their rows, and whether all are known; `known`: before."""
        return {}, True

    async def inside(self, kit: Kit, group_id: str) -> Sequence[str]:
        """Return ids of the first jobs of a group, for its open row."""
        return []

    async def newest(self, kit: Kit, most: int, owner: str | None) -> Sequence[Group]:
        """Return groups, newest first."""
        return []

    async def infos(self, kit: Kit, ids: Sequence[str]) -> Sequence[Group | None]:
        """Return each group; None if it is not kept."""
        return [None for _ in ids]

    async def homes(self, kit: Kit, job_ids: Sequence[str]) -> Sequence[str | None]:
        """Return the id of the group that each job is in or may lead; "" for none, None if the job is not kept."""
        return ["" for _ in job_ids]

    async def singles(self, kit: Kit, most: int) -> Sequence[str]:
        """Return ids of jobs of no group, newest first, where others may hide them; [] if none can."""
        return []


@cache
def groups() -> Groups:
    """Return the groups of the feature that has some."""
    found: Groups = next((module.GROUPS for module in modules("rows")), Groups())
    return found
