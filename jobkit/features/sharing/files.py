"""Files of jobs over HTTP, for machines that have joined: the server of `places`.

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
import os
import re
from pathlib import Path
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, stream_request_body

from jobkit.features.sharing.rights import MemberRole
from jobkit.features.sharing.shared_files import SharedFiles, Upload, refusal_of
from jobkit.features.sharing.web import MemberHandler, Refused, Routes
from jobkit.files.file_store import ARRAY_FILE, BLOB_FILE, BLOB_FOLDER, FOLDER, JOB_FILE

#: An upload comes in requests of at most this size.
PART_BYTES = 64 << 20

_CHUNK = 256 << 10
_UPLOAD = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})", re.ASCII)


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
        path = self.path_args[0]
        try:
            base = await asyncio.to_thread(self._files.base_of, self.member.namespace)
        except OSError:
            raise Refused(503, "the server of the sharing machine does not answer yet") from None
        is_folder = bool(FOLDER.fullmatch(path.removesuffix("/")) or BLOB_FOLDER.fullmatch(path.removesuffix("/")))
        is_file = bool(JOB_FILE.fullmatch(path) or BLOB_FILE.fullmatch(path))
        is_array = self.request.method == "GET" and bool(ARRAY_FILE.fullmatch(path))
        is_served = is_file or is_array or (is_folder and path.endswith("/"))
        if not is_served or not base or not path.startswith(f"{base}/"):
            raise Refused(404, "there is no such file")
        await asyncio.to_thread(self._files.check_place, path)
        is_read = self.request.method in ("GET", "HEAD") and "upload" not in self.request.query_arguments
        if not is_read and self.member.role is not MemberRole.WORKER:
            raise Refused(403, "this machine has joined to look on, and writes nothing")
        if self.request.method == "PUT" and is_file:
            self.request.connection.set_max_body_size(PART_BYTES)  # type: ignore[union-attr]
            await self._begin_upload(path)

    async def get(self, path: str) -> None:
        if path.endswith("/"):
            self.finish(await asyncio.to_thread(self._files.directory.sizes, path[:-1]))
            return
        if (name := self.get_query_argument("upload", "")) != "":
            await self._say_how_far(path, name)
            return
        file = await asyncio.to_thread(self._files.opened, path)
        with file:
            digest = await self._files.hashed(path, file)
            start, end = self._range(os.fstat(file.fileno()).st_size, digest)
            await asyncio.to_thread(file.seek, start)
            while start < end and self.request.method == "GET":
                chunk = await asyncio.to_thread(file.read, min(_CHUNK, end - start))
                if not chunk:  # it was made shorter: the client sees that the body is not whole
                    return
                self.check_member()
                start += len(chunk)
                self.write(chunk)
                try:
                    await self.flush()
                except StreamClosedError:
                    return
            self.finish()

    head = get

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
        upload = self._files.upload(path, name)
        await upload.lock.acquire()
        self._upload, upload.cut = upload, self._cut
        try:
            await asyncio.to_thread(self._files.check_room, int(self.request.headers.get("Content-Length", "0")))
            await asyncio.to_thread(upload.begin, int(offset))
        except (Refused, OSError) as error:
            self._refuse(error)
            if self._refusal is not None and self._refusal.status_code == 507:  # its client gives up
                await asyncio.to_thread(upload.discard)

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
            await asyncio.to_thread(self._upload.add, data)
        except (Refused, OSError) as error:
            await asyncio.to_thread(self._upload.discard)
            self._refuse(error)
        finally:
            self._is_writing = False
            if self._is_let_go:
                self._let_go()

    def _refuse(self, error: Refused | OSError) -> None:
        """Keep a refusal until the body is read: a client that still writes would not see the reply."""
        self._refusal = error if isinstance(error, Refused) else refusal_of(error)

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
                await asyncio.to_thread(self._finish, self._files.root / path, digest, is_durable)
        except OSError as error:
            self._refuse(error)
        if self._refusal is not None:
            raise self._refusal
        self.set_status(201 if digest else 200)
        self.finish({"offset": self._upload.size})

    def _finish(self, target: Path, digest: str, is_durable: bool) -> None:
        assert self._upload is not None
        self._upload.finish(target, digest, self.check_member, is_durable=is_durable)
        self._files.uploads.pop(self.get_query_argument("upload"), None)
        with target.open("rb") as file:
            self._files.remember(file, digest)

    def _cut(self) -> None:
        """Close the connection if it still waits for bytes: its client has lost it, and asks on another one."""
        if not self._is_received and self.request.connection is not None:
            self.request.connection.stream.close()  # type: ignore[attr-defined]  # of tornado's server

    async def _say_how_far(self, path: str, name: str) -> None:
        if not _UPLOAD.fullmatch(name):
            raise Refused(400, "an upload has an id of 32 hexadecimal digits and an offset")
        upload = self._files.upload(path, name)
        async with upload.lock:
            await asyncio.to_thread(upload.read)
            self.finish({"offset": upload.size, "is_done": await asyncio.to_thread(self._is_done, path)})

    def _is_done(self, path: str) -> bool:
        """Return whether the reply to the last part was lost: the file has its name."""
        wanted = self.get_query_argument("sha256", "")
        try:
            with self._files.opened(path) as file:
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
            upload.cut = None
            upload.lock.release()

    # -- removal ------------------------------------------------------------------------------------------------------

    async def delete(self, path: str) -> None:
        if path.endswith("/"):
            await asyncio.to_thread(self._files.directory.remove, path[:-1])
        else:
            await asyncio.to_thread(self._files.directory.delete, path)
        self.set_status(204)
        self.finish()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        kind, error, trace = kwargs.pop("exc_info", (None, None, None))
        if isinstance(error, OSError):
            error = refusal_of(error)
            self.set_status(error.status_code)
        super().write_error(status_code, exc_info=(kind, error, trace))

    def compute_etag(self) -> None:
        """Replies are not hashed: files have their SHA-256."""
        return None


#: The route of the gateway for files.
FILE_ROUTES: Routes = [(r"/files/(.*)", FileHandler)]
