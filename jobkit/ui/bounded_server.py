"""`BoundedServer`: Tornado's server of pages, with a sentence for requests that are refused before a handler gets them.

Tornado itself closes the connection when a body is too large, with the rest of it unread. A client that sends all of it
before it reads, as most do, then sees a reset connection. Here it gets the response at once, and the rest is dropped.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine

#: How much of a refused body is read (bytes) before the connection is closed after all.
DRAINED_BYTES = 256 * 2**20


class BoundedServer(HTTPServer):
    """Server whose requests have bodies of at most `max_body_size` bytes, and no path with a NUL."""

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        most = self.conn_params.max_body_size
        body_bytes = request_conn.stream.max_buffer_size if most is None else most  # as Tornado does
        return _BodyGuard(super().start_request(server_conn, request_conn), request_conn, body_bytes)


class _BodyGuard(HTTPMessageDelegate):
    """Passes a request on to its handler, or refuses it. A handler that reads its body in parts bounds it itself."""

    def __init__(self, handler: Any, connection: Any, body_bytes: int) -> None:
        self._handler, self._connection, self._body_bytes = handler, connection, body_bytes
        self._is_refused = self._is_streamed = False
        self._received = 0

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> Any:
        if "\0" in unquote(start_line.path.partition("?")[0]):
            self._headers = headers
            return self._refuse(start_line, 400, "No path has a NUL.")
        begun = self._handler.headers_received(start_line, headers)
        self._is_streamed = _is_streamed(self._handler)
        if not self._is_streamed:
            self._start_line, self._headers = start_line, headers
            length = headers.get("Content-Length", "0")
            if length.isdecimal() and int(length) > self._body_bytes:
                return self._refuse_body()
            self._connection.set_max_body_size(max(DRAINED_BYTES, self._body_bytes))
        return begun

    def data_received(self, chunk: bytes) -> Any:
        self._received += len(chunk)
        if not self._is_refused and not self._is_streamed and self._received > self._body_bytes:
            return self._refuse_body()
        return None if self._is_refused else self._handler.data_received(chunk)

    def finish(self) -> None:
        if self._is_refused:
            self._connection.finish()
            self._connection.close()
        else:
            self._handler.finish()

    def on_connection_close(self) -> None:
        self._handler.on_connection_close()

    def _refuse_body(self) -> Any:
        return self._refuse(self._start_line, 413, f"The body is larger than {self._body_bytes:,} bytes.")

    def _refuse(self, start_line: RequestStartLine, status: int, sentence: str) -> Any:
        self._is_refused = True
        self._headers.pop("Expect", None)  # or Tornado would send "100 Continue" after the response
        self._connection.set_max_body_size(DRAINED_BYTES)
        body = f"{sentence}\n".encode()
        headers = HTTPHeaders(
            {
                "Content-Type": "text/plain; charset=utf-8",
                "Content-Length": str(len(body)),
                "Connection": "close",
                "X-Content-Type-Options": "nosniff",
            }
        )
        line = ResponseStartLine("HTTP/1.1", status, HTTPStatus(status).phrase)
        return self._connection.write_headers(line, headers, b"" if start_line.method == "HEAD" else body)


def _is_streamed(handler: Any) -> bool:
    """Return True if the handler of a request reads its body in parts. Adapters, as that for a proxy, are around it."""
    while handler is not None and not hasattr(handler, "stream_request_body"):
        handler = getattr(handler, "delegate", None)
    return handler is not None and handler.stream_request_body
