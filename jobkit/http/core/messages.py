"""Requests and responses as plain data, so that one implementation serves Tornado, ASGI and tests.

Nothing here knows a web server: the adapters in `tornado_app` and `asgi` turn their server's requests into a `Request`
and write the `Response` that `Api.handle` gives.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from jobkit.own_machine import ClientConnection, ServerConfig

JSON = "application/json"
PROBLEM = "application/problem+json"
EVENT_STREAM = "text/event-stream"

_json = msgspec.json.Encoder(enc_hook=str, order=None).encode


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: upper case.
        path: as it came, still percent-encoded, from the API's root on: "/api/jobs".
        headers: by lower-case name; of several with one name, their values joined by ", ".
        query: the raw query string, without "?".
        body: all of it.
        peer: the other end's address, or "".
        connection: its two ends, as the system reports them.
        server: what the web server knows about itself.
        scheme: "http" or "https".
        prefix: the part of the URL's path before the API's root, without a slash at the end.
        login: name of the user that the web server has logged in (the dashboard's cookie), or "".
        login_id: id of that login, for `people.has_ended`, or "".
        login_is_listed: users who may log in are listed by name (a login file), not so with OAuth.
        login_claims: claims of an OAuth provider about that user.
        login_is_forged: a request that changes something came with that cookie but without the XSRF token.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    body: bytes = b""
    peer: str = ""
    connection: ClientConnection = field(default_factory=ClientConnection)
    server: ServerConfig = field(default_factory=ServerConfig)
    scheme: str = "http"
    prefix: str = ""
    login: str = ""
    login_id: str = ""
    login_is_listed: bool = False
    login_claims: Mapping[str, Any] = field(default_factory=dict)
    login_is_forged: bool = False

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    @property
    def media_type(self) -> str:
        """Media type of the body, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def accepts(self, media_type: str) -> bool:
        """Return whether `Accept` names this type itself (not by a wildcard)."""
        parts = self.headers.get("accept", "").lower().split(",")
        return media_type in [part.partition(";")[0].strip() for part in parts]

    def arguments(self) -> list[tuple[str, str]]:
        """Return the query's names and values, in order.

        Raises:
            Problem: it is not UTF-8, or has more than 1000 fields.
        """
        return form(self.query.encode("latin-1", "replace"))

    def cookies(self) -> dict[str, str]:
        """Return the cookies; empty if the header is malformed."""
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(self.headers.get("cookie", ""))
        except CookieError:
            return {}
        return {name: morsel.value for name, morsel in jar.items()}


@dataclass(slots=True)
class Response:
    """A response. With a `stream`, `body` is empty and the parts are sent as they come."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None


class Problem(Exception):
    """A refusal: problem details (RFC 9457), with the contract's `error`, `field` and `message` besides.

    Args:
        status: HTTP status.
        error: a word for programs, like "invalid_params".
        message: one sentence for people.
        field: the parameter or field of the body at fault, or None.
        headers: further headers of the response.
        more: further members of its body.
    """

    def __init__(
        self,
        status: int,
        error: str,
        message: str,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.error, self.message, self.field = status, error, message, field
        self.headers = dict(headers or {})
        self.more = more

    def response(self) -> Response:
        body = {
            "type": f"urn:jobkit:problem:{self.error}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.message,
            "error": self.error,
            "field": self.field,
            "message": self.message,
            **self.more,
        }
        headers = {"Content-Type": PROBLEM, "Cache-Control": "no-store", **self.headers}
        return Response(self.status, to_json(body), headers)


def to_json(value: Any) -> bytes:
    """Return compact JSON: numbers that are not finite as null, bytes as base64, unknown types as their text."""
    return _json(value)


def json_response(value: Any, status: int = 200, **headers: str) -> Response:
    """Return `value` as JSON. Header names are written with underscores."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(status, to_json(value), {"Content-Type": JSON, **named})


def form(raw: bytes) -> list[tuple[str, str]]:
    """Return names and values of a query or an `application/x-www-form-urlencoded` body, in order.

    Raises:
        Problem: it is not UTF-8, or has more than 1000 fields.
    """
    try:
        text = raw.decode("ascii") if raw.isascii() else raw.decode("utf-8")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except UnicodeDecodeError:
        raise Problem(400, "invalid_request", "names and values must be UTF-8") from None
    except ValueError:
        raise Problem(413, "too_large", "there are more than 1000 fields") from None


def printable(text: str, limit: int = 200) -> str:
    """Return a caller's text for a message: cut to `limit`, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])


class ClientGone(Exception):
    """The client disconnected before the stream ended."""


async def parts_until(stream: Any, gone: asyncio.Future[Any]) -> AsyncIterator[bytes]:
    """Yield the parts of a streamed response while its client is connected.

    Raises:
        ClientGone: `gone` was done while the next part was awaited, which was cancelled.
    """
    while True:
        part = asyncio.ensure_future(anext(stream, None))
        await asyncio.wait({part, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not part.done():
            part.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await part
            raise ClientGone
        data = part.result()
        if data is None:
            return
        yield data
