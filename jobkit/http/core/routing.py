"""Routes: which handler a request goes to, and how its query and body are checked."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import msgspec

from jobkit.http.core.messages import JSON, Problem, Request, Response, printable

#: Answers a `core.handling.ApiCall`, which is built on this module.
Handler = Callable[[Any], Awaitable[Response]]

#: Nesting that a body may have.
MAX_DEPTH = 32

_AT = re.compile(r" - at `(?:key in )?\$?\.?(.*)`$")


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One entry of the API.

    Attributes:
        method, path: `"GET"`, `"/api/jobs/{id}"`.
        handler: answers the request.
        scope: scope that a token needs; "" for none.
        answers: status to the type of its JSON, or to a media type.
        query, body: types that check them; None if there is none.
        refusals: status to a few words.
        body_is_optional: the body may be left out.
        tag: heading in the document.
        asks_itself: the handler identifies the caller itself.
        on: object of the action, for the audit trail.
        choices: values that a parameter of the path may have, by its name; any if not given.
    """

    method: str
    path: str
    handler: Handler
    scope: str
    answers: Mapping[int, Any]
    query: type | None = None
    body: type | None = None
    refusals: Mapping[int, str] = field(default_factory=dict)
    body_is_optional: bool = False
    tag: str = "jobs"
    asks_itself: bool = False
    on: str = "job"
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """One line for the document: the first of the handler's docstring."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]


class Router:
    """Finds the route of a request.

    A path is split before it is decoded: `%2F` stays inside its part, and dots have no meaning.
    """

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._parts = [(route, route.path.split("/")) for route in routes]

    def find(self, request: Request) -> tuple[Route, dict[str, str]]:
        """Return the route and the path's parameters.

        Raises:
            Problem: 404, 405, or 400 if the path is not UTF-8.
        """
        parts = request.path.split("/")
        wanted = "GET" if request.method == "HEAD" else request.method
        for route, pattern in self._parts:
            if route.method == wanted and (found := _match(pattern, parts)) is not None:
                return route, found
        allow = ", ".join(self.methods(request.path))
        raise Problem(
            405, "method_not_allowed", f"{printable(request.method)} is not possible here; allowed are {allow}",
            headers={"Allow": allow},
        )  # fmt: skip

    def methods(self, path: str) -> list[str]:
        """Return the methods of a path, for `Allow`: those of its routes, and OPTIONS.

        Raises:
            Problem: 404.
        """
        parts = path.split("/")
        found = {route.method for route, pattern in self._parts if _match(pattern, parts) is not None}
        if not found:
            raise Problem(404, "not_found", f"there is nothing at {printable(path)}")
        return sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set()))


def _match(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(parts):
        return None
    found: dict[str, str] = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted.startswith("{"):
            try:
                text = unquote(part, errors="strict")
            except UnicodeDecodeError:
                raise Problem(400, "invalid_request", "the path is not UTF-8", wanted.strip("{}")) from None
            if not text:
                return None
            found[wanted.strip("{}")] = text
        elif wanted != part:
            return None
    return found


def read_query(request: Request, kind: type | None) -> Any:
    """Return the query as `kind`.

    Raises:
        Problem: 400 a name is given twice, 422 a value is not allowed or a name unknown.
    """
    pairs = request.arguments()
    if kind is None:
        return None
    many = {f.encode_name for f in msgspec.structs.fields(kind) if "list[" in str(f.type)}
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in ("authorization", "lastEventID", "lastEventId", "Last-Event-ID"):
            continue  # read elsewhere
        if name in many:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise Problem(400, "invalid_request", f"{printable(name)} is given twice", printable(name))
        else:
            values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise refused(error) from None


def read_body(request: Request, kind: type | None, is_optional: bool) -> Any:
    """Return the body as `kind`.

    Raises:
        Problem: 400 not JSON, 415 another media type, 422 a field is missing, unknown or not allowed.
    """
    if kind is None or (is_optional and not request.body and not request.media_type):
        return None if kind is None else kind()
    if request.media_type != JSON:
        raise Problem(415, "unsupported_media_type", f"the body must be sent as Content-Type: {JSON}", "body")
    if is_optional and not request.body:
        return kind()
    try:
        plain = msgspec.json.decode(request.body)
        if _is_deeper(plain, MAX_DEPTH):
            raise Problem(422, "too_deep", f"the body is nested deeper than {MAX_DEPTH} levels", "body")
        return msgspec.convert(plain, kind, strict=True)
    except msgspec.ValidationError as error:
        raise refused(error) from None
    except RecursionError:
        raise Problem(422, "too_deep", f"the body is nested deeper than {MAX_DEPTH} levels", "body") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid_json", f"the body is not JSON: {printable(str(error))}", "body") from None


def refused(error: msgspec.ValidationError) -> Problem:
    """Return a validation error of msgspec as a sentence that begins with the field."""
    text = str(error)
    at = _AT.search(text)
    message = text[: at.start()] if at else text
    name = printable(at.group(1)) if at else ""
    if missing := re.search(r"missing required field `([^`]*)`", message):
        name = f"{name}.{missing[1]}".strip(".")
        sentence = f"{name} is missing"
    elif unknown := re.search(r"unknown field `([^`]*)`", message):
        name = printable(f"{name}.{unknown[1]}".strip("."))
        sentence = f"there is no field {name!r} here"
    else:
        told = _TYPES.sub(lambda match: _WORDS.get(match[1], match[1]), message)
        told = told.removeprefix("Expected ").replace(", got ", ", not ")
        is_wish = message.startswith("Expected ")
        sentence = f"{name or 'it'} must be {printable(told)}" if is_wish else printable(f"{name}: {told}".strip(": "))
    return Problem(422, "invalid_params", sentence, name or None)


_TYPES = re.compile(r"`([^`]*)`")

#: Types in plain words.
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "datetime": "a moment (ISO 8601)",
}


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return any(isinstance(item, (dict, list)) for item in level)
