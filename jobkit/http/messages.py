"""Requests, responses and routes as plain data, so that one implementation serves Tornado, ASGI and tests.

The adapters in `tornado_app` and `asgi` turn their server's requests into a `Request`, and write the `Response` that
`Api.handle` returns. msgspec checks queries and bodies by the types of `api.shapes`.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

import msgspec

from jobkit.access.own_machine import ClientConnection, ServerConfig
from jobkit.access.people import LoginState
from jobkit.settings import Settings

JSON = "application/json"
PROBLEM = "application/problem+json"
EVENT_STREAM = "text/event-stream"
FORM = "application/x-www-form-urlencoded"
TEXT = "text/plain; charset=utf-8"

#: How much of a body that is too large is read (bytes) before the connection is closed after all.
DRAINED_BYTES = 256 * 2**20

#: Nesting that a body may have.
MAX_DEPTH = 32

#: Other names of `last_event_id` in a query, of older clients and polyfills.
OLD_CURSORS = ("lastEventID", "lastEventId", "Last-Event-ID")

#: JSON schema of any text in a path.
ANY = {"type": "string", "minLength": 1}

#: Answers a `core.handling.ApiCall`, which is built on this module: with a `Response`, or a value for its JSON.
Handler = Callable[[Any], Awaitable[Any]]

#: Return compact JSON: numbers that are not finite as null, bytes as base64, unknown types as their text.
to_json = msgspec.json.Encoder(enc_hook=str).encode


@dataclass(frozen=True, slots=True)
class Request:
    method: str  #: upper case
    path: str  #: as it came, still percent-encoded, from the API's root on: "/api/jobs"
    headers: Mapping[str, str] = field(default_factory=dict)  #: by lower-case name; equal ones are joined by ", "
    query: str = ""  #: as it came, without "?"
    body: bytes = b""  #: all of it
    peer: str = ""  #: the other end's address, or ""
    connection: ClientConnection = field(default_factory=ClientConnection)  #: its ends, as the system reports them
    server: ServerConfig = field(default_factory=ServerConfig)  #: what the web server knows about itself
    scheme: str = "http"
    prefix: str = ""  #: part of the URL's path before the API's root, without a slash at the end
    is_too_large: bool = False  #: the body is larger than the limit, so it was not read
    #: Makes the state of the web server's login (the dashboard's cookie); None if no user is logged in.
    login: Callable[[Settings], LoginState] | None = None
    login_is_forged: bool = False  #: it changes something, with that cookie but without the XSRF token

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def accepts(self, media_type: str) -> bool:
        """Return whether `Accept` names this type itself (not by a wildcard)."""
        parts = self.headers.get("accept", "").lower().split(",")
        return media_type in [part.partition(";")[0].strip() for part in parts]

    def arguments(self) -> list[tuple[str, str]]:
        """Return the query's names and values, in order. Raises Problem, see `form`."""
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
    """A response. With a `stream` (see `core.streams`), `body` is empty and the parts are sent as they come."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stream: Any = None


class RefusalJson(msgspec.Struct, omit_defaults=True):
    """Problem details (RFC 9457). `id` is that of a job which may have been accepted."""

    type: str
    title: str
    status: int
    detail: str
    error: str
    field: str | None
    message: str
    id: str | None = None


@dataclass(eq=False)
class Problem(Exception):
    """A refusal: problem details (RFC 9457), with the contract's `error`, `field` and `message` besides."""

    status: int
    error: str  #: a word for programs, like "invalid_params"
    message: str  #: one sentence for people
    field: str | None = None  #: the parameter or field of the body at fault
    headers: Mapping[str, str] | None = None  #: further headers of the response
    id: str | None = None  #: of a job that may have been accepted

    def __str__(self) -> str:
        return self.message

    def response(self) -> Response:
        type, title = f"urn:jobkit:problem:{self.error}", HTTPStatus(self.status).phrase
        body = RefusalJson(type, title, self.status, self.message, self.error, self.field, self.message, self.id)
        headers = {"Content-Type": PROBLEM, "Cache-Control": "no-store", **(self.headers or {})}
        return Response(self.status, to_json(body), headers)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, to_json(value), {"Content-Type": JSON, **(headers or {})})


def printable(text: str) -> str:
    """Return a caller's text for a message: at most 200 characters, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:200])


async def send_all(stream: Any, send: Callable[[bytes], Awaitable[Any]], gone: Awaitable[Any], slow_s: float) -> bool:
    """Send the parts of a stream, each when the one before is taken, and close it.

    Returns False if the client went (`gone` ended) or took nothing for `slow_s` seconds; it is then to be disconnected.
    """
    leaving = asyncio.ensure_future(gone)
    part: asyncio.Future[bytes | None] | None = None
    try:
        while True:
            part = asyncio.ensure_future(anext(stream, None))
            await asyncio.wait({part, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not part.done():
                return False
            if (data := part.result()) is None:
                return True
            async with asyncio.timeout(slow_s):
                await send(data)
    except (TimeoutError, OSError):
        return False
    finally:
        leaving.cancel()
        if part is not None:  # a stream cannot be closed while it makes a part
            part.cancel()
            await asyncio.wait({part})
        await stream.aclose()


# -- routes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One entry of the API: `GET` of `/api/jobs/{id}`, for instance."""

    method: str
    path: str
    handler: Handler
    answers: tuple[type | str | None, ...]  #: types of the JSON of a success, or its media types; None for any JSON
    status: int = 200  #: of a success
    scope: str = ""  #: that a token needs; "" for none
    query: type | None = None  #: type that checks it; None if there is none
    body: type | None = None
    body_is_optional: bool = False
    others: tuple[int, ...] = ()  #: statuses of its other responses, if they do not follow from what else is here
    asks_itself: bool = False  #: the handler identifies the caller itself
    on: str = "job"  #: object of the action, for the audit trail
    about: Literal["", "all", "owners"] = ""  #: jobs that it concerns; "" if it checks what it returns
    tag: str = ""  #: its heading in the document, if that does not follow from the path
    rel: str = ""  #: relation of a job to it, for the header `Link` of answers about jobs
    exposes: tuple[str, ...] = ()  #: headers of its answers that pages of other sites read, beside the usual ones
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  #: of parameters in the path, if not names

    @property
    def summary(self) -> str:
        """One line for the document: the first of the handler's docstring."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parameters of a path, or None if it is not of this route. Raises Problem: 400, it is not UTF-8."""
        found = _pattern_of(self.path).fullmatch(path)  # before decoding: `%2F` stays inside its part
        if found is None:
            return None
        try:
            return {name: unquote(part, errors="strict") for name, part in found.groupdict().items()}
        except UnicodeDecodeError:
            raise Problem(400, "invalid_request", "the path is not UTF-8", "path") from None


@cache
def _pattern_of(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))


def find_route(routes: Sequence[Route], request: Request) -> tuple[Route, dict[str, str]]:
    """Return a request's route and the parameters of its path. Raises Problem: 404, 405, or 400 (not UTF-8)."""
    wanted = "GET" if request.method == "HEAD" else request.method
    for route in routes:
        if route.method == wanted and (found := route.match(request.path)) is not None:
            return route, found
    allow = ", ".join(methods_of(routes, request.path))
    message = f"{printable(request.method)} is not possible here; allowed are {allow}"
    raise Problem(405, "method_not_allowed", message, headers={"Allow": allow})


def methods_of(routes: Sequence[Route], path: str) -> list[str]:
    """Return the methods of a path, for `Allow`: those of its routes, and OPTIONS. Raises Problem: 404."""
    found = {route.method for route in routes if route.match(path) is not None}
    if not found:
        raise Problem(404, "not_found", f"there is nothing at {printable(path)}")
    return sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set()))


# -- queries, forms and bodies -----------------------------------------------------------------------------------------


def form(raw: bytes) -> list[tuple[str, str]]:
    """Return names and values of a query or a form, in order. Raises Problem: not UTF-8, or more than 1000 fields."""
    try:
        return parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=1000)
    except UnicodeDecodeError:
        raise Problem(400, "invalid_request", "names and values must be UTF-8") from None
    except ValueError:
        raise Problem(413, "too_large", "there are more than 1000 fields") from None


def form_body(request: Request, what: str) -> list[tuple[str, str]]:
    """Return `form` of a body. Raises Problem (415) if it has another media type: `what` is sent as a form."""
    if request.media_type != FORM:
        raise Problem(415, "unsupported_media_type", f"{what} is sent as Content-Type: {FORM}", "body")
    return form(request.body)


def read_query(request: Request, kind: type | None) -> Any:
    """Return the query as `kind`. Raises Problem: 400 a name twice, 422 an unknown name or a value not allowed."""
    pairs = request.arguments()
    if kind is None:
        return None
    fields = {each.encode_name: str(each.type) for each in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name == "authorization" or name in OLD_CURSORS:
            continue
        if "list[" in fields.get(name, ""):
            values.setdefault(name, []).append(value)
        elif name in values:
            raise Problem(400, "invalid_request", f"{printable(name)} is given twice", printable(name))
        else:
            values[name] = value
    if "last_event_id" in fields and not values.get("last_event_id"):
        values["last_event_id"] = next((value for name, value in pairs if name in OLD_CURSORS), "")
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


def read_body(request: Request, kind: type | None, is_optional: bool) -> Any:
    """Return the body as `kind`. Raises Problem: 400 not JSON, 415 another media type, 422 a field is not right."""
    if kind is None:
        return None
    if is_optional and not request.body and request.media_type in ("", JSON):
        return kind()
    is_form = request.media_type == FORM and takes_form(kind)
    if request.media_type != JSON and not is_form:
        allowed = f"{JSON} or {FORM}" if takes_form(kind) else JSON
        raise Problem(415, "unsupported_media_type", f"the body must be sent as Content-Type: {allowed}", "body")
    try:
        plain = _of_form(form(request.body), kind) if is_form else _with_whole(msgspec.json.decode(request.body), kind)
        if _is_deeper(plain, MAX_DEPTH):
            raise RecursionError
        return msgspec.convert(plain, kind, strict=not is_form)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except RecursionError:
        raise Problem(422, "too_deep", f"the body is nested deeper than {MAX_DEPTH} levels", "body") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid_json", f"the body is not JSON: {printable(str(error))}", "body") from None


def takes_form(kind: type) -> bool:
    """Return whether a body of this type may be a form: it has `params`, to which all further fields belong."""
    return "params" in kind.__struct_fields__  # type: ignore[attr-defined]  # a msgspec.Struct


def _of_form(pairs: Sequence[tuple[str, str]], kind: type) -> dict[str, Any]:
    """Return the plain data in a form. An empty field counts as not given; `params.queue` is always an argument."""
    types = {each.encode_name: str(each.type) for each in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {"params": {}}
    for name, value in pairs:
        if not value or name == "_xsrf":  # the token of a login, see the adapter
            continue
        if "list[" in types.get(name, ""):
            values.setdefault(name, []).append(value)
            continue
        is_field = name in types and name != "params"
        place, name = (values, name) if is_field else (values["params"], name.removeprefix("params."))
        if name in place:
            raise Problem(400, "invalid_request", f"{printable(name)} is given twice", printable(name))
        place[name] = value
    return values


def _with_whole(plain: Any, kind: type) -> Any:
    """Return the data of a body with 3.0 as 3 in fields for whole numbers: JSON does not tell them apart."""
    if isinstance(plain, dict):
        for each in msgspec.structs.fields(kind):
            value = plain.get(each.encode_name)
            if isinstance(value, float) and value.is_integer() and "float" not in str(each.type):
                plain[each.encode_name] = int(value)
    return plain


def _is_deeper(value: Any, limit: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    return limit == 0 or any(
        _is_deeper(each, limit - 1) for each in (value.values() if isinstance(value, dict) else value)
    )


_AT = re.compile(r" - at `(?:key in )?\$?\.?(.*)`$")
_TYPES = re.compile(r"`([^`]*)`")

#: msgspec's types in plain words.
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "datetime": "a moment (ISO 8601)",
}


def _invalid(error: msgspec.ValidationError) -> Problem:
    """Return a validation error of msgspec as a sentence that begins with the field."""
    text = str(error)
    at = _AT.search(text)
    message, name = (text[: at.start()], printable(at[1])) if at else (text, "")
    if missing := re.search(r"missing required field `([^`]*)`", message):
        name = f"{name}.{missing[1]}".strip(".")
        sentence = f"{name} is missing"
    elif unknown := re.search(r"unknown field `([^`]*)`", message):
        name = printable(f"{name}.{unknown[1]}".strip("."))
        sentence = f"there is no field {name!r} here"
    else:
        told = printable(_TYPES.sub(lambda match: _WORDS.get(match[1], match[1]), message).replace(", got ", ", not "))
        is_wish = told.startswith("Expected ")
        sentence = f"{name or 'it'} must be {told[9:]}" if is_wish else f"{name}: {told}".strip(": ")
    return Problem(422, "invalid_params", sentence, name or None)
