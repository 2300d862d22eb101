"""The API as an ASGI app, for Starlette, FastAPI, uvicorn: `app.mount("/jobs", jobkit.http.asgi_app())`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from jobkit.http.core.handling import Api, too_large
from jobkit.http.core.messages import ClientGone, Request, Response, parts_until
from jobkit.own_machine import ClientConnection

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
        request = _request(scope, body or b"")
        if "authorization" in request.query:  # it has a token, which the server would write into its access log
            scope["query_string"] = b""
        if body is None:
            response = self.api._finish(request, too_large(self.api.limits.body_bytes).response())
        else:
            response = await self.api.handle(request)
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": [
                    (n.lower().encode("latin-1"), v.encode("latin-1", "replace")) for n, v in _headers(response)
                ],
            }
        )
        if response.stream is None or scope["method"] == "HEAD":
            if response.stream is not None:
                await response.stream.aclose()  # type: ignore[attr-defined]
            shown = b"" if scope["method"] == "HEAD" else response.body
            await send({"type": "http.response.body", "body": shown})
            return
        await self._pump(response, receive, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the whole body, or None if it is too large."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            size += len(message.get("body", b""))
            if size > self.api.limits.body_bytes:
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        return b"".join(parts)

    async def _pump(self, response: Response, receive: Receive, send: Send) -> None:
        stream: Any = response.stream
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            async for data in parts_until(stream, gone):
                async with asyncio.timeout(self.api.limits.slow_s):
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (ClientGone, TimeoutError, OSError):
            pass  # the server disconnects a client whose response did not end
        finally:
            gone.cancel()
            await stream.aclose()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _headers(response: Response) -> list[tuple[str, str]]:
    headers = list(response.headers.items())
    if response.stream is None and response.status not in (204, 304):
        headers.append(("Content-Length", str(len(response.body))))
    return [(name, value) for name, value in headers if name.lower() != "connection"]


def _request(scope: Scope, body: bytes) -> Request:
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
        body=body,
        peer=str(scope["client"][0]) if scope.get("client") else "",
        connection=ClientConnection(client, server),
        scheme=scope.get("scheme", "http"),
        prefix=prefix,
    )
