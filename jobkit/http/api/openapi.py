"""The OpenAPI 3.1 document, made from the table of routes and the types that check requests, and a page to try it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from jobkit.http.api import shapes
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.messages import JSON, PROBLEM, Response, json_response
from jobkit.http.core.routing import Route, Router

#: Refusals of every route that needs a token, and of every route.
_GUARDED = {
    401: "No token, or one that is not accepted.",
    403: "The token does not grant this.",
    429: "Too many requests.",
}
_ALWAYS = {
    400: "The request is not understood.",
    421: "The Host header is not a name of this server.",
    503: "The store does not answer.",
}

_NAMES = re.compile(r"{(\w+)}")


async def document(call: ApiCall) -> Response:
    """Read this OpenAPI document."""
    made = describe(call.api.router.routes)
    return json_response({**made, "servers": [{"url": call.base}]}, Cache_Control="private, max-age=60")


async def page(call: ApiCall) -> Response:
    """Show a page to read and try the API. It requests nothing from other servers."""
    html = (files("jobkit.http.api") / "docs.html").read_bytes()
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'"
    )
    return Response(200, html, {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy})


async def script(call: ApiCall) -> Response:
    """Load the script of that page."""
    return Response(
        200, (files("jobkit.http.api") / "docs.js").read_bytes(), {"Content-Type": "text/javascript; charset=utf-8"}
    )


def describe(routes: list[Route]) -> dict[str, Any]:
    """Return the document without `servers`."""
    return _describe(tuple(routes))


@cache
def _describe(routes: tuple[Route, ...]) -> dict[str, Any]:
    from jobkit import __version__

    types = {shape for route in routes for shape in _types(route)}
    ordered = [*sorted(types, key=lambda shape: shape.__name__), shapes.RefusalJson]
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    for shape in ordered:
        components.setdefault(shape.__name__, msgspec.json.schema(shape))
        components[shape.__name__] |= getattr(shape, "more_of_schema", {})
    components = msgspec.json.decode(msgspec.json.encode(components).replace(b'Json"', b'"'))  # see `_name`
    paths: dict[str, dict[str, Any]] = {}
    router = Router(list(routes))
    for route in routes:
        item = paths.setdefault(route.path, {"description": _methods(router.methods(route.path))})
        # OpenAPI 3.1 does not have QUERY.
        item["x-query" if route.method == "QUERY" else route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jobkit",
            "version": __version__,
            "description": "Jobs over HTTP: submit, read, follow and stop them. Times are ISO 8601 in UTC. "
            "Each path lists the methods that it allows. OPTIONS returns them as `Allow`; "
            "any other method, TRACE for instance, is answered with 405 and the same `Allow`.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "`jobkit token`"}
            },
        },
    }


def _name(shape: type) -> str:
    """Return the name of a type in the document: `Job` of `JobJson`."""
    return shape.__name__.removesuffix("Json")


def _methods(allowed: Sequence[str]) -> str:
    return f"Allow: {', '.join(allowed)}"


def _types(route: Route) -> list[type]:
    found = [route.body] if route.body else []
    for answer in route.answers.values():
        parts = answer if isinstance(answer, tuple) else (answer,)
        found += [one for one in parts if isinstance(one, type)]
    return found


def _operation(route: Route) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": ("query_" if route.method == "QUERY" else "") + route.handler.__name__
        if route.tag != "jobs"
        else f"{route.handler.__name__}_job".replace("_jobs_job", "_jobs"),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.scope:
        made["security"] = [{"token": []}, {}]
        made["description"] = f"Needs the scope `{route.scope}`, unless the server is open to its own user."
    if route.body is not None:
        content = {JSON: {"schema": {"$ref": f"#/components/schemas/{_name(route.body)}"}}}
        made["requestBody"] = {"required": not route.body_is_optional, "content": content}
    return made


def _parameters(route: Route) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _named(route, name)}
        for name in _NAMES.findall(route.path)
    ]
    if route.query is None:
        return made
    whole = msgspec.json.schema(route.query)
    schema = whole.get("$defs", {}).get(route.query.__name__, whole)
    for name, one in schema.get("properties", {}).items():
        shown = dict(one)
        text = shown.pop("description", "")
        made.append(
            {"name": name, "in": "query", "required": False, "schema": shown, **({"description": text} if text else {})}
        )
    if "last_event_id" in schema.get("properties", {}):
        made.append(
            {"name": "Last-Event-ID", "in": "header", "required": False, "schema": {"type": "string"},
             "description": "Id of the last received event; a browser sends it by itself."}
        )  # fmt: skip
    return made


def _named(route: Route, name: str) -> dict[str, Any]:
    """Return the schema of a path's parameter."""
    if name in route.choices:
        return {"type": "string", "enum": list(route.choices[name])}
    is_free = name in ("topic", "match", "match_type", "subscriber") or "/artifacts/{name}" in route.path
    return {"type": "string", "minLength": 1, **({} if is_free and name != "id" else {"pattern": shapes.ID})}


def _responses(route: Route) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for status, answer in route.answers.items():
        made[str(status)] = {"description": _WORDS[status]}
        content: dict[str, Any] = {}
        for one in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(one, str):
                content[one] = {}
            elif one is not None:
                content[JSON] = {"schema": {"$ref": f"#/components/schemas/{_name(one)}"}}
            elif isinstance(answer, tuple):
                content[JSON] = {"schema": {}}
        if content:
            made[str(status)]["content"] = content
    refusals: Mapping[int, str] = {**_ALWAYS, **(_GUARDED if route.scope else {}), **route.refusals}
    if route.query is not None:
        refusals = {422: "A value of the query is not allowed.", **refusals}
    if route.body is not None:
        refusals = {
            413: "The body is too large.",
            415: "The body is not JSON.",
            422: "A field is not allowed.",
            **refusals,
        }
    for status, words in sorted(refusals.items()):
        schema = {"$ref": "#/components/schemas/Refusal"}
        made[str(status)] = {"description": words, "content": {PROBLEM: {"schema": schema}}}
    return made


_WORDS = {200: "Success.", 202: "Accepted.", 204: "No content."}
