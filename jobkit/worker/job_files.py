"""Files of a worker's jobs: large results, artifacts, whole logs, and the removal of orphaned ones.

Every file has an owner. While its job is kept, that is the job; afterwards its folder is litter in the store until some
worker has removed it. What no store ever heard of (a worker died between writing and telling) is found by a sweep: it
is old, and the job that it names is not kept. Disks may be slow, so all of it happens in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
import platform
import time
from pathlib import Path

from jobkit.attempts import artifact_subject
from jobkit.codec import RAW, Codec
from jobkit.files import FileStore, LogFile
from jobkit.files.file_store import JobFolder, clear_passing, temporary
from jobkit.files.log import mark_of
from jobkit.files.staging import AWAY, Staging
from jobkit.files.storage import make_folders
from jobkit.model import JobState, LogLine, StoreUnavailable
from jobkit.model.plain import now_ms
from jobkit.run.inside.shown_values import Body, Bounds
from jobkit.run.shortage import patiently
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import ArtifactInfo, Claimed, Kept

logger = logging.getLogger("jobkit.worker")

#: Artifacts up to this size, and so much of them for each attempt, are kept in the store: no directory is needed.
_STORED_BYTES, _STORED_TOTAL = Bounds().each_bytes, Bounds().total_bytes

_SWEEP_EVERY_S = 6 * 3600.0
#: A folder that no store knows may be so old before it goes: longer than any worker takes from writing to telling.
SWEEP_AGE_S = 24 * 3600.0


class JobFiles:
    """The files of one worker's jobs."""

    def __init__(self, settings: Settings, store: RedisStore, codec: Codec) -> None:
        self._settings, self._store, self._codec = settings, store, codec
        self.file_store = FileStore.of(settings)
        self._is_silent = False

    async def start(self) -> None:
        """Learn the namespace's own folder. Raises InvalidParams if it cannot be used, and StoreUnavailable."""
        if self.file_store is not None:
            await asyncio.to_thread(self.file_store.place.check)
            self.file_store.place.wait(math.inf)  # as an ending waits for the server
            self.file_store.base = await self._store.place()
            if not self.file_store.is_local:
                await asyncio.to_thread(self._stage, self.file_store)

    def _stage(self, file_store: FileStore) -> None:
        """Make a folder for what is on its way to a place that is not on this machine."""
        root = self._settings.home.expanduser() / "staging" / platform.node()
        try:
            make_folders(root)
            file_store.staging = Staging(root, file_store.place)
        except OSError as error:
            logger.warning("whole logs are not kept: %s cannot be used (%s)", root, error.strerror or error)

    def folder(self, claimed: Claimed) -> JobFolder | None:
        """Return the folder for the files of this job, or None."""
        return None if self.file_store is None else self.file_store.folder(claimed.spec.id, claimed.us)

    async def keep(self, claimed: Claimed, name: str, media: str, body: Body, stored: int) -> tuple[Kept | None, str]:
        """Seal an artifact, into a file if it is large; `stored` bytes of this attempt are in the store already.

        Return what the store is to keep, or None and the sentence for the job's log.
        """
        spec = claimed.spec
        subject = artifact_subject(spec, name, media)
        folder = self.folder(claimed)
        try:
            size = len(body) if isinstance(body, bytes) else body.stat().st_size
            info = ArtifactInfo(name, media, size, now_ms())
            if size <= _STORED_BYTES and stored + size <= _STORED_TOTAL:
                content = body if isinstance(body, bytes) else await asyncio.to_thread(body.read_bytes)
                return Kept(spec.id, claimed.token, info, self._codec.seal(RAW, content, subject)), ""
            if folder is None:
                return None, f"artifact {name!r} was not kept: there is no directory for files (JOBKIT_RESULTS)"
            # One file for each name: what is saved again replaces what was.
            digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:32]
            sealed = await asyncio.to_thread(
                patiently, folder.put, f"artifact.{digest}", RAW, body, subject, self._codec
            )
            return Kept(spec.id, claimed.token, info, sealed, folder.path), ""
        except OSError as error:
            return None, f"artifact {name!r} was not kept: {error.strerror or error}"
        finally:
            if isinstance(body, Path):
                with contextlib.suppress(OSError):
                    body.unlink()

    def give_up(self) -> None:
        """End all waits for the machine that has the files: the worker stops."""
        if self.file_store is not None:
            self.file_store.place.wait(0)

    async def continue_log(self, claimed: Claimed) -> None:
        """Before a further attempt: write the lines of earlier ones first, if they were too few for a file, and delete
        artifacts that they left on their way."""
        folder = self.folder(claimed)
        path = folder.file_store.log_path(folder.path) if folder is not None else None
        if folder is None or path is None:
            return
        with contextlib.suppress(StoreUnavailable, OSError):
            await asyncio.to_thread(clear_passing, path.parent)
            if (staging := folder.file_store.staging) is not None:
                await asyncio.to_thread(staging.take_back_log, folder.path)
            await asyncio.to_thread(path.with_name(AWAY).unlink, missing_ok=True)
            if not await asyncio.to_thread(path.exists):
                found = await self._store.logs(claimed.spec.id)
                log = LogFile(path, folder.owner)
                for line in found.lines:
                    log.add([line.raw], mark_of(line.source, line.level, line.at_ms))
                if found.lines:
                    await asyncio.to_thread(log.write, log.take())

    async def hand_in_log(self, claimed: Claimed) -> str | None:
        """Store the whole log of an attempt that has ended, if it is staged; return what is wrong, or "".

        Return None if the job is deleted, or has another attempt, whose log must not be replaced: a link that was away
        for longer than a lease may be back before the worker hears that it has lost the job.
        """
        found = self._staged(claimed)
        if found is None or not found[1].log_files(found[0].path):
            return ""
        folder, staging = found

        def hand_in() -> None:
            folder.file_store.claim(folder)
            staging.hand_in_log(folder.path)

        try:
            await asyncio.to_thread(folder.file_store.place.names, folder.path)  # waits for the link
            with contextlib.suppress(StoreUnavailable):
                [snapshot] = await self._store.snapshots([claimed.spec.id])
                if snapshot is None or snapshot.attempt != claimed.attempt:
                    return None
            await asyncio.to_thread(hand_in)
        except OSError as error:
            return f"its whole log is not kept in {folder.file_store.place.shown} ({error.strerror or error})"
        return ""

    async def clear_staging(self, claimed: Claimed) -> None:
        """Delete what an attempt has left on its way."""
        if (found := self._staged(claimed)) is not None:
            await asyncio.to_thread(found[0].file_store.ended, found[0])

    async def clear_lost(self, claimed: Claimed) -> None:
        """Do the same for a lost attempt, unless another attempt runs: perhaps here, with the same folder."""
        if self._staged(claimed) is None:
            return
        with contextlib.suppress(StoreUnavailable):
            [snapshot] = await self._store.snapshots([claimed.spec.id])
            if snapshot is not None and snapshot.state is JobState.RUNNING and snapshot.attempt != claimed.attempt:
                return
        await self.clear_staging(claimed)

    def _staged(self, claimed: Claimed) -> tuple[JobFolder, Staging] | None:
        """Return the folder of a job and its staging; None if nothing is staged."""
        if self.file_store is None or (staging := self.file_store.staging) is None:  # files are on this machine
            return None
        folder = self.file_store.folder(claimed.spec.id, claimed.us)
        return (folder, staging) if staging.has(folder.path) else None

    # -- removal ------------------------------------------------------------------------------------------------------

    async def tidy(self) -> None:
        """Remove litter with each heartbeat and sweep now and then, until cancelled."""
        sweep_at = time.monotonic() + 60.0
        while True:
            await asyncio.sleep(self._settings.heartbeat)
            try:
                if self.file_store is not None:
                    await self.clear_litter()
                if time.monotonic() >= sweep_at:
                    sweep_at = time.monotonic() + _SWEEP_EVERY_S
                    if self.file_store is not None:
                        await self.sweep()
                self._is_silent = False
            except StoreUnavailable:
                continue
            except OSError as error:
                if not self._is_silent and self.file_store is not None:
                    where = self.file_store.place.shown
                    logger.warning("files of forgotten jobs cannot be removed from %s: %s", where, error)
                self._is_silent = True

    async def clear_litter(self) -> None:
        """Remove the folders of forgotten jobs."""
        assert self.file_store is not None
        while folders := await self._store.orphaned():
            await self._store.cleaned_up(await asyncio.to_thread(self.file_store.remove, folders))

    async def sweep(self, min_age_s: float = SWEEP_AGE_S) -> int:
        """Remove old folders whose job is not kept; return how many."""
        assert self.file_store is not None
        removed = 0
        await asyncio.to_thread(clear_passing, temporary(), min_age_s)
        if (staging := self.file_store.staging) is not None:
            old_staged = dict(await asyncio.to_thread(list, staging.old(self.file_store.base, min_age_s)))
            ids = [owner.rpartition(" ")[0] for owner in old_staged.values()]
            for folder, snapshot in zip(old_staged, await self._store.snapshots(ids), strict=True):
                if snapshot is None or snapshot.state is not JobState.RUNNING:
                    await asyncio.to_thread(staging.remove, folder)
        old = await asyncio.to_thread(list, self.file_store.old(min_age_s))
        for start in range(0, len(old), 200):
            batch = old[start : start + 200]
            owned = await self._store.owned([(one.job_id, one.us) for one in batch])
            stored = await self._store.blobs.folders([one.blob for one in batch])
            stray = [
                one.folder
                for one, is_owned, folder in zip(batch, owned, stored, strict=True)
                if (one.folder != folder if one.blob else not is_owned)
            ]
            if stray:
                stray = sorted({*stray} - await self._store.put_aside())
            removed += len(await asyncio.to_thread(self.file_store.remove, stray))
        if removed:
            logger.info("removed %d folders of files that belonged to no job", removed)
        return removed


def note(sentence: str) -> LogLine:
    """Write a line of the worker into a job's log."""
    return LogLine(sentence, now_ms(), source="jobkit", level="WARNING")
