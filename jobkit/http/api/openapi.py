"""The OpenAPI 3.1 document, made from the table of routes and the types that check requests, and a page to try it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any

import msgspec

from jobkit.features import modules
from jobkit.http.api import shapes
from jobkit.http.core.handling import ApiCall
from jobkit.http.messages import (
    ANY,
    FORM,
    JSON,
    PROBLEM,
    RefusalJson,
    Response,
    Route,
    json_response,
    methods_of,
    takes_form,
)

#: What each status means.
_WORDS = {
    200: "Success.",
    202: "Accepted.",
    204: "No content.",
    400: "The request is not understood.",
    401: "No token, or one that is not accepted.",
    403: "The token does not grant this.",
    404: "It does not exist, or the token does not cover it.",
    409: "Its state does not allow this.",
    410: "It is no longer kept.",
    413: "The body is too large.",
    415: "The body is of another media type.",
    421: "The Host header is not a name of this server.",
    422: "A value is not allowed.",
    429: "Too many requests or streams.",
    502: "What is stored does not carry a valid signature.",
    503: "The store does not answer, or too many streams are open.",
}

#: Headings by the beginning of a path; "all" for other paths.
_TAGS = {
    "/api/jobs": "jobs",
    "/api/healthz": "service",
    "/api/openapi": "service",
    "/api/docs": "service",
}

#: Schema of a name in a path.
_NAME = {**ANY, "pattern": shapes.ID}


async def document(call: ApiCall) -> Response:
    """Read this OpenAPI document."""
    made = describe(call.api.routes)
    headers = {"Cache-Control": "private, max-age=60"}
    return json_response({**made, "servers": [{"url": call.base}]}, headers=headers)


async def page(call: ApiCall) -> Response:
    """Show a page to read and try the API. It requests nothing from other servers."""
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'"
    )
    return _file("docs.html", "text/html", {"Content-Security-Policy": policy})


async def script(call: ApiCall) -> Response:
    """Load the script of that page."""
    return _file("docs.js", "text/javascript", {})


def _file(name: str, media_type: str, headers: Mapping[str, str]) -> Response:
    content = (files("jobkit.http.api") / name).read_bytes()
    return Response(200, content, {"Content-Type": f"{media_type}; charset=utf-8", **headers})


@cache
def describe(routes: tuple[Route, ...]) -> dict[str, Any]:
    """Return the document without `servers`."""
    from jobkit import __version__

    types = {one for route in routes for one in (route.body, *route.answers) if isinstance(one, type)}
    ordered = [*sorted(types, key=lambda shape: shape.__name__), RefusalJson]
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    for shape in ordered:
        components[shape.__name__] |= getattr(shape, "more_of_schema", {})
    for model in chain(shapes.MODELS, *(getattr(module, "MODELS", ()) for module in modules("routes"))):
        schema = components[model.__name__]
        schema["required"] = [name for name in schema["properties"] if name not in shapes.NOT_ALWAYS]
        schema["description"] = schema["description"].partition("\n")[0]
        for each in schema["properties"].values():
            each.pop("default", None)
    components = msgspec.json.decode(msgspec.json.encode(components).replace(b'Json"', b'"'))  # see `_reference`
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        allowed = ", ".join(methods_of(routes, route.path))
        item = paths.setdefault(route.path, {"description": f"Allow: {allowed}"})
        # OpenAPI 3.1 does not have QUERY.
        item["x-query" if route.method == "QUERY" else route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jobkit",
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
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


def _reference(shape: type) -> dict[str, Any]:
    """Return a reference to a type by its name in the document: `Job` of `JobJson`."""
    return {"schema": {"$ref": f"#/components/schemas/{shape.__name__.removesuffix('Json')}"}}


def _operation(route: Route) -> dict[str, Any]:
    name, tag = route.handler.__name__, _tag(route)
    if tag == "jobs" and "_job" not in name:
        name = f"{name}_job"
    made: dict[str, Any] = {
        "operationId": f"query_{name}" if route.method == "QUERY" else name,
        "summary": route.summary,
        "tags": [tag],
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    # An empty list: the operation takes no token. `{}`: a token may be missing, if the server is open to its own user.
    made["security"] = [{"token": []}, {}] if route.scope or route.asks_itself else []
    if route.scope:
        made["description"] = f"Needs the scope `{route.scope}`, unless the server is open to its own user."
    if route.body is not None:
        made["requestBody"] = {"required": not route.body_is_optional, "content": _content(route.body)}
    return made


def _content(body: type) -> dict[str, Any]:
    made = {JSON: _reference(body)}
    if takes_form(body):
        text = "The same fields, and the arguments as further fields; empty ones count as not given."
        one = {"type": "string"}
        made[FORM] = {
            "schema": {
                "type": "object",
                "properties": {"task": one},
                "additionalProperties": one,
                "required": ["task"],
                "description": text,
            }
        }
    return made


def _tag(route: Route) -> str:
    return route.tag or next((tag for start, tag in _TAGS.items() if route.path.startswith(start)), "all")


def _parameters(route: Route) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": route.schemas.get(name, _NAME)}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.query is None:
        return made
    properties = msgspec.json.schema(route.query)["$defs"][route.query.__name__]["properties"]
    for name, schema in properties.items():
        text = {"description": schema.pop("description")} if "description" in schema else {}
        made.append({"name": name, "in": "query", "required": False, "schema": schema, **text})
    if "last_event_id" in properties:
        text = {"description": "Id of the last received event; a browser sends it by itself."}
        made.append({"name": "Last-Event-ID", "in": "header", "required": False, "schema": {"type": "string"}, **text})
    return made


def _responses(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for one in route.answers:
        if isinstance(one, str):
            content[one] = {}
        else:
            content[JSON] = {"schema": {}} if one is None else _reference(one)
    statuses = {400, 421, 503, *route.others}
    statuses |= {404} if "{" in route.path else set()
    statuses |= {401, 403, 429} if route.scope else set()
    statuses |= {422} if route.query is not None else set()
    statuses |= {413, 415, 422} if route.body is not None else set()
    refusal = {"content": {PROBLEM: _reference(RefusalJson)}}
    return {
        str(route.status): {"description": _WORDS[route.status], **({"content": content} if content else {})},
        **{str(each): {"description": _WORDS[each], **(refusal if each >= 400 else {})} for each in sorted(statuses)},
    }
