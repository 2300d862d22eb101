"""`GatewayFiles`: storage on the machine that shares its place, by HTTP: its gateway is the server.

A link that is cut does no harm: uploads and downloads continue. What is read is kept on this machine by its SHA-256,
for all processes (`HostCache`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlencode

from jobkit.files.host_cache import CHANGED, HostCache, cache_of
from jobkit.files.storage import PATIENCE_S, Part, Place
from jobkit.joined import SCHEME, membership_of
from jobkit.settings import Settings

#: An upload is sent in parts of this size, each of which is repeated if the link is cut.
PART_BYTES = 8_000_000

#: Smaller files are not kept on this machine.
_SMALL_BYTES = 64_000

#: Seconds for one step of a connection.
_LINK_S = 15.0

_CHUNK = 256 << 10
_FIRST_S, _LATER_S = 0.1, 3.0
_IDLE_MOST = 4

#: Errors of the link, and statuses of a gateway whose home is not there yet.
_LINK = (OSError, HTTPException)
_LATER = (502, 503, 504)

#: Status of a gateway that reads a large file for its SHA-256.
_AT_WORK = 425

_ERRNO = {
    401: errno.EACCES,
    403: errno.EACCES,
    404: errno.ENOENT,
    412: errno.ESTALE,
    413: errno.EFBIG,
    507: errno.ENOSPC,
}

T = TypeVar("T")


class GatewayLink:
    """Connections to the gateway of a joined place.

    Args:
        name: of the place, for messages.
        connect: returns a connection that is not open yet, and checks whose it is when it opens.
        headers: of each request, with the credentials.
    """

    def __init__(self, name: str, connect: Callable[[], HTTPConnection], headers: Mapping[str, str]) -> None:
        self.name = name
        self._connect, self._headers = connect, dict(headers)
        self._idle: list[HTTPConnection] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()
        # Not `__del__`: the collector of a circle may finalize open sockets before what holds them.
        weakref.finalize(self, _close, self._idle).atexit = False

    @contextlib.contextmanager
    def connection(self) -> Iterator[HTTPConnection]:
        """Yield a connection, which is used again unless an exception passes. One thread uses it."""
        with self._lock:
            if self._pid != os.getpid():  # a fork's connections are those of its parent
                _close(self._idle)
                self._pid = os.getpid()
            connection = self._connect()
            while self._idle:
                idle = self._idle.pop()
                if not _is_ended(idle):
                    connection = idle
                    break
                idle.close()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if len(self._idle) < _IDLE_MOST:
                self._idle.append(connection)
                return
        connection.close()

    @contextlib.contextmanager
    def request(
        self, method: str, path: str, body: bytes | memoryview = b"", headers: Mapping[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """Yield the reply to one request, whose body is to be read to its end.

        Raises:
            OSError, HTTPException: the link failed. Refusal: the gateway refuses.
        """
        sent = {**self._headers, **(headers or {})}
        if method == "PUT":
            sent["Content-Length"] = str(len(body))
        with self.connection() as connection:
            try:
                connection.request(method, f"/files/{path}", _pieces(body) if body else None, sent)
            except (BrokenPipeError, ConnectionResetError):
                if connection.sock is None:  # it was never open
                    raise
                # the reply says why
            except ssl.SSLCertVerificationError:
                raise Refusal(401, f"the machine at {connection.host} is not {self.name}: join again") from None
            reply = connection.getresponse()
            if reply.status >= 300:
                raise Refusal(reply.status, _message(reply, self.name))
            yield reply


def _close(idle: list[HTTPConnection]) -> None:
    while idle:
        idle.pop().close()  # without a word to the gateway, so also in a fork


def _is_ended(idle: HTTPConnection) -> bool:
    """Return True if the gateway has closed a connection that is not in use: only its end can be read from it."""
    return idle.sock is not None and bool(wait([idle.sock], 0))


class Refusal(Exception):
    """The gateway has refused a request; the message is the sentence for the user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def as_error(self, path: str) -> OSError:
        number = _ERRNO.get(self.status, errno.EIO)
        return OSError(number, str(self))  # of the subclass that belongs to the number, as FileNotFoundError


class GatewayFiles(Place):
    """Storage behind a gateway.

    Args:
        patience_s: seconds without progress after which a call raises.
    """

    def __init__(self, gateway: GatewayLink, cache: HostCache, *, patience_s: float = PATIENCE_S) -> None:
        self._gateway, self._cache, self._patience_s = gateway, cache, patience_s
        self._gives_up = threading.Event()
        self.shown = f"joined://{gateway.name}"

    def wait(self, patience_s: float) -> None:
        self._patience_s = patience_s
        if patience_s == 0:
            self._gives_up.set()

    def write(self, path: str, parts: Iterable[Part], *, is_durable: bool = False) -> None:
        """Write a file; readers see all of it or no file."""
        upload, digest, offset = secrets.token_hex(16), hashlib.sha256(), 0
        patience = self._patience()
        for data, is_last in _in_parts(parts):
            digest.update(data)
            self._put(path, upload, offset, data, digest.hexdigest() if is_last else "", patience, is_durable)
            offset += len(data)

    def _put(
        self, path: str, upload: str, offset: int, data: bytes, digest: str, patience: _Patience, is_durable: bool
    ) -> None:
        """Send a part; if the link is cut, its rest."""
        sent, is_known = 0, True
        while True:
            try:
                if not is_known:
                    here, is_done = self._how_far(path, upload, digest)
                    if is_done:
                        return
                    if not offset <= here <= offset + len(data):
                        raise Refusal(410, f"{self._gateway.name} has lost what was uploaded")
                    if here - offset > sent:
                        patience.renew()
                    sent, is_known = here - offset, True
                    if sent == len(data) and not digest:
                        return
                query = {"upload": upload, "offset": str(offset + sent)}
                query |= {"sha256": digest} if digest else {}
                query |= {"durable": "1"} if digest and is_durable else {}
                rest = memoryview(data)[sent:]
                with self._gateway.request("PUT", f"{path}?{urlencode(query)}", rest) as reply:
                    reply.read()
                patience.renew()
                return
            except Refusal as refusal:
                if refusal.status not in (*_LATER, 409):
                    raise refusal.as_error(path) from None
                patience.wait(refusal)
            except _LINK as error:
                patience.wait(error)
            is_known = False

    def _how_far(self, path: str, upload: str, digest: str) -> tuple[int, bool]:
        query = urlencode({"upload": upload, "sha256": digest})
        with self._gateway.request("GET", f"{path}?{query}") as reply:
            found = json.loads(reply.read())
        return int(found["offset"]), bool(found["is_done"])

    def read(self, path: str) -> bytes:
        size, digest, begin = self._look(path)
        if size > len(begin):
            return self._kept(path, size, digest).read_bytes()
        if hashlib.sha256(begin).hexdigest() != digest:
            raise OSError(errno.EIO, CHANGED)
        return begin

    def fetched(self, path: str) -> Path:
        """Return a copy of a file on this machine. It stays for ten minutes at least."""
        size, digest, _ = self._look(path)
        return self._kept(path, size, digest)

    def _kept(self, path: str, size: int, digest: str) -> Path:
        patience = self._patience()

        def wait(is_going_on: bool) -> None:
            if is_going_on:
                patience.renew()
            patience.wait(BlockingIOError("another process of this machine fetches the file"))

        return self._cache.get(digest, size, lambda offset: self._fetch(path, digest, size, offset), wait=wait)

    def open(self, path: str) -> BinaryIO:
        return self.fetched(path).open("rb")

    def _look(self, path: str) -> tuple[int, str, bytes]:
        """Return size, SHA-256 and begin of a file."""

        def read(reply: HTTPResponse) -> tuple[int, str, bytes]:
            begin, total = reply.read(), reply.headers.get("Content-Range", "").rpartition("/")[2]
            return int(total or len(begin)), reply.headers["ETag"].strip('"'), begin

        return self._ask("GET", path, read, f"bytes=0-{_SMALL_BYTES - 1}")

    def _fetch(self, path: str, digest: str, size: int, offset: int) -> Iterator[bytes]:
        patience = self._patience()
        while offset < size:
            headers = {"Range": f"bytes={offset}-", "If-Match": f'"{digest}"'}
            with patience.repeats(path), self._gateway.request("GET", path, headers=headers) as reply:
                while chunk := reply.read(_CHUNK):
                    offset += len(chunk)
                    patience.renew()
                    yield chunk
                if offset < size:
                    raise ConnectionError("the reply is not whole")

    def sizes(self, folder: str) -> dict[str, int]:
        found: dict[str, int] = self._ask("GET", f"{folder}/", lambda reply: json.loads(reply.read()))
        return found

    def delete(self, path: str) -> None:
        self._ask("DELETE", path, HTTPResponse.read)

    def remove(self, folder: str) -> None:
        self._ask("DELETE", f"{folder}/", HTTPResponse.read)

    def folders(self, base: str, min_age_s: float) -> Iterator[str]:
        """Yield none: the workers of the machine that shares look for folders without a job."""
        return iter(())

    def _ask(self, method: str, path: str, read: Callable[[HTTPResponse], T], range_: str = "") -> T:
        patience, headers = self._patience(), {"Range": range_} if range_ else {}
        while True:
            with patience.repeats(path), self._gateway.request(method, path, headers=headers) as reply:
                return read(reply)

    def _patience(self) -> _Patience:
        return _Patience(self._gateway.name, self._patience_s, self._gives_up)


class _Patience:
    """Waits before a request is repeated, longer each time, until there was no progress for too long."""

    def __init__(self, name: str, most_s: float, gives_up: threading.Event) -> None:
        self._name, self._most_s, self._gives_up = name, most_s, gives_up
        self.renew()

    def renew(self) -> None:
        self._until, self._wait_s = time.monotonic() + self._most_s, 0.0

    @contextmanager
    def repeats(self, path: str) -> Iterator[None]:
        """Wait after an error of the block that a repeated request may not have; raise others."""
        try:
            yield
        except Refusal as refusal:
            if refusal.status == _AT_WORK:
                self.renew()
            elif refusal.status not in _LATER:
                raise refusal.as_error(path) from None
            self.wait(refusal)
        except _LINK as error:
            self.wait(error)

    def wait(self, error: Exception) -> None:
        """Wait. Raises OSError if it has lasted too long."""
        if self._gives_up.wait(self._wait_s) or time.monotonic() >= self._until:
            why = str(error) if isinstance(error, Refusal) else getattr(error, "strerror", None) or str(error)
            said = f" ({why})" if why else ""
            raise OSError(errno.EHOSTUNREACH, f"the machine that shares {self._name} is not reached{said}") from error
        self._wait_s = min(_LATER_S, 2 * self._wait_s or _FIRST_S)


def _in_parts(parts: Iterable[Part]) -> Iterator[tuple[bytes, bool]]:
    """Yield the content in parts of one size, each with whether it is the last one; an empty one if there is none."""
    buffer = bytearray()
    for part in parts:
        for start in range(0, len(part), PART_BYTES):
            buffer += part[start : start + PART_BYTES]
            if len(buffer) > PART_BYTES:
                yield bytes(buffer[:PART_BYTES]), False
                del buffer[:PART_BYTES]
    yield bytes(buffer), True


def _pieces(body: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """Yield a body in pieces, each of which may take as long as the link's limit."""
    for start in range(0, len(body), _CHUNK):
        yield body[start : start + _CHUNK]


def _message(reply: HTTPResponse, name: str) -> str:
    raw = reply.read()
    try:
        found: Any = json.loads(raw)["message"]
    except (ValueError, KeyError, TypeError):
        found = reply.reason
    return str(found) or f"the machine that shares {name} refuses ({reply.status})"


def place_of(url: str, home: Path | None = None) -> GatewayFiles | None:
    """Return the files of a joined place, None for another URL. `home`: of the settings, by default.

    Raises:
        InvalidParams: this machine has not joined it.
    """
    if not url.startswith(f"{SCHEME}://"):
        return None
    home = home or Settings.load().home.expanduser()
    member = membership_of(url, home)
    tls = member.tls("http/1.1")

    def connect() -> HTTPSConnection:
        return HTTPSConnection(member.host, member.port, timeout=_LINK_S, context=tls)

    return GatewayFiles(GatewayLink(member.name, connect, {"Authorization": member.authorization()}), cache_of(home))
