"""The API as an ASGI app, for Starlette, FastAPI, uvicorn: `app.mount("/jobs", jobkit.http.asgi_app())`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from jobkit.access.own_machine import ClientConnection
from jobkit.http.core.handling import Api
from jobkit.http.messages import DRAINED_BYTES, Request, Response, send_all

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AsgiApp:
    """See the module's docstring. Serves HTTP only, and ignores lifespan events."""

    def __init__(self, api: Api) -> None:
        self.api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._body(scope, receive)
        request = _request(scope, body)
        if "authorization" in request.query:  # it has a token, which the server would write into its access log
            scope["query_string"] = b""
        response = await self.api.handle(request)
        await send({"type": "http.response.start", "status": response.status, "headers": _headers(response)})
        if response.stream is None:
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})
            return

        async def send_part(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        if await send_all(response.stream, send_part, _disconnected(receive), self.api.limits.slow_s):
            await send({"type": "http.response.body", "body": b""})
        # else the server disconnects a client whose response did not end

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the whole body, or None if it is too large.

        Such a body is read, too: a client that sends all of it first would not see the response. A client that asks
        before it sends is refused at once.
        """
        body, received, most = bytearray(), 0, self.api.limits.body_bytes
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if b"expect" in headers and length.isdigit() and int(length) > most:
            return None
        while True:
            message = await receive()
            part = message.get("body", b"")
            received += len(part)
            if received <= most:
                body += part
            if message["type"] == "http.disconnect" or not message.get("more_body") or received > DRAINED_BYTES:
                return bytes(body) if received <= most else None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _headers(response: Response) -> list[tuple[bytes, bytes]]:
    headers = {name.lower(): value for name, value in response.headers.items()}
    headers.pop("connection", None)
    if response.stream is None and response.status not in (204, 304):
        headers["content-length"] = str(len(response.body))
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]


def _request(scope: Scope, body: bytes | None) -> Request:
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        headers[name] = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{text}" if name in headers else text
    raw_path = scope.get("raw_path")
    whole = raw_path.decode("latin-1").partition("?")[0] if raw_path else scope["path"]
    prefix = scope.get("root_path", "").rstrip("/")
    path = whole.removeprefix(prefix) if whole.startswith(f"{prefix}/") else whole
    client, server = (tuple(end) if end and end[1] else None for end in (scope.get("client"), scope.get("server")))
    return Request(
        method=scope["method"],
        path=path,
        headers=headers,
        query=scope.get("query_string", b"").decode("latin-1"),
        body=body or b"",
        is_too_large=body is None,
        peer=str(scope["client"][0]) if scope.get("client") else "",
        connection=ClientConnection(client, server),
        scheme=scope.get("scheme", "http"),
        prefix=prefix,
    )
