"""The usual kinds of routes: what is seen, done and deleted."""

from __future__ import annotations

from typing import Any

from jobkit.http.api import shapes
from jobkit.http.messages import Handler, Route


def see(path: str, handler: Handler, *answers: Any, **options: Any) -> Route:
    """A `GET` for callers who may see jobs. `answers`: see `Route`."""
    return Route("GET", path, handler, answers, **{"scope": "view", "query": shapes.Nothing, **options})


def act(path: str, handler: Handler, status: int, *answers: Any, **options: Any) -> Route:
    """A `POST` for callers who may change jobs; without a body, and 409 in some states, unless `options` differ."""
    options = {"scope": "operate", "body": shapes.Nothing, "others": (409,), **options}
    is_optional = options["body"] in (shapes.Nothing, shapes.Cancel, shapes.RetryRequest)
    return Route("POST", path, handler, answers, status, body_is_optional=is_optional, **options)


def delete(path: str, handler: Handler, **options: Any) -> Route:
    """A `DELETE` for callers who may change jobs."""
    return Route("DELETE", path, handler, (), 204, scope="operate", query=shapes.Nothing, **options)
