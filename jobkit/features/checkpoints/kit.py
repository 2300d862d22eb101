"""`kit.checkpoints`: the newest checkpoints of a job."""

from __future__ import annotations

from jobkit.client.connection import Connection
from jobkit.client.forms import in_thread
from jobkit.features.checkpoints.checkpoint import Checkpoint, JobCheckpoints, checkpoint_in
from jobkit.features.checkpoints.files import CheckpointPlace
from jobkit.features.checkpoints.store import CheckpointStore
from jobkit.files.file_store import JobFolder

__all__ = ["JobCheckpoints", "KitCheckpoints"]


def checkpoints(connection: Connection, job_id: str) -> list[Checkpoint]:
    """Return the newest two checkpoints of a job, oldest first, also while it runs; see `jobkit.checkpoint`.

    Raises:
        JobNotFound: the job is not kept.
    """
    verbs, store, call, codec = connection.verbs, connection.store, connection.call, connection.codec
    spec = call(verbs.snapshot, job_id).spec
    if not (known := call(store.part(CheckpointStore).of, job_id)):
        return []
    us, path = call(store.submitted_us, job_id), call(store.folder, job_id)
    folder = JobFolder(verbs.file_store, path, "") if path and verbs.file_store is not None else None
    codec.renew()  # files are not trusted with a key that was retired meanwhile
    place = CheckpointPlace.of(codec, job_id, spec.task, us, folder, connection.settings.results, known)
    return [checkpoint_in(place, info) for info, _ in known]


class KitCheckpoints:
    """The verb about checkpoints that the kit itself has."""

    checkpoints = in_thread("connection", checkpoints)
