"""`SharedFiles`: files of one home as its gateway keeps them for other machines, and files on their way there.

A file appears when it is whole, and has the announced SHA-256.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

from jobkit.embedded.home import Home
from jobkit.embedded.server import ServerReply, ask
from jobkit.features.sharing.members import Members
from jobkit.features.sharing.rights import mark_key
from jobkit.features.sharing.web import Refused
from jobkit.files.host_cache import CHANGED
from jobkit.files.storage import Directory, make_folders
from jobkit.model.format import size as in_words
from jobkit.settings import masked

#: A file has at most so many bytes.
FILE_BYTES = 100_000_000_000

#: So much of the disk stays free, for the store of the machine that shares.
RESERVE_BYTES = 200_000_000

#: Seconds after which an upload that has not gone on is deleted, at the next one into its folder.
_GIVEN_UP_S = 6 * 3600.0

#: Seconds for which a request waits for the SHA-256 of a file.
_HASH_S = 5.0

#: Seconds for which the folder of a namespace is known.
_BASE_S = 10.0

_REMEMBERED = 1000


class SharedFiles:
    """Files of one home, for all handlers of its gateway.

    Args:
        root: returns the directory of the files.
        base_of: returns the folder of a namespace in it, 16 hex digits; "" if there is none yet. Blocks; raises
            OSError if the home's server does not answer.
    """

    def __init__(self, root: Callable[[], Path], base_of: Callable[[str], str]) -> None:
        self._root, self.base_of = root, base_of
        self.reserve_bytes = RESERVE_BYTES
        self.uploads: dict[str, Upload] = {}
        self._digests: dict[tuple[Any, ...], str] = {}
        self._hashing: dict[tuple[Any, ...], asyncio.Task[str]] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, home: Home, members: Members) -> SharedFiles:
        """Return the files of a home."""
        known: dict[str, tuple[float, str]] = {}

        def base_of(namespace: str) -> str:
            at, base = known.get(namespace, (0.0, ""))
            if not base or time.monotonic() > at + _BASE_S:
                try:
                    base = str(ask(str(home.socket), "GET", mark_key(namespace)) or "")
                except ServerReply as error:  # it is loading its data
                    raise OSError(str(error)) from None
                known[namespace] = time.monotonic(), base
            return base

        def root() -> Path:
            shared = members.read()
            if shared.shared_results:  # since this machine has joined: no other one would find its files here
                where = masked(shared.results)
                raise Refused(410, f"files are kept in {where} now: let this machine join again with a new word")
            return Path(shared.results or home.results)

        return cls(root, base_of)

    @property
    def directory(self) -> Directory:
        return Directory(self._root())

    @property
    def root(self) -> Path:
        return self.directory.root

    def check_room(self, more: int) -> None:
        """Raise Refused (507) if the disk has no room for so many bytes. Blocks."""
        make_folders(self.root)
        if shutil.disk_usage(self.root).free < more + self.reserve_bytes:
            raise Refused(507, _full())

    def check_place(self, path: str) -> None:
        """Raise Refused (404) if a folder on the way to a path is a link, as it might lead out of the root. Blocks."""
        folder = path[:-1] if path.endswith("/") else os.path.dirname(path)
        root = self.root.resolve()
        if (root / folder).resolve() != root / folder:
            raise Refused(404, "there is no such file")

    def opened(self, path: str) -> BufferedReader:
        """Return an opened file. Raises Refused (404) if there is none."""
        try:
            return open(os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
        except (FileNotFoundError, NotADirectoryError):
            raise Refused(404, "there is no such file") from None

    async def hashed(self, path: str, file: BufferedReader) -> str:
        """Return the SHA-256 of an opened file, which is read once for all requests of the same time.

        Raises:
            Refused: (425) a large file is not read yet; the request is to be repeated.
        """

        def read() -> str:
            with self.opened(path) as own:  # the request may end before
                return self.digest(own)

        key = _identity(file)
        if (known := self._digests.get(key)) is not None:
            return known
        if (hashing := self._hashing.get(key)) is None:
            hashing = self._hashing[key] = asyncio.create_task(asyncio.to_thread(read))
            hashing.add_done_callback(partial(self._hashed, key))
        await asyncio.wait([hashing], timeout=_HASH_S)
        if not hashing.done():
            raise Refused(425, "its SHA-256 is computed: ask again")
        return hashing.result()

    def _hashed(self, key: tuple[Any, ...], hashing: asyncio.Task[str]) -> None:
        del self._hashing[key]
        if not hashing.cancelled():
            hashing.exception()  # its requests may have ended

    def digest(self, file: BufferedReader) -> str:
        """Return the SHA-256 of an opened file, read once. Blocks."""
        key = _identity(file)
        if (known := self._digests.get(key)) is None:
            file.seek(0)
            known = hashlib.file_digest(file, "sha256").hexdigest()
            if _identity(file) == key:  # else it grew meanwhile
                self.remember(file, known)
        return known

    def remember(self, file: BufferedReader, digest: str) -> None:
        with self._lock:
            self._digests[_identity(file)] = digest
            while len(self._digests) > _REMEMBERED:
                del self._digests[next(iter(self._digests))]

    def upload(self, path: str, name: str) -> Upload:
        """Return an upload. Its last request is over, or is cut."""
        target = self.root / path
        part = target.with_name(f".{target.name}.{name}.part")
        upload = self.uploads.get(name)
        if upload is None or upload.part != part:
            upload = self.uploads[name] = Upload(part)
            while len(self.uploads) > _REMEMBERED:
                del self.uploads[next(iter(self.uploads))]
        if upload.cut is not None:
            upload.cut()
        return upload


class Upload:
    """A file on its way. Methods block, and are for the owner of `lock`.

    Attributes:
        size: bytes that are here.
        cut: closes the connection of the request that has the lock and waits for more bytes.
    """

    def __init__(self, part: Path) -> None:
        self.part, self.size = part, 0
        self.lock = asyncio.Lock()
        self.cut: Callable[[], None] | None = None
        self._digest = hashlib.sha256()
        self._is_read = False

    def read(self) -> None:
        """Read what an earlier server has received of it."""
        if not self._is_read:
            with contextlib.suppress(FileNotFoundError), self.part.open("rb") as file:
                self._digest = hashlib.file_digest(file, "sha256")
                self.size = file.tell()
            self._is_read = True

    def begin(self, offset: int) -> None:
        """Make ready for bytes at an offset. Raises Refused (409) if those before it are not here."""
        if offset == 0:
            make_folders(self.part.parent)
            self._sweep()
            os.close(os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
            self._digest, self.size = hashlib.sha256(), 0
            self._is_read = True
        self.read()
        if offset != self.size:
            raise Refused(409, f"{self.size} bytes are here and not {offset}")

    def add(self, data: bytes | bytearray) -> None:
        if self.size + len(data) > FILE_BYTES:
            raise Refused(413, f"a file has at most {in_words(FILE_BYTES)}")
        with open(self.part, "r+b", buffering=0) as file:
            file.seek(self.size)
            view = memoryview(data)
            while view:  # a disk that becomes full takes the begin
                view = view[file.write(view) :]
        self._digest.update(data)
        self.size += len(data)

    def finish(self, target: Path, digest: str, check: Callable[[], object], *, is_durable: bool) -> None:
        """Give the file its name if `check` does not raise. Raises Refused (422) if its content is not the announced
        one."""
        if self._digest.hexdigest() != digest:
            self.discard()
            raise Refused(422, CHANGED)
        if is_durable:
            with self.part.open("rb") as file:
                os.fsync(file.fileno())
        check()
        os.replace(self.part, target)

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self._digest, self.size = hashlib.sha256(), 0

    def _sweep(self) -> None:
        """Delete uploads into this folder that have been given up."""
        for part in self.part.parent.glob(".*.part"):
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - _GIVEN_UP_S:
                    part.unlink()


def refusal_of(error: OSError) -> Refused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(507, _full())
    where = f"the directory for files of {platform.node()}"
    return Refused(500, f"{where} cannot be used: {error.strerror or error}")


def _full() -> str:
    return f"the disk of {platform.node()}, which shares its place, is full"


def _identity(file: BufferedReader) -> tuple[Any, ...]:
    facts = os.fstat(file.fileno())
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns
