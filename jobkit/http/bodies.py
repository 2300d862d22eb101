"""Bodies that are too large, on Tornado: the refusal goes out at once, and the rest is read and dropped.

Otherwise Tornado closes the connection with data unread, and a client that sends all of its body before it reads, as
most do, sees a reset connection instead of the refusal.
"""

from __future__ import annotations

from typing import Any

from tornado.web import RequestHandler

from jobkit.http.messages import DRAINED_BYTES


def read_all_of(handler: RequestHandler) -> None:
    """Let the handler, which reads its body in parts, bound it by itself. Called before the body is read."""
    connection: Any = handler.request.connection
    connection.set_max_body_size(DRAINED_BYTES)


async def send_early(handler: RequestHandler, body: bytes) -> None:
    """Send the response before the end of the request's body; the handler's method then calls `finish`."""
    handler.request.headers.pop("Expect", None)  # or Tornado would send "100 Continue" after the response
    handler.set_header("Connection", "close")
    if body:
        handler.set_header("Content-Length", str(len(body)))
        handler.write(body)
    await handler.flush()
