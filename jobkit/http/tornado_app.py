"""The API as routes of Tornado, which is Panel's server: `panel serve dashboard.py --plugins jobkit.http`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import tornado.iostream
import tornado.web
from tornado.httputil import HTTPServerRequest

from jobkit.http.auth.sessions import claims_of, kept_by_panel, marks
from jobkit.http.core.handling import Api, too_large
from jobkit.http.core.messages import ClientGone, Problem, Request, Response, parts_until
from jobkit.own_machine import of_tornado, server_of_tornado

#: Paths of the API.
PATTERN = r"(/api(?:/.*)?|/\.well-known/(?:oauth-protected-resource/\.well-known/)?mercure(?:/.*)?)"


def routes(api: Api) -> list[tuple[str, type[tornado.web.RequestHandler], dict[str, Any]]]:
    """Return routes for `tornado.web.Application`, or for Panel's `extra_patterns`."""
    return [(PATTERN, ApiHandler, {"api": api})]


class AskingHandler(tornado.web.RequestHandler):
    """Base of handlers that read Tornado's requests as the API's, with the login of the server."""

    _api: Api
    _parts: Sequence[bytes] = ()

    def _request(self, path: str) -> Request:
        request = self.request
        # The text that the pattern has matched is decoded already; the API splits the encoded path.
        raw = request.path
        prefix = getattr(self.application, "prefix", "") or ""
        if not raw.startswith(f"{prefix}/"):
            prefix = ""
        server = server_of_tornado(self.application)
        if not self._api.hosts.issuperset(server.names):
            self._api.allow_hosts(server.names)
        login, is_forged = self._login() if server.has_login else ("", False)
        is_login_listed = bool(login) and is_listed(self.application.auth_provider)  # type: ignore[attr-defined]  # Bokeh's
        return Request(
            method=request.method or "GET",
            path=raw.removeprefix(prefix),
            headers={name.lower(): ", ".join(request.headers.get_list(name)) for name in request.headers},
            query=request.query,
            body=b"".join(self._parts),
            peer=str(request.remote_ip or ""),
            connection=of_tornado(request),
            server=server,
            scheme=request.protocol,
            prefix=prefix,
            login=login,
            login_is_listed=is_login_listed,
            login_id=_login_id(self) if login else "",
            login_claims=claims_of(self) if login and not is_login_listed else {},
            login_is_forged=is_forged,
        )

    def _login(self) -> tuple[str, bool]:
        """Return the name that is logged in, or "", and whether the request lacks the XSRF token that it needs."""
        name = _user(self)
        if not name:
            return "", False
        if self.request.method in ("GET", "HEAD", "OPTIONS"):
            _ = self.xsrf_token  # sets the cookie, for later requests
            return name, False
        try:
            super().check_xsrf_cookie()
        except tornado.web.HTTPError:
            return name, True
        return name, False

    def check_xsrf_cookie(self) -> None:
        """Do nothing: only a login by cookie needs the check; see `_login`."""


@tornado.web.stream_request_body
class ApiHandler(AskingHandler):
    """Passes every request to the `Api` and writes its response."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS", "QUERY", "TRACE")

    def initialize(self, api: Api) -> None:
        self.settings.setdefault("xsrf_cookie_kwargs", marks(self))
        self._api = api
        self._parts: list[bytes] = []
        self._size = 0
        self._gone = asyncio.Event()

    async def prepare(self) -> None:
        """Refuse a body that declares to be too large, before reading it."""
        length = self.request.headers.get("Content-Length", "0")
        if length.isdecimal() and int(length) > self._api.limits.body_bytes:
            await self._refuse(too_large(self._api.limits.body_bytes))

    async def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._api.limits.body_bytes:
            if not self._finished:
                await self._refuse(too_large(self._api.limits.body_bytes))
            return
        self._parts.append(chunk)

    async def _refuse(self, problem: Problem) -> None:
        await self._write(self._api._finish(self._request(""), problem.response()))

    async def _serve(self, path: str) -> None:
        if self._finished:
            return
        response = await self._api.handle(self._request(path))
        await self._write(response)

    get = head = post = delete = patch = put = options = query = trace = _serve

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write Tornado's own refusals, of an unknown method for instance, in the form of the API."""
        problem = Problem(status_code, "internal", "this is a bug of jobkit; the server's log has more")
        if status_code < 500:
            problem = Problem(status_code, "invalid_request", "the request is not understood")
        if status_code == 405:
            with contextlib.suppress(Problem):
                allow = ", ".join(self._api.router.methods(self._request("").path))
                problem = Problem(405, "method_not_allowed", f"allowed are {allow}", headers={"Allow": allow})
        response = self._api._finish(self._request(""), problem.response())
        for name, value in response.headers.items():
            self.set_header(name, value)
        self.set_header("Connection", "close")  # the body of the request, if any, is not read
        self.finish(response.body)

    async def _write(self, response: Response) -> None:
        self.clear()
        self.clear_header("Server")
        self.set_status(response.status)
        for name, value in response.headers.items():
            self.set_header(name, value)
        if response.status in (204, 304) or (response.stream is None and not response.body):
            self.clear_header("Content-Type") if "Content-Type" not in response.headers else None
        with contextlib.suppress(tornado.iostream.StreamClosedError):
            if response.stream is None or self.request.method == "HEAD":
                if response.stream is not None:
                    await _close(response.stream)
                await self.finish(response.body or None)
                return
            await self._pump(response)

    async def _pump(self, response: Response) -> None:
        """Send a stream's parts, each when the one before is sent. Disconnect a client that takes nothing."""
        stream = response.stream
        assert stream is not None
        self._auto_finish = False  # if the client is gone there is nothing to finish
        _unbuffer(self.request)
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            async for data in parts_until(stream, gone):
                self.write(data)
                async with asyncio.timeout(self._api.limits.slow_s):
                    await self.flush()
            await self.finish()
        except ClientGone:
            pass
        except TimeoutError:
            self._cut()
        finally:
            gone.cancel()
            await _close(stream)

    def _cut(self) -> None:
        connection: Any = self.request.connection
        if connection is not None and getattr(connection, "stream", None) is not None:
            connection.stream.close()

    def on_connection_close(self) -> None:
        self._gone.set()

    def _request_summary(self) -> str:
        """Return the line for the access log, without the query, which may contain a token."""
        return f"{self.request.method} {self.request.path} ({self.request.remote_ip})"

    def check_etag_header(self) -> bool:
        return False  # the Api did

    def compute_etag(self) -> str | None:
        return None

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Do not log that a client has disconnected."""
        if not isinstance(value, tornado.iostream.StreamClosedError):
            super().log_exception(typ, value, tb)


def is_listed(provider: Any) -> bool:
    """Return whether users who may log in are listed by name: so with passwords, not with OAuth."""
    return not any(kind.__name__ == "OAuthProvider" for kind in type(provider).__mro__)


def _user(handler: tornado.web.RequestHandler) -> str:
    """Return the name in the login's cookie: of jobkit's login, which reads its file again, or of Panel's."""
    found = getattr(getattr(handler.application.auth_provider, "_module", None), "get_user", None)  # type: ignore[attr-defined]  # Bokeh's
    if found is not None:
        return str(found(handler) or "")
    user = kept_by_panel(handler, "user")
    return "" if not user else user.decode("utf-8", "replace").strip('"')[:200]


def _login_id(handler: tornado.web.RequestHandler) -> str:
    found = getattr(getattr(handler.application.auth_provider, "_module", None), "login_id", None)  # type: ignore[attr-defined]  # Bokeh's
    return "" if found is None else str(found(handler))


async def _close(stream: Any) -> None:
    closing: Callable[[], Any] | None = getattr(stream, "aclose", None)
    if closing is not None:
        await closing()


def _unbuffer(request: HTTPServerRequest) -> None:
    """Send small parts at once, and let the system buffer little for a client that takes nothing."""
    connection: Any = request.connection
    stream = getattr(connection, "stream", None)
    if stream is not None:
        stream.set_nodelay(True)
        with contextlib.suppress(OSError, AttributeError):
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)


class WebFolder(tornado.web.StaticFileHandler, AskingHandler):
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
        try:
            request = self._request("")
            await self._api.kit()
            grant = await self._api.grant(request)
        except Problem as problem:
            self._say(problem.status, problem.message)
            return
        if grant is not None and grant.may("view"):
            return
        if grant is None and request.server.has_login:
            self.redirect(f"{self._url_of_login()}?{urlencode({'next': self.request.uri or ''})}")
            return
        self._say(403, self._api.why_refused(request))

    def _url_of_login(self) -> str:
        provider: Any = self.application.auth_provider  # type: ignore[attr-defined]  # Bokeh's
        prefix = getattr(self.application, "prefix", "") or ""
        return f"{prefix}{provider.get_login_url(self) if provider.get_login_url else provider.login_url}"

    def _say(self, status: int, sentence: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{sentence}\n")

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        found = super().validate_absolute_path(root, absolute_path)
        if found is None:
            return None
        folder, real = Path(root).resolve(), Path(found).resolve()
        asked = Path(found).relative_to(Path(root).absolute())
        if not real.is_relative_to(folder) or any(part.startswith(".") for part in asked.parts):
            raise tornado.web.HTTPError(404)
        return found
