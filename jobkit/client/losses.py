"""Jobs of lost workers (killed, or without contact), and their outcome since."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from jobkit.model import JobSnapshot, JobState
from jobkit.store.redis import RedisStore
from jobkit.store.values import WorkerInfo

#: Maximum number of jobs of a worker that are read.
_JOBS = 8


class LostJob(msgspec.Struct, frozen=True):
    """A job that was lost with its worker. `job`: None if it was deleted since."""

    id: str
    attempt: int
    job: JobSnapshot | None = None

    @property
    def sentence(self) -> str:
        """Return its state since then: "runs again on gpu-2"."""
        job = self.job
        if job is None:
            return "was deleted"
        match job.state:
            case JobState.RUNNING:
                return f"runs again on {job.worker}"
            case JobState.QUEUED | JobState.SCHEDULED:
                return "waits to run again"
            case JobState.FAILED if job.attempt == self.attempt:
                return "failed with it"
            case JobState.CANCELLED:
                return "was cancelled"
        return f"{job.state} in attempt {job.attempt}"


async def lost_jobs(store: RedisStore, workers: Iterable[WorkerInfo]) -> dict[str, list[LostJob]]:
    """Return the first jobs of each lost worker, as they are now; one round trip."""
    lost = [(w.id, id, attempt) for w in workers if not w.is_alive for id, attempt in [*w.lost_jobs.items()][:_JOBS]]
    found = await store.snapshots([id for _, id, _ in lost]) if lost else []
    jobs: dict[str, list[LostJob]] = {}
    for (worker_id, id, attempt), job in zip(lost, found, strict=True):
        jobs.setdefault(worker_id, []).append(LostJob(id, attempt, job))
    return jobs
