"""The usual kinds of routes: what is seen, done and deleted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from jobkit.client.forms import Deed, Noun
from jobkit.http.api import shapes
from jobkit.http.core.handling import ApiCall
from jobkit.http.messages import Handler, Response, Route


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


def deeds(
    path: str, noun: type[Noun], find: Callable[[ApiCall], Awaitable[Any]], read: Handler, shape: Any, **options: Any
) -> tuple[Route, ...]:
    """A `POST` to `path/DEED` for each deed of a noun, answered as `read` answers then; a `DELETE` for "remove".

    Args:
        path: of one thing; its parameter is the attribute by which the noun's verbs know what `find` returns.
    """
    key = path.rpartition("{")[2].rstrip("}")

    def route(deed: Deed) -> Route:
        async def handler(call: ApiCall) -> Any:
            await noun.carry_out(call.kit, deed, getattr(await find(call), key), call.grant.subject)
            return Response(204) if deed.name == "remove" else await read(call)

        handler.__name__, handler.__doc__ = f"{deed.name}_{noun.ON}", noun.summary(deed)
        if deed.name == "remove":
            return delete(path, handler, on=noun.ON, **options)
        return act(f"{path}/{deed.name}", handler, 200, shape, on=noun.ON, **options)

    return tuple(map(route, noun.DEEDS))
