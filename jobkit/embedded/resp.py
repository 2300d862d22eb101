"""Minimal blocking Redis client over a unix socket, for starting and stopping the embedded server.

redis-py would do, but importing it takes 0.2 s, more than everything else in a supervisor's start.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import BinaryIO

from jobkit.model import JobkitError
from jobkit.own_machine import unix_peer_uid

Reply = str | int | None | list["Reply"]


class ServerReply(JobkitError):
    """The server replied with an error (`LOADING ...`, `NOAUTH ...`)."""

    @property
    def serves(self) -> bool:
        """True if reads work: a server that cannot write to its disk rejects even a PING."""
        return str(self).startswith("MISCONF")


def ask(path: str, *command: str, timeout_s: float = 1.0) -> Reply:
    """Return the reply to one command, on a new connection.

    Raises:
        ServerReply: the server replied with an error.
        OSError: no process listens at `path`, or another user's, or the reply was not complete within `timeout_s`.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(path)
        if unix_peer_uid(connection) not in (None, os.geteuid()):
            raise PermissionError(errno.EACCES, "another user listens here", path)
        words = [word.encode() for word in command]
        connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words))
        with connection.makefile("rb") as stream:
            return _read(stream)


def answers(path: str, timeout_s: float = 1.0) -> bool:
    """Return True if a server at `path` is ready."""
    try:
        return ask(path, "PING", timeout_s=timeout_s) == "PONG"
    except ServerReply as reply:
        return reply.serves
    except OSError:
        return False


def _read(stream: BinaryIO) -> Reply:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server closed the connection")
    kind, text = line[:1], line[1:-2].decode("utf-8", "replace")
    if kind == b"+":
        return text
    if kind == b"-":
        raise ServerReply(text)
    if kind == b":":
        return int(text)
    if kind == b"$":
        size = int(text)
        if size < 0:
            return None
        body = stream.read(size + 2)
        if len(body) < size + 2:
            raise ConnectionResetError("the server closed the connection")
        return body[:-2].decode("utf-8", "replace")
    if kind == b"*":
        return [_read(stream) for _ in range(int(text))]
    raise ConnectionError(f"not a Redis server: it answered {text[:40]!r}")
