"""The batch of a study's trials, which the job of the study leads: what the lists of batches ask for it."""

from __future__ import annotations

from jobkit.model import JobSnapshot
from jobkit.model.batch import BatchInfo, BatchSpec

#: Name of the task of the jobs that run studies.
STUDY_TASK = "jobkit.study"

#: Kind of its batch, and the word for a job of that batch.
KIND, NOUN = "study", "trial"


def title(spec: BatchSpec) -> str:
    """Return the title of a study."""
    return f"Study {spec.name}" if spec.name else f"Study of {spec.title or spec.task}"


def unbegun(job: JobSnapshot) -> BatchInfo | None:
    """Return the batch of a study that has no trial yet, from the job that runs it; None if the job runs none."""
    if job.spec.task != STUDY_TASK:
        return None
    params = job.spec.params
    trials, direction = params.get("trials"), "maximize" if params.get("direction") == "maximize" else "minimize"
    size = trials if isinstance(trials, int) else 0
    task, name = str(params.get("objective", "")), str(params.get("name") or "")
    batch = BatchSpec(job.id, task, size, name=name, owner=job.spec.owner, kind=KIND, direction=direction)
    return BatchInfo(batch, submitted_at=job.submitted_at, leader=job.state)
