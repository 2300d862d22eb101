"""HTTP and push for everyone else: REST, Server-Sent Events, Mercure, in one implementation.

    panel serve dashboard.py --plugins jobkit.http      in the dashboard's process
    app.mount("/jobkit", jobkit.http.asgi_app())        inside a Starlette or FastAPI app
    tornado.web.Application(jobkit.http.tornado_routes(kit) + ...)

`docs/http.md` tells how it is used; `api` has the order in which a request is checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobkit.client import Kit
    from jobkit.http.api import Api, Limits
    from jobkit.http.asgi import AsgiApp

__all__ = ["ROUTES", "asgi_app", "tornado_routes"]


def asgi_app(
    kit: Kit | None = None,
    *,
    hosts: Collection[str] = (),
    origins: Collection[str] | None = None,
    public_url: str | None = None,
    is_open_on_loopback: bool = True,
    limits: Limits | None = None,
) -> AsgiApp:
    """The API as an ASGI app.

    Args:
        kit: whose jobs; the process's default kit unless given.
        hosts: names under which the server is reached, beside localhost; "*" for any.
        origins: of pages of others that may use it, like "https://app.example".
        public_url: of the API's root, as seen from outside, where a proxy hides it.
        is_open_on_loopback: whether the user who runs the server needs no token on this machine.
        limits: see `jobkit.http.api.Limits`.
    """
    from jobkit.http.asgi import AsgiApp

    return AsgiApp(_api(kit, hosts, origins, public_url, is_open_on_loopback, limits))


def tornado_routes(
    kit: Kit | None = None,
    *,
    hosts: Collection[str] = (),
    origins: Collection[str] | None = None,
    public_url: str | None = None,
    is_open_on_loopback: bool = True,
    limits: Limits | None = None,
) -> list[tuple[str, Any, dict[str, Any]]]:
    """The API as routes for `tornado.web.Application`, or for `extra_patterns` of `pn.serve`; see `asgi_app`.

    Under Panel the names that its `--allow-websocket-origin` lists are allowed as well.
    """
    from jobkit.http.tornado_app import routes

    return routes(_api(kit, hosts, origins, public_url, is_open_on_loopback, limits))


def _api(
    kit: Kit | None,
    hosts: Collection[str],
    origins: Collection[str] | None,
    public_url: str | None,
    is_open_on_loopback: bool,
    limits: Limits | None,
) -> Api:
    from jobkit.http.api import Api, Limits
    from jobkit.settings import Settings

    settings = kit.settings if kit is not None else Settings.load()
    origins = settings.origins if origins is None else origins
    public_url = settings.public_url if public_url is None else public_url
    limits = limits or Limits(streams=settings.streams, streams_per_subject=settings.streams_per_subject)
    return Api(
        (lambda: kit) if kit is not None else _default_kit,
        hosts=hosts,
        origins=origins,
        public_url=public_url,
        is_open_on_loopback=is_open_on_loopback,
        limits=limits,
    )


def _default_kit() -> Kit:
    """The process's kit, with the tasks that its settings name; what cannot be imported, the dashboard tells."""
    from jobkit.connecting import connect
    from jobkit.model import JobkitError
    from jobkit.tasks.registry import registry

    kit = connect()
    try:
        registry.load(kit.settings.tasks or ("jobkit.demo",))
    except JobkitError:
        import logging

        logging.getLogger("jobkit.http").warning("tasks could not be loaded", exc_info=True)
    return kit


def __getattr__(name: str) -> Any:
    """`ROUTES`, which Panel asks its plugins for: made when asked for, since it reads settings."""
    if name == "ROUTES":
        from jobkit.http.cookies import mend_panels_logins
        from jobkit.http.forked import end_with_parent, know_extensions

        mend_panels_logins()
        know_extensions()
        end_with_parent()
        routes = globals()["ROUTES"] = tornado_routes()
        api = routes[0][2]["api"]
        routes += _web_routes(api)
        _begin(api)
        return routes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


#: `jobkit dashboard --web` tells its server of the folder by this variable: `PATH=FOLDER`.
WEB_VARIABLE = "_JOBKIT_WEB"


def _web_routes(api: Api) -> list[tuple[str, Any, dict[str, Any]]]:
    from jobkit.http.web_folder import WebFolder

    path, _, folder = os.environ.get(WEB_VARIABLE, "").partition("=")
    options = {"path": folder, "default_filename": "index.html", "api": api}
    return [(rf"/{re.escape(path)}/(.*)", WebFolder, options)] if folder else []


def _begin(api: Api) -> None:
    """Where updates go to an external hub, they do so from the start of the server and not from its first request."""
    from jobkit.settings import Settings

    if Settings.load().mercure_url:
        from tornado.ioloop import IOLoop

        IOLoop.current().add_callback(api.kit)
