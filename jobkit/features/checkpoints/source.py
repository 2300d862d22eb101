"""The job from whose checkpoint another one goes on."""

from __future__ import annotations

from jobkit.client.connection import Connection
from jobkit.features.checkpoints.store import CheckpointStore
from jobkit.model.errors import NoCheckpoint
from jobkit.tasks.call import CallHead


def source(connection: Connection, job_id: str, head: CallHead) -> tuple[str, int]:
    """Return the job from which a repetition of this one goes on, and its time of submit. Raises NoCheckpoint."""
    store = connection.store
    if connection.call(store.part(CheckpointStore).of, job_id):
        return job_id, connection.call(store.submitted_us, job_id)
    if head.resumes is None:
        raise NoCheckpoint(f"job {job_id} has no checkpoint: job.rerun() runs it again from the beginning")
    return head.resumes  # it ended before its first one
