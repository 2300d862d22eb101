"""Bodies that are too large, on Tornado: the refusal goes out at once, and the rest is read and dropped.

Otherwise Tornado closes the connection with data unread, and a client that sends all of its body before it reads, as
most do, sees a reset connection instead of the refusal.
"""

from __future__ import annotations

from typing import Any

from tornado.web import RequestHandler, stream_request_body

from jobkit.http.messages import DRAINED_BYTES


@stream_request_body
class BoundedBody(RequestHandler):
    """Base of handlers that read a body of at most `most_bytes` into `_body`.

    The method of a request whose body `_is_refused` only calls `finish`.
    """

    most_bytes: int

    def __init__(self, *args: Any, **options: Any) -> None:
        self._body, self._is_refused = bytearray(), False
        super().__init__(*args, **options)

    async def prepare(self) -> None:
        """Refuse a body that declares to be too large, before reading it."""
        connection: Any = self.request.connection
        connection.set_max_body_size(DRAINED_BYTES)
        length = self.request.headers.get("Content-Length", "0")
        if length.isdecimal() and int(length) > self.most_bytes:
            await self._refuse()

    async def data_received(self, chunk: bytes) -> None:
        if not self._is_refused:
            self._body += chunk
            if len(self._body) > self.most_bytes:
                await self._refuse()

    async def _refuse(self) -> None:
        """Send the response before the end of the request's body."""
        self._is_refused, self._body = True, bytearray()
        content = await self._refusal()
        self.request.headers.pop("Expect", None)  # or Tornado would send "100 Continue" after the response
        self.set_header("Connection", "close")
        if content:
            self.set_header("Content-Length", str(len(content)))
            self.write(content)
        await self.flush()

    async def _refusal(self) -> bytes:
        """Set status and headers of the response to a body that is too large; return its content."""
        raise NotImplementedError
