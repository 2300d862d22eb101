"""A server for files of jobs in a thread, and a link to it that can be cut."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.web import Application

from jobkit.features.sharing.files import FILE_ROUTES
from jobkit.features.sharing.members import Member
from jobkit.features.sharing.places import GatewayFiles, GatewayLink
from jobkit.features.sharing.rights import MemberRole
from jobkit.features.sharing.shared_files import SharedFiles
from jobkit.files.host_cache import HostCache

BASE = "0123456789abcdef"
FOLDER = f"{BASE}/ab/{'c' * 30}"


class KnownMembers:
    """Three machines, by their names: the password of each is empty."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()

    def read(self) -> KnownMembers:
        return self

    def member(self, user: str, password: str) -> Member | None:
        if user in self.revoked or user not in ("worker", "viewer", "stranger"):
            return None
        role = MemberRole.VIEWER if user == "viewer" else MemberRole.WORKER
        return Member(user, user, "", role, "other" if user == "stranger" else "default", 0)

    def admit(self, connection: object) -> None:
        """Count nothing."""


def login(name: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:'.encode()).decode()}"


def _line(request: HTTPServerRequest) -> str:
    return f"{request.method} {request.headers.get('Range', '')}"


class FileServer:
    """A server that can be killed and started again on the same port.

    Attributes:
        asked: "GET bytes=0-" for each request.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        self.members = KnownMembers()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: HTTPServer | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def start(self) -> None:
        self.run(self._start())

    async def _start(self) -> None:
        bases = {"default": BASE, "other": "f" * 16}
        self._shared = SharedFiles(lambda: self.root, bases.__getitem__)
        application = Application(
            FILE_ROUTES,
            files=self._shared,
            members=self.members,
            gateway=self.members,
            log_function=lambda handler: self.asked.append(_line(handler.request)),
        )
        self._server = HTTPServer(application, max_body_size=1000)
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._server.add_sockets([listener])

    def fill(self) -> None:
        """Let the disk have no room from now on."""
        self._shared.reserve_bytes = 1 << 60

    def kill(self) -> None:
        """Close the port and all connections, and forget all uploads."""
        self.run(self._kill())

    async def _kill(self) -> None:
        if self._server is not None:
            self._server.stop()
            for connection in list(self._server._connections):  # `close_all_connections` waits for requests
                connection.stream.close()
            self._server = None

    def close(self) -> None:
        self.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def files(
        self, cache: Path, who: str = "worker", *, port: int = 0, limit_s: float = 10.0, **options: Any
    ) -> GatewayFiles:
        def connect() -> HTTPConnection:
            return HTTPConnection("127.0.0.1", port or self.port, timeout=limit_s)

        return GatewayFiles(GatewayLink("lab", connect, {"Authorization": login(who)}), HostCache(cache), **options)


@contextmanager
def cutting(port: int, after: Callable[[], int], *, stalls: bool = False) -> Iterator[int]:
    """Yield the port of a link to a server, each connection of which ends after so many bytes in one direction.

    `stalls`: it does not end, but passes no more bytes.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    is_over = threading.Event()

    def pump(source: socket.socket, target: socket.socket, most: int) -> None:
        with source, target:
            while most > 0:
                try:
                    data = source.recv(min(65_536, most))
                    target.sendall(data)
                except OSError:
                    break
                if not data:
                    break
                most -= len(data)
            if stalls and most <= 0:
                is_over.wait(30)
            for one in (source, target):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def accept() -> None:
        while not is_over.is_set():
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            most = after()
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=pump, args=(source, target, most), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        is_over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
