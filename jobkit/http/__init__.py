"""HTTP and push: REST and Server-Sent Events, in one implementation; features add routes.

    panel serve dashboard.py --plugins jobkit.http      in the dashboard's process
    app.mount("/jobkit", jobkit.http.asgi_app())        inside a Starlette or FastAPI app
    tornado.web.Application(jobkit.http.tornado_routes(kit) + ...)

`docs/http.md` shows how to use it. Imports run down this list: `asgi` and `tornado_app` connect the API to a server,
`table` has all routes, `api` handlers, `core` takes a request to its response, `auth` has tokens and logins, `messages`
requests and responses.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

if TYPE_CHECKING:
    from jobkit.client.kit import Kit
    from jobkit.http.asgi import AsgiApp
    from jobkit.http.core.handling import Api, Limits

__all__ = ["ROUTES", "ApiOptions", "asgi_app", "tornado_routes"]


class ApiOptions(TypedDict, total=False):
    """Options of the API, see `jobkit.http.core.handling.Api`; None stands for what the settings say.

    Example:
        >>> options: ApiOptions = {"origins": ["https://shop.example"]}
        >>> app = asgi_app(kit, **options)
    """

    hosts: Collection[str]
    origins: Collection[str] | None
    public_url: str | None
    is_open_on_loopback: bool
    limits: Limits | None


def asgi_app(kit: Kit | None = None, **options: Unpack[ApiOptions]) -> AsgiApp:
    """Return the API of this kit, or of the process's default kit, as an ASGI app.

    Example:
        >>> app = FastAPI()
        >>> app.mount("/jobkit", asgi_app(kit))
    """
    from jobkit.http.asgi import AsgiApp

    return AsgiApp(_api(kit, **options))


def tornado_routes(kit: Kit | None = None, **options: Unpack[ApiOptions]) -> list[tuple[str, Any, dict[str, Any]]]:
    """Return the API as routes for `tornado.web.Application`, or for `extra_patterns` of `pn.serve`; see `asgi_app`.

    Under Panel, the names in its `--allow-websocket-origin` are allowed as well.

    Example:
        >>> app = tornado.web.Application(tornado_routes(kit))
    """
    from jobkit.http.tornado_app import routes

    return routes(_api(kit, **options))


def _api(kit: Kit | None = None, **options: Unpack[ApiOptions]) -> Api:
    from jobkit.http.core.handling import Api, Limits
    from jobkit.http.routes import ROUTES
    from jobkit.settings import Settings

    settings = kit.settings if kit is not None else Settings.load()
    configured: dict[str, Any] = {
        "origins": settings.origins,
        "public_url": settings.public_url,
        "limits": Limits(
            streams=settings.streams,
            streams_per_subject=settings.streams_per_subject,
            heartbeat_s=settings.stream_heartbeat,
        ),
    }
    configured |= {name: value for name, value in options.items() if value is not None}
    return Api((lambda: kit) if kit is not None else _default_kit, ROUTES, **configured)


def _default_kit() -> Kit:
    """Return the kit of the process, with the tasks of its settings loaded. Tasks that fail to import are logged."""
    from jobkit.connecting import connect
    from jobkit.model import JobkitError
    from jobkit.tasks.registry import registry

    kit = connect()
    try:
        registry.load(kit.settings.task_modules)
    except JobkitError:
        logging.getLogger("jobkit.http").warning("tasks could not be loaded", exc_info=True)
    return kit


def __getattr__(name: str) -> Any:
    """Make `ROUTES`, which Panel reads from its plugins, when it is first read: making it reads the settings."""
    if name == "ROUTES":
        from jobkit.http.tornado_app import plugin_routes

        routes = globals()["ROUTES"] = plugin_routes(_api())
        return routes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
