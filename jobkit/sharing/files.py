"""Files of jobs over HTTP, for machines that have joined: the server of `jobkit.files.gateway`.

    GET, HEAD /files/PATH    the content; its ETag is its SHA-256; `Range` and `If-Match` are heeded
    GET /files/FOLDER/       the sizes of the files in the folder of a job, by name
    PUT /files/PATH?upload=ID&offset=N[&sha256=...]   a part of the content; with its SHA-256, the last one
    GET /files/PATH?upload=ID[&sha256=...]   how much of an upload is here: {"offset", "is_done"}
    DELETE /files/PATH, /files/FOLDER/

Only paths that jobkit makes are served, in the folder of the machine's namespace. A file appears when it is whole, and
has the announced SHA-256.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import platform
import re
import shutil
import time
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, stream_request_body

from jobkit.embedded.home import Home
from jobkit.embedded.server import ServerReply, ask
from jobkit.files.file_store import BLOB_FILE, BLOB_FOLDER, FOLDER, JOB_FILE
from jobkit.files.host_cache import CHANGED
from jobkit.files.storage import Directory, make_folders
from jobkit.model.format import size as in_words
from jobkit.sharing.members import Members
from jobkit.sharing.rights import MemberRole, mark_key
from jobkit.sharing.web import MemberHandler, Routes

#: An upload comes in requests of at most this size; a file has at most so many bytes.
PART_BYTES, FILE_BYTES = 64 << 20, 100_000_000_000

#: So much of the disk stays free, for the store of the machine that shares.
RESERVE_BYTES = 200_000_000

#: Seconds after which an upload that has not gone on is deleted, at the next one into its folder.
_GIVEN_UP_S = 6 * 3600.0

#: Seconds for which the folder of a namespace is known.
_BASE_S = 10.0

_CHUNK = 256 << 10
_REMEMBERED = 1000
_UPLOAD = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})", re.ASCII)


class Refused(HTTPError):
    """A request that cannot be met; the message is the sentence for the user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status)
        self.message = message


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

        return cls(lambda: Path(members.read().results or home.results), base_of)

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
            raise Refused(507, full())

    def digest(self, file: BufferedReader) -> str:
        """Return the SHA-256 of an opened file, read once. Blocks."""
        key = _identity(file)
        if (known := self._digests.get(key)) is None:
            file.seek(0)
            known = self.remember(file, hashlib.file_digest(file, "sha256").hexdigest())
        return known

    def remember(self, file: BufferedReader, digest: str) -> str:
        self._digests[_identity(file)] = digest
        while len(self._digests) > _REMEMBERED:
            del self._digests[next(iter(self._digests))]
        return digest

    def upload(self, path: str, name: str) -> Upload:
        """Return an upload, also one that an earlier server has begun. Blocks."""
        target = self.root / path
        part = target.with_name(f".{target.name}.{name}.part")
        upload = self.uploads.get(name)
        if upload is None or upload.part != part:
            upload = self.uploads[name] = Upload(part)
            while len(self.uploads) > _REMEMBERED:
                del self.uploads[next(iter(self.uploads))]
        return upload


class Upload:
    """A file on its way. All methods block.

    Attributes:
        size: bytes that are here. lock: of the request that writes, `writer`.
    """

    writer: FileHandler | None = None

    def __init__(self, part: Path) -> None:
        self.part = part
        self.lock = asyncio.Lock()
        self._digest = hashlib.sha256()
        with contextlib.suppress(FileNotFoundError), part.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256")
        self.size = part.stat().st_size if part.exists() else 0

    def begin(self, offset: int) -> None:
        """Make ready for bytes at an offset. Raises Refused (409) if those before it are not here."""
        if offset == 0:
            make_folders(self.part.parent)
            self._sweep()
            os.close(os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
            self._digest, self.size = hashlib.sha256(), 0
        elif offset != self.size:
            raise Refused(409, f"{self.size} bytes are here and not {offset}")

    def add(self, data: bytes) -> None:
        if self.size + len(data) > FILE_BYTES:
            raise Refused(413, f"a file has at most {in_words(FILE_BYTES)}")
        with open(self.part, "r+b", buffering=0) as file:
            file.seek(self.size)
            view = memoryview(data)
            while view:  # a disk that becomes full takes the begin
                view = view[file.write(view) :]
        self._digest.update(data)
        self.size += len(data)

    def finish(self, target: Path, digest: str, *, is_durable: bool) -> None:
        """Give the file its name. Raises Refused (422) if its content is not what was announced."""
        if self._digest.hexdigest() != digest:
            self.discard()
            raise Refused(422, CHANGED)
        if is_durable:
            with self.part.open("rb") as file:
                os.fsync(file.fileno())
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


@stream_request_body
class FileHandler(MemberHandler):
    """One file, or the folder of a job; see the module's docstring. The application's setting `files` has the files."""

    def initialize(self) -> None:
        self._files: SharedFiles = self.settings["files"]
        self._upload: Upload | None = None
        self._is_writing = self._is_let_go = False
        self._buffer = bytearray()
        self._refusal: Refused | None = None
        self._is_received = False

    async def prepare(self) -> None:  # type: ignore[override]  # tornado allows both
        super().prepare()
        if self._finished:
            return
        path = self.path_args[0]
        try:
            base = await _in_thread(self._files.base_of, self.member.namespace)
        except OSError:
            raise Refused(503, "the server of the sharing machine does not answer yet") from None
        is_folder = bool(FOLDER.fullmatch(path.removesuffix("/")) or BLOB_FOLDER.fullmatch(path.removesuffix("/")))
        is_file = bool(JOB_FILE.fullmatch(path) or BLOB_FILE.fullmatch(path))
        if not (is_file or (is_folder and path.endswith("/"))) or not path.startswith(f"{base}/") or not base:
            raise Refused(404, "there is no such file")
        if self.request.method not in ("GET", "HEAD") and self.member.role is not MemberRole.WORKER:
            raise Refused(403, "this machine has joined to look on, and writes nothing")
        if self.request.method == "PUT" and is_file:
            self.request.connection.set_max_body_size(PART_BYTES)  # type: ignore[union-attr]
            await self._begin_upload(path)

    async def get(self, path: str) -> None:
        if path.endswith("/"):
            self.finish(await _in_thread(self._files.directory.sizes, path[:-1]))
            return
        if (name := self.get_query_argument("upload", "")) != "":
            await self._say_how_far(path, name)
            return
        file = await _in_thread(self._opened, path)
        with file:
            digest = await _in_thread(self._files.digest, file)
            start, end = self._range(os.fstat(file.fileno()).st_size, digest)
            await _in_thread(file.seek, start)
            while start < end and self.request.method == "GET":
                chunk = await _in_thread(file.read, min(_CHUNK, end - start))
                if not chunk:  # it was made shorter: the client sees that the body is not whole
                    return
                start += len(chunk)
                self.write(chunk)
                try:
                    await self.flush()
                except StreamClosedError:
                    return
            self.finish()

    head = get

    def _opened(self, path: str) -> BufferedReader:
        try:
            return open(os.open(self._files.root / path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
        except (FileNotFoundError, NotADirectoryError):
            raise Refused(404, "there is no such file") from None

    def _range(self, size: int, digest: str) -> tuple[int, int]:
        """Return the wanted bytes, and set the headers of the reply."""
        self.set_header("ETag", f'"{digest}"')
        self.set_header("Content-Type", "application/octet-stream")
        wanted = self.request.headers.get("If-Match", "*")
        if wanted not in ("*", f'"{digest}"'):
            raise Refused(412, "the file is another one by now")
        start, end = 0, size
        if header := self.request.headers.get("Range"):
            match = _RANGE.fullmatch(header)
            if match is None or int(match[1]) > size:
                raise HTTPError(416)
            start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
            if start < end:
                self.set_status(206)
                self.set_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.set_header("Content-Length", str(max(0, end - start)))
        return start, end

    # -- uploads ------------------------------------------------------------------------------------------------------

    async def _begin_upload(self, path: str) -> None:
        name, offset = self.get_query_argument("upload", ""), self.get_query_argument("offset", "0")
        digest = self.get_query_argument("sha256", "")
        if not _UPLOAD.fullmatch(name) or not offset.isdecimal() or len(offset) > 15:
            raise Refused(400, "an upload has an id of 32 hexadecimal digits and an offset")
        if digest and not _DIGEST.fullmatch(digest):
            raise Refused(400, "sha256 must be 64 hexadecimal digits")
        if digest and (blob := BLOB_FILE.fullmatch(path)) and blob[1] != digest:
            raise Refused(422, "a part of a call is named after its SHA-256")
        upload = await _in_thread(self._files.upload, path, name)
        self._take_over(upload)
        await upload.lock.acquire()
        self._upload, upload.writer = upload, self
        try:
            await _in_thread(self._files.check_room, int(self.request.headers.get("Content-Length", "0")))
            await _in_thread(upload.begin, int(offset))
        except (Refused, OSError) as error:
            self._refuse(error)

    async def data_received(self, chunk: bytes) -> None:
        if self._upload is None or self._refusal is not None or self._is_let_go:
            return
        self._buffer += chunk
        if len(self._buffer) >= _CHUNK:
            await self._write()

    async def _write(self) -> None:
        assert self._upload is not None
        data, self._buffer = self._buffer, bytearray()
        self._is_writing = True
        try:
            await _in_thread(self._upload.add, data)
        except (Refused, OSError) as error:
            await _in_thread(self._upload.discard)
            self._refuse(error)
        finally:
            self._is_writing = False
            if self._is_let_go:
                self._let_go()

    def _refuse(self, error: Refused | OSError) -> None:
        """Keep a refusal until the body is read: a client that still writes would not see the reply."""
        self._refusal = error if isinstance(error, Refused) else _refusal(error)

    async def put(self, path: str) -> None:
        if self._upload is None:
            raise HTTPError(405)
        self._is_received = True
        if self._refusal is None and self._buffer:
            await self._write()
        digest = self.get_query_argument("sha256", "")
        try:
            if self._refusal is None and digest:
                is_durable = self.get_query_argument("durable", "") == "1"
                await _in_thread(self._finish, self._files.root / path, digest, is_durable)
        except OSError as error:
            self._refuse(error)
        if self._refusal is not None:
            raise self._refusal
        self.set_status(201 if digest else 200)
        self.finish({"offset": self._upload.size})

    def _finish(self, target: Path, digest: str, is_durable: bool) -> None:
        assert self._upload is not None
        self._upload.finish(target, digest, is_durable=is_durable)
        self._files.uploads.pop(self.get_query_argument("upload"), None)
        with target.open("rb") as file:
            self._files.remember(file, digest)

    @staticmethod
    def _take_over(upload: Upload) -> None:
        """Cut the connection that still waits for bytes of an upload: its client has lost it, and asks on another."""
        writer = upload.writer
        if writer is not None and not writer._is_received and writer.request.connection is not None:
            writer.request.connection.stream.close()  # type: ignore[attr-defined]  # as tornado's server makes it

    async def _say_how_far(self, path: str, name: str) -> None:
        if not _UPLOAD.fullmatch(name):
            raise Refused(400, "an upload has an id of 32 hexadecimal digits and an offset")
        upload = await _in_thread(self._files.upload, path, name)
        self._take_over(upload)
        async with upload.lock:
            self.finish({"offset": upload.size, "is_done": await _in_thread(self._is_done, path)})

    def _is_done(self, path: str) -> bool:
        """Return whether the reply to the last part was lost: the file has its name."""
        wanted = self.get_query_argument("sha256", "")
        try:
            with self._opened(path) as file:
                return bool(wanted) and self._files.digest(file) == wanted
        except Refused:
            return False

    def on_finish(self) -> None:
        self._let_go()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if not self._is_received:  # else it is served to its end
            self._let_go()

    def _let_go(self) -> None:
        """Let the next request go on with the upload, once this one writes no more."""
        self._is_let_go = True
        if self._upload is not None and not self._is_writing:
            upload, self._upload = self._upload, None
            upload.writer = None
            upload.lock.release()

    # -- removal ------------------------------------------------------------------------------------------------------

    async def delete(self, path: str) -> None:
        if path.endswith("/"):
            await _in_thread(self._files.directory.remove, path[:-1])
        else:
            await _in_thread(self._files.directory.delete, path)
        self.set_status(204)
        self.finish()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        if isinstance(error, OSError):
            error = _refusal(error)
            self.set_status(error.status_code)
        if isinstance(error, Refused):
            self.finish({"message": error.message})
        else:
            super().write_error(status_code, **kwargs)

    def compute_etag(self) -> None:
        """Replies are not hashed: files have their SHA-256."""
        return None


def file_routes() -> Routes:
    """Return the route of the gateway for files."""
    return [(r"/files/(.*)", FileHandler)]


def _refusal(error: OSError) -> Refused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(507, full())
    where = f"the directory for files of {platform.node()}"
    return Refused(500, f"{where} cannot be used: {error.strerror or error}")


def full() -> str:
    return f"the disk of {platform.node()}, which shares its place, is full"


def _identity(file: BufferedReader) -> tuple[Any, ...]:
    facts = os.fstat(file.fileno())
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


async def _in_thread(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)
