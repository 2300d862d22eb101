"""`Link`: one end of a connection between two processes, for messages with descriptors.

Linux keeps messages apart itself (SEQPACKET). Elsewhere each has its length (4 bytes) in front, on a stream.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Sequence

#: Largest message in bytes.
MESSAGE_LIMIT = 65_536
_LENGTH = struct.Struct(">I")


def pair() -> tuple[Link, socket.socket]:
    """Return both ends: ours, non-blocking, and the socket for the other process. Raises OSError."""
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EPROTOTYPE, errno.EOPNOTSUPP):
            raise
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    return Link(ours), theirs


class Link:
    """The owner of one end. Whether a call waits depends on its socket."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._has_packets = end.type == socket.SOCK_SEQPACKET
        self._rest = b""
        self._head, self._body, self._fds = b"", bytearray(), list[int]()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def shutdown(self) -> None:
        """Let the other side know that there is nothing more."""
        with contextlib.suppress(OSError):  # it has
            self._socket.shutdown(socket.SHUT_RDWR)

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message with descriptors; an empty one: the rest of the last one.

        Raises BlockingIOError or another OSError; nothing of it is sent then.
        """
        if self._has_packets:
            socket.send_fds(self._socket, [data], fds)
            return
        while self._rest:
            self._rest = self._rest[self._socket.send(self._rest) :]
        if not data:
            return
        whole = _LENGTH.pack(len(data)) + data
        self._rest = whole[socket.send_fds(self._socket, [whole], fds) :]
        if self._rest and self._socket.getblocking():
            self.send(b"")

    @property
    def is_behind(self) -> bool:
        """Return whether a part of the last message has not been sent yet."""
        return bool(self._rest)

    def receive(self, most_fds: int = 0) -> tuple[bytes, list[int]]:
        """Return the next message with its descriptors; an empty one if the other side has closed.

        Raises BlockingIOError if it has not arrived (a begun one is kept), or another OSError.
        """
        if self._has_packets:
            if not most_fds:
                return self._socket.recv(MESSAGE_LIMIT), []
            data, fds, _, _ = socket.recv_fds(self._socket, MESSAGE_LIMIT, most_fds)
            return data, fds
        while len(self._head) < _LENGTH.size:  # descriptors come with the first byte of their message
            data, fds, _, _ = socket.recv_fds(self._socket, _LENGTH.size - len(self._head), most_fds)
            if not data:
                return b"", []
            self._head += data
            self._fds += fds
        missing = _LENGTH.unpack(self._head)[0] - len(self._body)
        while missing:
            data = self._socket.recv(missing)
            if not data:
                return b"", []
            self._body += data
            missing -= len(data)
        message, fds = bytes(self._body), self._fds
        self._head, self._body, self._fds = b"", bytearray(), []
        return message, fds
