"""The gateway of a shared home, kept alive by its supervisor: `python -m jobkit.features.sharing.gateway --home H`.

Its members' connections of Redis are forwarded to the home's server as bytes. Before the first byte, the gateway checks
the credentials and logs the connection to the server in as this member, with the rights of its role. No command that a
member may send changes that (see `config_text` of the embedded server).
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import hiredis
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import Application

from jobkit.access.own_machine import write_private
from jobkit.embedded.home import Home, say
from jobkit.embedded.server import ServerReply, ask
from jobkit.features.sharing.certificate import own_certificate, server_tls
from jobkit.features.sharing.files import FILE_ROUTES
from jobkit.features.sharing.members import Member, Members, folder_in
from jobkit.features.sharing.rights import MemberRole, rights_of
from jobkit.features.sharing.shared_files import SharedFiles
from jobkit.features.sharing.web import ROUTES
from jobkit.joined import address_of
from jobkit.model import JobkitError
from jobkit.run.shortage import raise_file_limit

#: Seconds for the handshake, and again for the login of a connection.
LOGIN_S = 10.0

#: Seconds after which an idle connection of HTTP is closed.
_IDLE_S = 60.0

#: Number of connections that have not logged in yet; the oldest are closed.
STRANGERS = 200

#: Most connections of Redis that a member may have open: workers of a pool are one member.
CONNECTIONS = {MemberRole.VIEWER: 64, MemberRole.WORKER: 2000}

#: Most bytes of an HTTP header, and of a body that a handler does not read by itself.
_HEADER_BYTES, _BODY_BYTES = 16_384, 1_000_000

_CHUNK = 65_536

#: Seconds to wait for an address or port that is not free yet: of the last gateway, or of a network that comes up.
_BIND_S = 5.0

#: Seconds of silence before the other machine is asked whether it is there, between questions, and their number.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}

#: The first command of a member: `AUTH user password` as redis-py sends it.
_LOGIN_START = b"*3\r\n$4\r\nAUTH\r\n$"
_LOGIN = re.compile(
    re.escape(_LOGIN_START) + rb"\d{1,3}\r\n([a-z]{1,20}-[0-9a-f]{1,40})\r\n\$\d{1,3}\r\n([0-9a-f]{1,128})\r\n"
)
_LOGIN_BYTES, _LOGIN_LINES = 400, 7

_NO_LOGIN = b"-NOAUTH this is a jobkit gateway: log in first, with what `jobkit join` was given\r\n"
_REFUSED = b"-WRONGPASS this machine was revoked, or has not joined\r\n"
_TOO_MANY = b"-ERR max number of clients reached\r\n"  # the server's own words, which clients know
_AWAY = b"-LOADING the server of the sharing machine does not answer yet\r\n"


class Gateway(HTTPServer):
    """Server of one TLS port: HTTP for those who ask for it by ALPN, Redis for all others."""

    def initialize(self, home: Home, tls: Any) -> None:  # type: ignore[override]  # tornado's way of construction
        self.home = home
        self.members = Members(home)
        self.strangers: dict[IOStream, None] = {}
        self.connected: Counter[str] = Counter()
        app = Application(
            [*ROUTES, *FILE_ROUTES],
            home=home,
            members=self.members,
            files=SharedFiles.of(home, self.members),
            gateway=self,
            log_function=lambda handler: None,
        )
        super().initialize(
            app,
            ssl_options=tls,
            idle_connection_timeout=_IDLE_S,
            body_timeout=_IDLE_S,
            max_header_size=_HEADER_BYTES,
            max_body_size=_BODY_BYTES,
        )

    async def handle_stream(self, stream: IOStream, address: tuple[str, int]) -> None:  # type: ignore[override]
        self._meet(stream)
        try:
            async with asyncio.timeout(LOGIN_S):
                await stream.wait_for_handshake()  # type: ignore[attr-defined]  # it is an SSLIOStream
        except (OSError, TimeoutError, StreamClosedError):
            stream.close()
            return
        if stream.socket.selected_alpn_protocol() == "http/1.1":  # type: ignore[attr-defined]  # it is an SSLSocket
            super().handle_stream(stream, address)
            return
        try:
            await self._serve_redis(stream)
        except (OSError, StreamClosedError):
            pass
        finally:
            stream.close()

    # -- Redis ---------------------------------------------------------------------------------------------------------

    async def _serve_redis(self, stream: IOStream) -> None:
        """Forward a connection to the home's server after its login. Raises OSError or StreamClosedError at its end."""
        login, rest = await _first_command(stream)
        if login is None:
            await self._say(stream, _NO_LOGIN)
            return
        user, password = login[1].decode(), login[2].decode()
        member = self.members.read().member(user, password)
        if member is None:
            await self._say(stream, _REFUSED)
            return
        self.strangers.pop(stream, None)
        if self.connected[user] >= CONNECTIONS[member.role]:
            await self._say(stream, _TOO_MANY)
            return
        self.connected[user] += 1
        try:
            await self._forward(stream, member, password, rest)
        finally:
            self.connected[user] -= 1

    async def _forward(self, stream: IOStream, member: Member, password: str, rest: bytes) -> None:
        try:
            reader, writer = await self._log_in(member, password)
        except (OSError, ServerReply, JobkitError) as error:
            say(f"the server does not take {member.name} in: {error}")
            await self._say(stream, _AWAY)
            return
        try:
            await stream.write(b"+OK\r\n")
            writer.write(rest)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(partial(stream.read_bytes, _CHUNK, partial=True), writer))
                both.create_task(_pump_back(reader, stream))
        except* (OSError, StreamClosedError):
            pass
        finally:
            writer.close()

    async def _log_in(self, member: Member, password: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection to the home's server that has the rights of this member and no others.

        Raises OSError or JobkitError if the server does not answer, or refuses.
        """
        reader, writer = await asyncio.open_unix_connection(str(self.home.socket), limit=_CHUNK)
        try:
            rules = ("reset", "on", f"#{member.password}", *rights_of(member.role, member.namespace))
            await _ask(reader, writer, "ACL", "SETUSER", member.user, *rules)
            await _ask(reader, writer, self.home.login_command(), member.user, password)
            if self.members.read().member(member.user, password) is None:  # it was revoked meanwhile
                ask(str(self.home.socket), "ACL", "DELUSER", member.user)
                raise JobkitError("it was revoked")
        except BaseException:
            writer.close()
            raise
        return reader, writer

    @staticmethod
    async def _say(stream: IOStream, line: bytes) -> None:
        await stream.write(line)
        stream.close()

    # -- connections that have not logged in ---------------------------------------------------------------------------

    def _meet(self, stream: IOStream) -> None:
        """Count a new connection; if there are too many, close the oldest of those that have not logged in."""
        self.strangers[stream] = None
        if len(self.strangers) > STRANGERS:
            self.strangers = {each: None for each in self.strangers if not each.closed()}
        while len(self.strangers) > STRANGERS:
            oldest = next(iter(self.strangers))
            del self.strangers[oldest]
            oldest.close()

    def admit(self, connection: Any) -> None:
        """Count a connection of HTTP no longer among those that have not logged in."""
        self.strangers.pop(getattr(connection, "stream", None), None)  # type: ignore[arg-type]


async def _first_command(stream: IOStream) -> tuple[re.Match[bytes] | None, bytes]:
    """Return the login, and the bytes behind it; None if a connection begins with another command, or is silent."""
    head = b""
    try:
        async with asyncio.timeout(LOGIN_S):
            while len(head) < _LOGIN_BYTES:
                head += await stream.read_bytes(_LOGIN_BYTES, partial=True)
                if login := _LOGIN.match(head):
                    return login, head[login.end() :]
                if not _LOGIN_START.startswith(head[: len(_LOGIN_START)]) or head.count(b"\r\n") >= _LOGIN_LINES:
                    break
    except TimeoutError:
        pass
    return None, b""


async def _pump(read: Callable[[], Awaitable[bytes]], writer: asyncio.StreamWriter) -> None:
    """Forward what a member sends. Ends by StreamClosedError."""
    while True:
        writer.write(await read())
        await writer.drain()


async def _pump_back(reader: asyncio.StreamReader, stream: IOStream) -> None:
    """Forward what the server sends. Raises ConnectionError at its end."""
    while data := await reader.read(_CHUNK):
        await stream.write(data)
    raise ConnectionResetError("the server closed the connection")


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *command: str) -> None:
    """Send a command whose reply is one line. Raises JobkitError if that is an error."""
    writer.write(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub means one word
    async with asyncio.timeout(LOGIN_S):
        reply = await reader.readline()
    if not reply.startswith(b"+OK"):
        raise JobkitError(f"the server answered {reply[:100]!r}")


# -- the process -------------------------------------------------------------------------------------------------------


def status_file(home: Home) -> Path:
    """Return the path of the gateway's status."""
    return folder_in(home) / "gateway.json"


def read_status(home: Home) -> dict[str, Any]:
    """Return the last status of the gateway: `state` ("ready", "failed"), `error`, `stamp`, `pid`; {} without one."""
    try:
        return dict(json.loads(status_file(home).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def bind(host: str, port: int, patience_s: float = 0.0) -> socket.socket:
    """Return a listening socket. Raises JobkitError if the address is not of this machine, or the port is taken."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listening = socket.create_server(address[:2], family=family, backlog=256)
        except OSError as error:
            if time.monotonic() >= deadline:
                raise JobkitError(why_not(error, host, port)) from None
        else:
            _notice_vanished(listening)
            return listening
        time.sleep(0.1)


def _notice_vanished(listening: socket.socket) -> None:
    """Let the kernel close connections whose other machine has vanished, as a laptop does; accepted ones inherit it."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def why_not(error: OSError, host: str, port: int) -> str:
    """Return the sentence for an address that cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use by another program: give another with --port"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{host} is not an address of this machine now: give another with --host"
    return f"{address_of(host, port)} cannot be listened on: {error.strerror or error}"


async def _run(home: Home, stamp: str) -> None:
    shared = Members(home).read()
    listening = bind(shared.host, shared.port, _BIND_S)
    listening.setblocking(False)
    gateway = Gateway(home, server_tls(own_certificate(folder_in(home), shared.host)))
    gateway.add_sockets([listening])
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    _write_status(home, stamp, state="ready")
    say(f"listening on {address_of(shared.host, shared.port)}")
    await ended.wait()
    gateway.stop()


def _write_status(home: Home, stamp: str, **status: str) -> None:
    with suppress(OSError):
        write_private(status_file(home), json.dumps({"stamp": stamp, "pid": os.getpid(), **status}))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program until SIGTERM."""
    parser = argparse.ArgumentParser(prog="jobkit.features.sharing.gateway")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--stamp", default="")
    options = parser.parse_args(argv)
    os.umask(0o077)
    home = Home.open(options.home)
    raise_file_limit()
    try:
        asyncio.run(_run(home, options.stamp))
    except (JobkitError, OSError) as error:
        say(f"error: {error}")
        _write_status(home, options.stamp, state="failed", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
