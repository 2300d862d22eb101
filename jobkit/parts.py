"""Large parts of calls between submitter, store and worker: uploaded once, found by the SHA-256 that sealed calls name.

They are files where results are files, else in Redis up to a limit. Before an upload the store is asked; after it the
store keeps the part for an hour, until the submit that names it is accepted. The store drops it with its last user.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from jobkit.codec import Blob
from jobkit.files import FileStore
from jobkit.model import InvalidParams
from jobkit.model.errors import CannotStart
from jobkit.model.format import size
from jobkit.store.contents import FILE, INLINE
from jobkit.store.redis import RedisStore

#: Larger parts are refused: without a place for files, with one, and in the memory of a `sync://` kit.
MAX_STORED_BYTES, MAX_FILE_BYTES, MAX_SYNC_BYTES = 50_000_000, 2_000_000_000, 500_000_000

#: A worker remembers so many bytes of parts from the store: jobs of a batch have them in common.
_CACHE_BYTES = 100_000_000


#: For so many seconds after an upload the store is not asked again: it keeps a part without users for an hour.
_KEPT_S = 1_800.0


class PartUnavailable(CannotStart):
    """A large part of a call cannot be had."""


class PartStore:
    """Keeps and finds large parts of calls. Its methods are for one event loop.

    Args:
        file_store: returns the place for files; None to keep parts in Redis.
        most_bytes: larger parts are refused if there is no place for files.
    """

    def __init__(
        self, store: RedisStore, file_store: Callable[[], FileStore | None], most_bytes: int = MAX_STORED_BYTES
    ) -> None:
        self._store, self._file_store, self._most_bytes = store, file_store, most_bytes
        self._uploads: dict[str, asyncio.Task[None]] = {}
        self._kept: dict[str, float] = {}  # when they were last known to be stored, by the monotonic clock
        self._cache: dict[str, bytes] = {}

    def check(self, blobs: Iterable[Blob]) -> None:
        """Raise InvalidParams if a part is too large to be kept."""
        has_files = self._file_store() is not None
        most = MAX_FILE_BYTES if has_files else self._most_bytes
        for blob in blobs:
            if len(blob.content) > most:
                where = "are kept as a file" if has_files else "are kept in Redis"
                hint = "save it to a file and pass its path"
                if not has_files:
                    hint = f"set JOBKIT_RESULTS to a directory that workers and clients share, or {hint}"
                raise InvalidParams(
                    f"{blob.what} takes {size(len(blob.content))}, more than the {size(most)} that {where}; {hint}"
                )

    def is_kept(self, name: str) -> bool:
        """Return True if a part was stored or used by this process so recently that it is stored still."""
        return time.monotonic() - self._kept.get(name, -math.inf) < _KEPT_S

    def lost(self, name: str) -> None:
        """The store does not have this part, whatever was known of it."""
        self._kept.pop(name, None)

    async def keep(self, blobs: Iterable[Blob]) -> None:
        """Store the parts that are not stored. A submit that names them has to follow within an hour.

        Raises:
            InvalidParams: one is too large, or the place for files cannot be written. StoreUnavailable.
        """
        given = {blob.name: blob for blob in blobs if blob.content and not self.is_kept(blob.name)}
        if not given:
            return
        self.check(given.values())
        for name in await self._store.blobs.missing(list(given)):
            if self.is_kept(name):  # another thread's upload has ended since the answer
                continue
            if (upload := self._uploads.get(name)) is None:
                upload = self._uploads[name] = asyncio.create_task(self._upload(given[name]))
                upload.add_done_callback(partial(self._uploaded, name))
            await asyncio.shield(upload)
        self._kept = {name: at for name, at in self._kept.items() if self.is_kept(name)}
        self._kept |= dict.fromkeys(given, time.monotonic())

    def _uploaded(self, name: str, upload: asyncio.Task[None]) -> None:
        del self._uploads[name]
        if not upload.cancelled() and upload.exception() is None:
            self._kept[name] = time.monotonic()

    async def _upload(self, blob: Blob) -> None:
        if (file_store := self._file_store()) is None:
            await self._store.blobs.put(blob.name, INLINE + blob.content)
            return
        file_store.base = await self._store.place()
        shown = file_store.place.shown
        try:
            folder = await asyncio.to_thread(file_store.put_blob, blob)
        except OSError as error:
            raise InvalidParams(
                f"{blob.what} takes {size(len(blob.content))} and could not be written to {shown} "
                f"({error.strerror or error}): free some space there, or set JOBKIT_RESULTS to another directory"
            ) from None
        stored = FILE + f"{folder} {len(blob.content)} {shown}".encode("utf-8", "backslashreplace")
        if not await self._store.blobs.put(blob.name, stored):  # another process was faster
            await asyncio.to_thread(file_store.remove, [folder])

    async def locate(self, names: Sequence[str]) -> dict[str, tuple[str, bytes]]:
        """Return for each part the path of its file on this machine, or "" and its content; not checked.

        Raises:
            PartUnavailable: one is not kept, or cannot be read here. StoreUnavailable.
        """
        found = {name: ("", self._cache[name]) for name in names if name in self._cache}
        rest = [name for name in names if name not in found]
        for name, stored in zip(rest, await self._store.blobs.read(rest), strict=True):
            found[name] = await self._located(stored)
            if not found[name][0]:
                self._remember(name, found[name][1])
        return found

    async def _located(self, stored: bytes | None) -> tuple[str, bytes]:
        if stored is None:
            raise PartUnavailable("a large part of its arguments is no longer kept: submit it again")
        if stored[:1] == INLINE:
            return "", stored[1:]
        folder, count, shown = [*stored[1:].decode("utf-8", "replace").split(" ", 2), "", ""][:3]
        what = f"a part of its arguments ({size(int(count)) if count.isdecimal() else count})"
        if (file_store := self._file_store()) is None:
            raise PartUnavailable(
                f"{what} is a file in {shown}, and no directory for results is set here: set JOBKIT_RESULTS to the "
                "directory of the submitter"
            )
        try:
            return str(await asyncio.to_thread(file_store.blob, folder)), b""
        except OSError as error:
            why = f"{what} is a file that cannot be read from {file_store.place.shown} on this machine"
            if not isinstance(error, FileNotFoundError):
                raise PartUnavailable(f"{why} ({error.strerror or error})") from None
            there = "" if file_store.place.shown == shown else f"; it was written to {shown}"
            raise PartUnavailable(
                f"{why} ({error.strerror or error}){there}: the directory must be shared by submitters and workers"
            ) from None

    def _remember(self, name: str, content: bytes) -> None:
        self._cache[name] = content
        while sum(map(len, self._cache.values())) > _CACHE_BYTES:
            del self._cache[next(iter(self._cache))]
