"""`Archiver`: appends the jobs of a namespace that end to its archive, in one worker at a time.

The lock only saves work. That each job is appended once follows from the store: a part of it has the same jobs until
it is done, and its file is named after it. So a worker that was killed between the two, or frozen with the old lock,
writes the same file again. A file that was merged meanwhile is hidden by the larger one, and removed with the next
merge.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from jobkit.codec import digest
from jobkit.features.archive.folder import (
    MERGED,
    ArchiveFile,
    copy_path,
    covering,
    files_of,
    merged_path,
    path_of,
    to_merge,
)
from jobkit.features.archive.search import ArchiveReader, FileBroken, FileGone
from jobkit.features.archive.store import ArchivePart, ArchiveStore
from jobkit.features.archive.table import GROUP_BYTES, GROUP_ROWS, arrow, file_of, to_parquet
from jobkit.features.moving.belongings import Belongings, Content, ContentGone, Missing, in_words, word_of
from jobkit.features.moving.dump import Dump
from jobkit.files import FileStore
from jobkit.model import JobkitError, StoreUnavailable
from jobkit.store.leader import Leader
from jobkit.store.redis import RedisStore

logger = logging.getLogger("jobkit.archive")

#: Maximum number of jobs in a new file.
PART_JOBS = 500

#: Larger results are copied as a separate file.
RESULT_BYTES = 1_000_000

#: Names of contents that are remembered, so that they are copied once.
_COPIED_MOST = 20_000

#: Maximum number of merges after one part.
_MERGES_MOST = 100

#: Seconds between two notes that there is an archive, and between two scans for ended jobs that it lacks.
_NOTED_S, _SCANNED_S = 60.0, 3600.0


class Archiver:
    """See the module's docstring.

    Attributes:
        every_s: seconds until the next file if few jobs wait.
    """

    every_s = 1.0

    def __init__(self, store: RedisStore, archive: ArchiveReader) -> None:
        self._store, self._waiting, self._archive = store, store.part(ArchiveStore), archive
        file_store = FileStore.of(store.settings)
        self._belongings = Belongings(store, lambda: file_store)
        self._most, self._copied = store.settings.archive_files, dict[str, None]()
        self._noted_at = self._scanned_at = float("-inf")
        self._problem = ""
        self._written = 0

    async def begin(self) -> None:
        """Let jobs that end from now on wait for the archive."""
        with contextlib.suppress(StoreUnavailable):  # `run` waits for the store
            await self._note("")

    async def run(self) -> None:
        """Append until cancelled."""
        await Leader(self._store, "archivist").run(self.append, logger, "the archive waits")

    async def append(self) -> None:
        """Append the jobs that wait, at most `PART_JOBS`; if they are fewer, wait a moment for more.

        Raises:
            JobkitError: the archive cannot be written. They wait on.
        """
        now = time.monotonic()
        if now - self._noted_at > _NOTED_S:
            await self._note(self._problem)
        if now - self._scanned_at > _SCANNED_S:
            await self._waiting.scan()
            self._scanned_at = now
        part = await self._waiting.next_part(PART_JOBS)
        if part.name:
            await self._write(part)
        if len(part.entries) < PART_JOBS:
            await asyncio.sleep(self.every_s)

    async def _note(self, problem: str) -> None:
        await self._waiting.open(self._archive.storage.shown, problem)
        self._problem, self._noted_at = problem, time.monotonic()

    async def _write(self, part: ArchivePart) -> None:
        place, dumps = await self._store.place(), list[Dump]()
        try:
            async for some in self._waiting.read(part, max(self._most, RESULT_BYTES)):
                dumps += [await self._with_copies(dump) for dump in some]
            if not await self._waiting.is_waiting(part):
                return  # another worker has written it, and its jobs may be gone
            await asyncio.to_thread(write, self._archive, place, part, dumps)
        except OSError as error:
            await self._note(f"it cannot be written: {error.strerror or error}")
            where = self._archive.storage.shown  # no number of jobs: the same sentence is logged once
            raise JobkitError(f"{where}: {self._problem}") from None
        await self._waiting.done(part)
        while len(self._copied) > _COPIED_MOST:
            del self._copied[next(iter(self._copied))]
        if self._problem:
            logger.info("the archive %s is written again", self._archive.storage.shown)
            await self._note("")
        self._written += 1
        if self._written % MERGED == 0:
            await asyncio.to_thread(merge, self._archive, place)

    async def _with_copies(self, dump: Dump) -> Dump:
        """Copy what a job has beside its record, unless it is too large. Raises OSError."""
        contents, missing = await self._belongings.of(dump, self._most, self._copied, may_lack=False)
        if len(dump.result) > RESULT_BYTES:
            name = digest(dump.result)
            contents.append(Content("part", name, len(dump.result), dump.result))
            dump = replace(dump, result=b"", result_in=name)
        copied: list[str] = []
        for one in contents:
            try:
                path = copy_path(self._archive.namespace, one.kind, one.name)
                await asyncio.to_thread(self._archive.storage.write, path, one.chunks(), is_durable=True)
            except ContentGone:
                missing.append(Missing(word_of(one.name), one.size))
            else:
                copied += [one.name] if one.kind != "file" else []
        self._copied |= dict.fromkeys(copied)  # after all: what known facts name is not looked for again
        return replace(dump, left_out=", ".join(filter(None, [dump.left_out, in_words(missing)])))


def write(archive: ArchiveReader, place: str, part: ArchivePart, dumps: Sequence[Dump]) -> None:
    """Write the file of a part. Raises OSError."""
    first, _, last = part.name.partition(" ")
    archive.storage.write(path_of(archive.namespace, place, first, last), [to_parquet(dumps)], is_durable=True)


def merge(archive: ArchiveReader, place: str) -> None:
    """Merge small files of a server into larger ones as long as there are many, and delete those that were merged.

    Files that cannot be read stay as they are.
    """
    storage = archive.storage
    try:
        for _ in range(_MERGES_MOST):
            files = files_of(storage, archive.namespace, place)
            kept = covering(file for file in files if file not in archive.broken)
            try:
                for outer, inner in kept.items():
                    if inner and archive.opened(outer, lambda parquet: parquet.metadata.num_rows):  # it is whole
                        for file in inner:
                            storage.delete(file.path)
                apart = archive.broken.keys()
                if not (some := to_merge([file for file in files if file in kept or file in apart], apart)):
                    return
                storage.write(merged_path(some), [file_of(_tables(archive, some))], is_durable=True)
            except (FileBroken, FileGone):
                continue
    except OSError as error:
        logger.warning("small files in the archive %s stay as they are: %s", storage.shown, error)


def _tables(archive: ArchiveReader, files: Sequence[ArchiveFile]) -> Iterator[Any]:
    """Yield the rows of files in tables of at least a group, as far as there are so many."""
    pa = arrow()
    waiting: list[Any] = []
    for file in files:
        waiting.append(archive.opened(file, lambda parquet: parquet.read()))
        if sum(map(len, waiting)) >= GROUP_ROWS or sum(one.nbytes for one in waiting) >= GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
