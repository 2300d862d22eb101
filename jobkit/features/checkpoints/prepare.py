"""Places of the checkpoints of a job, for its process."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from jobkit.codec import Codec, Subject
from jobkit.features.checkpoints.files import CheckpointPlace
from jobkit.features.checkpoints.store import CheckpointStore
from jobkit.files import FileStore
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed
from jobkit.tasks.call import read_head


async def prepare(
    store: RedisStore, claimed: Claimed, codec: Codec, settings: Settings, file_store: FileStore | None, most: int
) -> tuple[CheckpointPlace, ...]:
    """Return where the checkpoints of a job are, and then those of the job from which it was told to start.

    Raises:
        SignatureError: its call was not sealed for this job. StoreUnavailable: the server does not answer.
    """
    spec, known = claimed.spec, store.part(CheckpointStore)
    is_later = claimed.attempt > 1
    if is_later or spec.retry_of:
        await asyncio.to_thread(codec.renew)  # files are not trusted with a key that was retired meanwhile
    folder = None if file_store is None else file_store.folder(spec.id, claimed.us)
    written = await known.of(spec.id) if is_later else ()
    own = CheckpointPlace.of(codec, spec.id, spec.task, claimed.us, folder, settings.results, written, most)
    if not spec.retry_of:
        return (own,)
    _, call = codec.verify(claimed.payload, Subject("args", spec.id, spec.task))
    if (source := read_head(call).resumes) is None:
        return (own,)
    job_id, us = source
    folder = None if file_store is None else file_store.folder(job_id, us)
    written = await known.of(job_id) if await store.submitted_us(job_id) == us else ()
    if folder is not None and written and (path := await store.folder(job_id)):  # of an imported job, it is another one
        folder = replace(folder, path=path)
    return own, CheckpointPlace.of(codec, job_id, spec.task, us, folder, settings.results, written)
