"""Windows of the dashboard without a browser: websocket clients that say hello as a window does, and note what arrives.

They cost next to nothing, since the windows of a team do not run on the server's machine.
"""

from __future__ import annotations

import base64
import json
import os
import re
import selectors
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

#: Components that say hello; Bokeh numbers the data models of each class.
_LIVE = re.compile(r"(JobCard|DrawerCard|JobTable|WorkersPage|FailuresPage|TimelineHead)\d*")

_STAMP = re.compile(rb"@([0-9.]+)@")


class Session:
    """One window at `url`, open and greeted when the constructor returns.

    Attributes:
        size: bytes that came after the greeting.
        arrived: stamp of a report (`@...@` in a message) to the moment when its bytes came, seconds since the epoch.
    """

    def __init__(self, url: str) -> None:
        self.size = 0
        self.arrived: dict[str, float] = {}
        with urllib.request.urlopen(url, timeout=60) as answer:
            token = re.search(r'"token":\s*"([^"]+)"', answer.read().decode())
        assert token is not None, "no session token on the page"
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._rest_of_stamp = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {parts.path}/ws?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: bokeh, {token[1]}\r\nOrigin: http://{parts.netloc}\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._rest:
            self._rest += self.socket.recv(65536)
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0], head.decode()
        self._frames = self._read()
        self._message("ACK")
        self._send("PULL-DOC-REQ", {})
        document = self._message("PULL-DOC-REPLY")
        ready = {"type": "event", "name": "document_ready", "values": {"type": "map"}}
        requests: list[dict[str, Any]] = [{"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": ready}]
        for model in _live_models(document):
            hello = json.dumps({"action": "hello"})
            requests.append({"kind": "ModelChanged", "model": {"id": model}, "attr": "request", "new": hello})
        for n, event in enumerate(requests):
            self._send("PATCH-DOC", {"events": [event]}, n)
        for _ in requests:
            self._message("OK")
        self.socket.setblocking(False)

    def drain(self) -> bool:
        """Take what has come; False where the server has closed."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return True
        now = time.time()
        self.size += len(data)
        data = self._rest_of_stamp + data
        for found in _STAMP.finditer(data):
            self.arrived.setdefault(found[1].decode(), now)
        self._rest_of_stamp = data[-40:]
        return bool(data)

    def _read(self) -> Iterator[bytes]:
        """The payloads of the server's frames; none of them is split or masked."""

        def take(n: int) -> bytes:
            while len(self._rest) < n:
                more = self.socket.recv(1 << 20)
                assert more, "the server closed the session"
                self._rest += more
            taken, self._rest = self._rest[:n], self._rest[n:]
            return taken

        while True:
            opcode, length = take(2)
            if length > 125:
                length = int.from_bytes(take(2 if length == 126 else 8), "big")
            payload = take(length)
            if opcode & 0x0F in (1, 2):
                yield payload

    def _message(self, kind: str) -> Any:
        """The content of the next message of a kind; the ones before it are left out."""
        while True:
            header = json.loads(next(self._frames))
            next(self._frames)
            content = json.loads(next(self._frames))
            for _ in range(2 * header.get("num_buffers", 0)):
                next(self._frames)
            if header["msgtype"] == kind:
                return content

    def _send(self, kind: str, content: Any, n: int = 0) -> None:
        out = b""
        for fragment in ({"msgid": f"b{n}", "msgtype": kind}, {}, content):
            payload = json.dumps(fragment).encode()
            size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
            out += b"\x81" + size + b"\0\0\0\0" + payload  # a mask of zeros is one
        self.socket.sendall(out)


class Sessions:
    """`n` sessions and the thread that drains them; ends with the block."""

    def __init__(self, url: str, n: int) -> None:
        self.all = [Session(url) for _ in range(n)]
        self._selector = selectors.DefaultSelector()
        for session in self.all:
            self._selector.register(session.socket, selectors.EVENT_READ, session)
        self._is_over = False
        self._thread = threading.Thread(target=self._drain, name="sessions")

    def __enter__(self) -> Sessions:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        for session in self.all:
            session.socket.close()
        self._selector.close()

    def _drain(self) -> None:
        while not self._is_over:
            for key, _ in self._selector.select(0.1):
                if not key.data.drain():
                    self._selector.unregister(key.fileobj)


def _live_models(document: Any) -> list[str]:
    """Ids of the data models of the live components."""
    found: list[str] = []

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("type") == "object" and _LIVE.fullmatch(str(value.get("name"))):
                found.append(value["id"])
            for each in value.values():
                visit(each)
        elif isinstance(value, list):
            for each in value:
                visit(each)

    visit(document)
    return found
