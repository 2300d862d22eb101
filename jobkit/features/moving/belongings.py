"""Contents that jobs have beside their own keys in the store: large parts of calls, files, contents of features.

They are read here for an export or the archive, and put back for an import. Each content is a `Content`:

    part  a large part of a call; the name is its SHA-256
    file  a file in the folder of a job; the name is its path where results are

and the kinds of features, see `jobkit/feature.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from jobkit.codec import Blob, digest
from jobkit.features import modules
from jobkit.features.moving.dump import Dump
from jobkit.files import FileStore
from jobkit.files.file_store import JOB_FILE, JobFolder, owner_of
from jobkit.files.storage import OWNER, Place
from jobkit.model import InvalidParams, JobkitError
from jobkit.model.format import size
from jobkit.parts import PartStore
from jobkit.store.redis import RedisStore

_CHUNK = 4 << 20

#: Errors that concern one file of this machine. Elsewhere they are those of credentials, for instance.
_OF_ONE_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def _is_of_one_file(error: OSError, place: Place) -> bool:
    """Return False if the storage itself may have failed: other files could not be read either."""
    return isinstance(error, FileNotFoundError) or (place.local("") is not None and isinstance(error, _OF_ONE_FILE))


#: Names of each kind. They come from unsigned records and from files of others, and become parts of paths.
_NAMES = {"part": re.compile(r"[0-9a-f]{64}"), "file": JOB_FILE}

#: Words for files of a job, by the begin of their names.
_WORDS = {"result": "result", "artifact": "artifact", "checkpoint": "checkpoint", "log": "whole log"}


def is_name(kind: str, name: str) -> bool:
    """Return whether jobkit gives such a name to a content of this kind."""
    names = _NAMES | {module.KIND: module.NAME for module in modules("contents")}
    return kind in names and names[kind].fullmatch(name) is not None


class ContentGone(JobkitError):
    """A file is gone since it was listed, or is one that this user may not read, unlike the others."""


class Content(msgspec.Struct, frozen=True):
    """One content, see the module's docstring. `size` in bytes; it is `body`, or a file at `path` of `place`."""

    kind: str
    name: str
    size: int
    body: bytes = b""
    place: Place | None = None
    path: str = ""

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes. Blocks. Raises ContentGone, and OSError if the storage is not reached."""
        if self.place is None:
            yield self.body
            return
        try:
            with self.place.open(self.path) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except OSError as error:
            if _is_of_one_file(error, self.place):
                raise ContentGone(f"{self.path} in {self.place.shown} cannot be read: {error.strerror}") from None
            raise
        except Exception as error:  # of a driver of fsspec
            raise OSError(f"{type(error).__name__}: {error}") from error


class Missing(NamedTuple):
    """A content that cannot be read or is too large: "result", and its size in bytes, -1 if unknown."""

    what: str
    size: int


class Belongings:
    """Reads and puts back what jobs have beside their keys. Its methods are for one event loop.

    Args:
        file_store: returns the place for files, or None. part_store: to put parts back.
    """

    def __init__(
        self, store: RedisStore, file_store: Callable[[], FileStore | None], part_store: PartStore | None = None
    ) -> None:
        self._store, self._file_store, self._parts = store, file_store, part_store

    async def of(
        self, dump: Dump, most: float = math.inf, known: Container[str] = (), *, may_lack: bool = True
    ) -> tuple[list[Content], list[Missing]]:
        """Return what a job has beside its keys, without contents of known names, and what could not be had.

        Args:
            most: size of the largest part or file, in bytes.
            may_lack: what is in a storage that is not reached now could not be had; else that raises OSError.
        """
        found: list[Content] = []
        for module in modules("contents"):
            names = [name for name in module.names(dump) if name not in known]
            found += [
                Content(module.KIND, name, len(body), body)
                for name, body in (await self._store.part(module.CONTENTS).whole(names)).items()
                if name not in known and is_name(module.KIND, name)
            ]
        missing: list[Missing] = []
        names = [name for name in dump.parts if name not in known and is_name("part", name)]
        for name, (count, folder) in zip(names, await self._store.blobs.where(names), strict=True):
            part = await self._part(name, count, folder, may_lack) if 0 <= count <= most else None
            found += [part] if part is not None else []
            missing += [Missing("part of the arguments", count)] if part is None else []
        if dump.folder:
            files = await self._files(dump.folder.removeprefix("="), may_lack)
            found += [one for one in files or () if one.size <= most]
            missing += [Missing("folder of files", -1)] if files is None else []
            missing += [Missing(word_of(one.name), one.size) for one in files or () if one.size > most]
        return found, missing

    async def _part(self, name: str, count: int, folder: str, may_lack: bool) -> Content | None:
        if not folder:
            (stored,) = await self._store.blobs.read([name])
            return Content("part", name, count, stored[1:]) if stored else None
        file_store = self._file_store()
        if file_store is None:
            return None
        place = file_store.place
        try:
            path = file_store.blob_path(folder)
            await asyncio.to_thread(lambda: place.open(path).close())
        except OSError as error:
            if may_lack or _is_of_one_file(error, place):
                return None
            raise
        return Content("part", name, count, place=place, path=path)

    async def _files(self, folder: str, may_lack: bool) -> list[Content] | None:
        """Return the files of a folder; None if it cannot be read here."""
        if (file_store := self._file_store()) is None:
            return None
        try:
            sizes = await asyncio.to_thread(file_store.files, folder)
        except OSError:
            if may_lack:
                return None
            raise
        return [
            Content("file", path, count, place=file_store.place, path=path) for path, count in sizes.items()
        ] or None

    # -- putting back -------------------------------------------------------------------------------------------------

    async def put(self, kind: str, name: str, chunks: Iterator[bytes]) -> None:
        """Store a content again. A part stays for an hour, until a job that names it is stored.

        A content whose name is not one of its kind is ignored.

        Raises:
            InvalidParams: the content does not match its name, is too large, or has no place here.
        """
        if not is_name(kind, name):
            return
        for module in modules("contents"):
            if kind == module.KIND:
                await self._store.part(module.CONTENTS).keep({name: b"".join(chunks)}, self._store.ttl_ms)
        if kind == "part" and self._parts is not None and await self._store.blobs.missing([name]):
            content = await asyncio.to_thread(b"".join, chunks)
            if digest(content) != name:
                raise InvalidParams(f"a part of arguments is damaged: it is not {name}")
            await self._parts.keep([Blob(name, content, "a part of arguments")])
        elif kind == "file":
            if (file_store := self._file_store()) is None:
                raise InvalidParams("there is no directory for files here: set JOBKIT_RESULTS")
            try:
                await asyncio.to_thread(file_store.place.write, name, chunks)
            except OSError as error:
                why = f"{name} cannot be written to {file_store.place.shown}: {error.strerror or error}"
                raise InvalidParams(why) from None

    async def adopted(self, dump: Dump) -> tuple[Dump, bool]:
        """Return a dump as it may be restored here, and whether its files are to be put first.

        A folder that another server has in the same place stays that server's; without a place it is left out.

        Raises:
            JobkitError: the place cannot be read now.
        """
        file_store, folder = self._file_store(), dump.folder.removeprefix("=")
        if not folder or file_store is None or not _is_own(folder, dump) or await self._store.submitted_us(dump.id):
            return replace(dump, folder=""), False
        try:
            files = await asyncio.to_thread(file_store.files, folder)
        except OSError as error:
            shown = file_store.place.shown
            raise JobkitError(f"files of jobs in {shown} cannot be read: {error.strerror or error}") from None
        if files and not folder.startswith(await self._store.place()):
            return replace(dump, folder=f"={folder}"), False
        owner = owner_of(dump.id, int(dump.record["us"]))
        with contextlib.suppress(OSError):  # who puts a file hears of it
            await asyncio.to_thread(file_store.claim, JobFolder(file_store, folder, owner))
        return replace(dump, folder=folder), True

    async def restored(self, dumps: Iterable[Dump]) -> None:
        """Name again what is kept of the workers of jobs that are stored again."""
        for worker, ran in {(dump.record.get("worker", ""), dump.ran) for dump in dumps if dump.ran}:
            for module in modules("contents"):
                await self._store.part(module.CONTENTS).keep({}, self._store.ttl_ms, worker, ran)


def _is_own(folder: str, dump: Dump) -> bool:
    """Return True if a folder is that of this job, and not of another one."""
    base = folder.partition("/")[0]
    return is_name("file", f"{folder}/{OWNER}") and FileStore.path_of(base, dump.id, int(dump.record["us"])) == folder


def word_of(path: str) -> str:
    return _WORDS.get(path.rpartition("/")[2].partition(".")[0], "file")


def in_words(missing: Sequence[Missing]) -> str:
    """Return "result (312.5 MB), 2 checkpoints (1.2 GB)"."""
    counts = Counter(one.what for one in missing)
    said = []
    for what, count in counts.items():
        total = sum(one.size for one in missing if one.what == what)
        many = what if count == 1 else f"{count} {what.replace('part ', 'parts ') if ' of ' in what else what + 's'}"
        said.append(f"{many} ({size(total)})" if total >= 0 else many)
    return ", ".join(said)


def belongings_of(verbs: Any) -> Belongings:
    """Return the belongings of the jobs of a kit's `verbs`."""
    return Belongings(verbs.store, lambda: verbs.file_store, verbs.parts)
