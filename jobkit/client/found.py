"""`Jobs`: jobs that were found, as a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobkit.client.job import Job
from jobkit.client.outputs import column_of
from jobkit.client.tables import JOB_COLUMNS, Table
from jobkit.features.jobs import OfJobs
from jobkit.model import JobSnapshot

if TYPE_CHECKING:
    import pandas as pd


class Jobs(OfJobs, Table, list[Job]):
    """Jobs that were found: a list that prints as a table, and shows itself in a notebook as a live one."""

    COLUMNS, EMPTY = JOB_COLUMNS, "No jobs."

    def __init__(self, kit: Any, jobs: Iterable[Job]) -> None:
        super().__init__(jobs)
        self.kit = kit

    def to_frame(self) -> pd.DataFrame:
        """Return the jobs as a DataFrame, one row a job in this order, with the job's id as index.

        Columns: the arguments, then `task`, `state`, `result` (one line), `error`, `duration_s` (seconds
        of the last attempt so far; None before its start), `submitted_at`, `started_at`, `finished_at`, `queue`,
        `owner` and `attempt`. An argument with the name of another column has "(argument)" behind its name.

        Example:
            >>> slow = kit.jobs(limit=100).to_frame().nlargest(5, "duration_s")
        """
        import pandas as pd

        now = datetime.now(UTC)
        return pd.DataFrame(
            [_row(job.snapshot, now) for job in self], index=pd.Index([job.id for job in self], name="id")
        )

    def _items(self) -> Sequence[Any]:
        return [job.snapshot for job in self]


def _row(job: JobSnapshot, now: datetime) -> dict[str, Any]:
    """Return the columns of `Jobs.to_frame`."""
    own = {
        "task": job.spec.task,
        "state": str(job.state),
        "result": job.summary,
        "error": str(job.error or ""),
        "duration_s": job.elapsed_s(now),
        "submitted_at": job.submitted_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "queue": job.spec.queue,
        "owner": job.spec.owner,
        "attempt": job.attempt,
    }
    return {**{column_of(name, own, "argument"): value for name, value in job.spec.params.items()}, **own}
