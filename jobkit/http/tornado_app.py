"""The API as routes of Tornado, and as a plugin of Panel's server: `panel serve dashboard.py --plugins jobkit.http`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import tornado.iostream
import tornado.web
from tornado.ioloop import IOLoop, PeriodicCallback

from jobkit.access.own_machine import JUPYTER_PID_VARIABLE, PROXIED_VARIABLE, of_tornado, server_of_tornado
from jobkit.access.people import LoginState
from jobkit.features import services
from jobkit.http.auth.sessions import claims_of, fix_panels_logins, is_listed, login_id_of, marks, prefix_of, user_of
from jobkit.http.bodies import BoundedBody
from jobkit.http.core.handling import Api, check_host
from jobkit.http.messages import FORM, TEXT, Problem, Request, Response, find_route, form, send_all
from jobkit.settings import Settings
from jobkit.system.death import end_forks_with

#: `jobkit dashboard --web` passes the folder to its server in this variable: `PATH=FOLDER`.
WEB_VARIABLE = "_JOBKIT_WEB"

#: Milliseconds between two checks whether the parent lives.
_LOOK_MS = 1000

_Routes = list[tuple[str, Any, dict[str, Any]]]


def routes(api: Api) -> _Routes:
    """Return routes for `tornado.web.Application`, or for Panel's `extra_patterns`."""
    others = [route.path for route in api.routes if not route.path.startswith("/api/")]
    tops = [path for path in others if not any(path.startswith(f"{other}/") for other in others)]
    pattern = "|".join(map(re.escape, ("/api", *dict.fromkeys(tops))))
    return [(rf"(?:{pattern})(?:/.*)?", ApiHandler, {"api": api})]


class _RequestReader(tornado.web.RequestHandler):
    """Base of handlers that read Tornado's requests as the API's, with the login of the server."""

    _api: Api

    def _request(self, body: bytes = b"", *, is_too_large: bool = False) -> Request:
        request = self.request
        prefix = prefix_of(self)
        if not request.path.startswith(f"{prefix}/"):
            prefix = ""
        server = server_of_tornado(self.application)
        user = user_of(self) if server.has_login else ""
        return Request(
            method=request.method or "GET",
            path=request.path.removeprefix(prefix),
            headers={name.lower(): ", ".join(request.headers.get_list(name)) for name in request.headers},
            query=request.query,
            body=body,
            is_too_large=is_too_large,
            peer=str(request.remote_ip or ""),
            connection=of_tornado(request),
            server=server,
            scheme=request.protocol,
            prefix=prefix,
            login=self._login(user) if user else None,
            login_is_forged=bool(user) and self._is_forged(body),
        )

    def _login(self, user: str) -> Callable[[Settings], LoginState]:
        is_by_name = is_listed(self.application.auth_provider)  # type: ignore[attr-defined]  # Bokeh's
        claims = {} if is_by_name else claims_of(self)
        return partial(LoginState, user, is_listed=is_by_name, claims=claims, login_id=login_id_of(self))

    def _is_forged(self, body: bytes) -> bool:
        """Return whether a request with a login's cookie lacks the XSRF token that it needs, as header or in a form."""
        if self.request.method in ("GET", "HEAD", "OPTIONS"):
            _ = self.xsrf_token  # sets the cookie, for later requests
            return False
        if self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower() == FORM:
            with contextlib.suppress(Problem):  # the body is read in parts, so Tornado has not read its fields
                tokens = [value.encode() for name, value in form(body) if name == "_xsrf"]
                self.request.arguments.setdefault("_xsrf", []).extend(tokens)
        try:
            super().check_xsrf_cookie()
        except tornado.web.HTTPError:
            return True
        return False

    def check_xsrf_cookie(self) -> None:
        """Do nothing: only a login by cookie needs the check; see `_is_forged`."""


class ApiHandler(BoundedBody, _RequestReader):
    """Passes every request to the `Api` and writes its response."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS", "QUERY", "TRACE")

    def initialize(self, api: Api) -> None:
        self.settings.setdefault("xsrf_cookie_kwargs", marks(self))
        self._api, self.most_bytes = api, api.limits.body_bytes
        self._gone = asyncio.Event()

    async def _refusal(self) -> bytes:
        response = await self._api.handle(self._request(is_too_large=True))
        self._start(response)
        return response.body

    async def _serve(self) -> None:
        if self._is_refused:
            await self.finish()
        else:
            await self._answer(self._request(bytes(self._body)))

    get = head = post = delete = patch = put = options = query = trace = _serve

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write Tornado's own refusals, of an unknown method for instance, in the form of the API."""
        request = self._request()
        problem = Problem(status_code, "internal", "this is a bug of jobkit; the server's log has more")
        if status_code < 500:
            problem = Problem(status_code, "invalid_request", "the request is not understood")
        if status_code == 405:
            try:
                find_route(self._api.routes, request)
            except Problem as found:
                problem = found
        response = self._api.finish(request, problem.response())
        self._start(response)
        self.set_header("Connection", "close")  # the body of the request, if any, is not read
        self.finish(response.body)

    async def _answer(self, request: Request) -> None:
        response = await self._api.handle(request)
        self.clear()
        self._start(response)
        with contextlib.suppress(tornado.iostream.StreamClosedError):
            if response.stream is None:
                await self.finish(response.body or None)
                return
            self._auto_finish = False  # if the client is gone there is nothing to finish
            stream = getattr(self.request.connection, "stream", None)
            if stream is not None:  # send small parts at once, and let the system buffer little
                stream.set_nodelay(True)
                with contextlib.suppress(OSError, AttributeError):
                    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
            if await send_all(response.stream, self._send, self._gone.wait(), self._api.limits.slow_s):
                await self.finish()
            elif stream is not None:
                stream.close()

    def _start(self, response: Response) -> None:
        self.set_status(response.status)
        self.clear_header("Server")
        if "Content-Type" not in response.headers:
            self.clear_header("Content-Type")
        for name, value in response.headers.items():
            self.set_header(name, value)

    async def _send(self, data: bytes) -> None:
        self.write(data)
        await self.flush()

    def on_connection_close(self) -> None:
        self._gone.set()

    def _request_summary(self) -> str:
        """Return the line for the access log, without the query, which may contain a token."""
        return f"{self.request.method} {self.request.path} ({self.request.remote_ip})"

    def compute_etag(self) -> str | None:
        return None  # the Api did

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Do not log that a client has disconnected."""
        if not isinstance(value, tornado.iostream.StreamClosedError):
            super().log_exception(typ, value, tb)


class WebFolder(tornado.web.StaticFileHandler, _RequestReader):
    """Serves a folder with a user's web page (`jobkit dashboard --web DIR`) to callers who may see jobs.

    Hidden files (`.env`, `.git/config`) and links that lead out of the folder are 404.
    """

    def initialize(self, path: str, default_filename: str | None = None, *, api: Api) -> None:  # type: ignore[override]  # the folder's API
        super().initialize(path, default_filename)
        self._api = api

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "frame-ancestors 'self'")

    async def prepare(self) -> None:
        request = self._request()
        try:
            check_host(request, [*self._api.hosts, *request.server.names])
            grant = await self._api.grant(request)
        except Problem as problem:
            self._say(problem.status, problem.message)
            return
        if grant is None and request.server.has_login:
            provider: Any = self.application.auth_provider  # type: ignore[attr-defined]  # Bokeh's
            login = provider.get_login_url(self) if provider.get_login_url else provider.login_url
            self.redirect(f"{prefix_of(self)}{login}?{urlencode({'next': self.request.uri or ''})}")
        elif grant is None or not grant.may("view"):
            self._say(403, self._api.why_refused(request))

    def _say(self, status: int, sentence: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", TEXT)
        self.finish(f"{sentence}\n")

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        if "\0" in absolute_path:
            raise tornado.web.HTTPError(404)
        found = super().validate_absolute_path(root, absolute_path)
        if found is None:
            return None
        folder, real = Path(root).resolve(), Path(found).resolve()
        asked = Path(found).relative_to(Path(root).absolute())
        if not real.is_relative_to(folder) or any(part.startswith(".") for part in asked.parts):
            raise tornado.web.HTTPError(404)
        return found


class LogAddress(_RequestReader):
    """Leads from `/job/ID/log` to the page of that log, which asks for a login and checks who may see the job.

    Browsers keep what is after "#" on the way.
    """

    def get(self, job_id: str) -> None:
        query = {"page": "log", "id": job_id, **{name: self.get_query_argument(name, "") for name in ("q", "level")}}
        self.redirect(f"{prefix_of(self)}/?{urlencode({name: value for name, value in query.items() if value})}")


LOG_ADDRESS: tuple[str, Any, dict[str, Any]] = (r"/job/([^/]+)/log/?", LogAddress, {})


# -- the plugin of `panel serve` ---------------------------------------------------------------------------------------


def plugin_routes(api: Api) -> _Routes:
    """Prepare this server process, and return the routes of the API and of the `--web` folder if there is one.

    Panel calls this before it forks the processes of `--num-procs`, and before their first page.
    """
    fix_panels_logins()
    importlib.import_module("jobkit.ui.panel_server")
    # Bokeh does not end those that Tornado forks: they would keep the port and answer from it after a `kill`.
    end_forks_with(signal.SIGTERM, _is_forked_by_tornado)
    if PROXIED_VARIABLE in os.environ:
        parent = int(os.environ.get(JUPYTER_PID_VARIABLE) or os.getppid())
        PeriodicCallback(partial(_end_without, parent), _LOOK_MS).start()
    if any(services("server", Settings.load())):  # they run from the start of the server, not from its first request
        IOLoop.current().add_callback(api.kit)
    found = [*routes(api), LOG_ADDRESS]
    path, _, folder = os.environ.get(WEB_VARIABLE, "").partition("=")
    if folder:
        options = {"path": folder, "default_filename": "index.html", "api": api}
        found.append((rf"/{re.escape(path)}/(.*)", WebFolder, options))
    return found


def _end_without(parent: int) -> None:
    """End this server if the Jupyter server that started it was killed, also during the start. It ends it in other
    cases."""
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _is_forked_by_tornado() -> bool:
    """Return whether this fork was made by `tornado.process.fork_processes`."""
    frame = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "tornado.process":
        frame = frame.f_back  # type: ignore[assignment]  # None at the end
    return frame is not None
