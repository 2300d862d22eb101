"""Changes to Panel's server, for `panel serve dashboard.py` as for `jobkit dashboard`.

Panel has no hooks for these: who may have a session, what a browser shows until there is one or if there can be none,
which files `/components` serves, how long a request may take, which address `--show` opens. So methods are wrapped, see
`HOOKS`. The module is loaded with a kit if Panel is loaded
(`pn.serve` in a program), with most parts of `jobkit.ui`, and by `panel serve` itself before it listens (the entry
point in the group `panel.io.rest`), since a page's own code runs only when it is first opened.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import webbrowser
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from weakref import WeakKeyDictionary, WeakSet

import bokeh.server.server
import param
import tornado.web
from bokeh.document import Document
from bokeh.model import Model
from bokeh.server.contexts import ApplicationContext
from bokeh.server.server import BaseServer
from bokeh.server.views.auth_request_handler import AuthRequestHandler
from bokeh.server.views.multi_root_static_handler import MultiRootStaticHandler
from bokeh.server.views.static_handler import StaticHandler
from bokeh.server.views.ws import WSHandler
from panel.io import handlers
from panel.io import server as panels_server
from panel.io.liveness import LivenessHandler
from panel.io.state import state
from tornado.httputil import HTTPHeaders
from tornado.template import Loader

import jobkit.settings as settings
import jobkit.ui.packed as packed
import jobkit.ui.patch as patch
from jobkit.access.own_machine import (
    ADDRESS_VARIABLE,
    OWN,
    TOKEN_FIELD,
    AccessDecision,
    RequestSender,
    access_cookie,
    cookie_name,
    decide,
    is_access_token,
    is_own_host,
    of_tornado,
    server_of_tornado,
    system_tells,
    to_open,
    to_print,
    unknown_host,
    visitor_of_asgi,
    visitor_of_tornado,
    why_closed,
)
from jobkit.model import JobkitError
from jobkit.settings import Settings
from jobkit.ui.bounded_server import BoundedServer
from jobkit.ui.words.theme import Theme, ground

logger = logging.getLogger("jobkit.ui")
_embedded = logging.getLogger("jobkit.embedded")

#: Seconds for the headers of a request, also between two requests of one connection, and for its body.
HEADER_S = BODY_S = 60.0

#: Largest body of a request in bytes. The API has a separate limit; pages send by their websocket.
BODY_BYTES = 2 * 2**20

#: Name under which a request keeps its visitor.
_VISITOR = "jobkit_visitor"

#: Name under which a request keeps whether its server has the modules of components.
_MODULES = "jobkit_modules"

#: Seconds after which a browser reloads a page whose program could not reach what it needs.
RETRY_S = 3

#: Seconds that a document waits for its data, at most, and how many may wait at a time: all that others ask for
#: meanwhile is made before, so of a crowd few wait.
HOLD_S, HELD_MOST = 0.25, 2

#: Those that wait.
_holding: set[Future[None]] = set()

#: Applications that have made a session, or whose first visitor has seen the skeleton.
_begun: WeakSet[ApplicationContext] = WeakSet()

#: Errors of page programs that are in the log already.
_logged: set[str] = set()

#: Sender of the request that the current task of a FastAPI server handles.
_asgi_sender: ContextVar[RequestSender | None] = ContextVar("jobkit_sender", default=None)

#: Who may put a page into a frame.
FRAMES = "frame-ancestors 'self'"

#: Policy of a page with nothing but components of jobkit: no script, request, frame or form of another host, and no
#: `eval`. Scripts have no nonces: the frames of HTML artifacts and figures inherit the policy, and run inline scripts.
#: Panel loads components from `blob:`.
CLOSED = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; frame-src 'none'; object-src 'none'; base-uri 'none'; "
    f"form-action 'self'; {FRAMES}"
)

#: Further headers of pages.
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}

#: Name under which a handler keeps the note about its session.
_NOTE = "_jobkit_note"


def rest_provider(_files: list[str], _endpoint: str) -> list[Any]:
    """Give no routes. Panel loads the providers of this group when it starts to serve, which is why there is one."""
    return []


# -- sessions ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Note:
    """jobkit's note about a session.

    Attributes:
        own_for: settings, if it was opened to the server's own person: no other visitor may join it later.
        refusal: makes the error to raise instead of giving it to anyone.
        policy: its content security policy; "" if the program shows nothing of jobkit.
        held: done when its document can be sent.
    """

    own_for: Settings | None = None
    refusal: Callable[[], SessionRefused] | None = None
    policy: str = ""
    held: Future[None] | None = None


_notes: WeakKeyDictionary[Document, _Note] = WeakKeyDictionary()

_templates = Loader(str(Path(__file__).parent))


class OtherPage(tornado.web.HTTPError):
    """A visitor gets a page of this folder instead of a session.

    Args:
        status: of the reply.
        name: file of the page, a template with `values` and `theme`: "light", "dark", or "" for the system's.
        scripts: source of its scripts, as a content security policy writes it.
    """

    def __init__(self, status: int, name: str, *, scripts: str = "'none'", **values: Any) -> None:
        super().__init__(status)
        self.name, self.values = name, values
        self.policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {scripts}; {FRAMES}"


class SessionRefused(OtherPage):
    """A visitor gets a page with a sentence instead of a session.

    Args:
        title, sentence, lines: what the page shows; text in backticks and `lines` are commands or settings.
        status: of the reply.
        reload_s: seconds until the page reloads; 0 for never.
    """

    def __init__(
        self, title: str, sentence: str, lines: Sequence[str] = (), *, status: int = 403, reload_s: int = 0
    ) -> None:
        values = {"title": title, "sentence": sentence, "lines": lines, "reload_s": reload_s, "home": ""}
        super().__init__(status, "refused.html", scripts="'unsafe-inline'" if reload_s else "'none'", **values)


class UnknownPage(tornado.web.RequestHandler):
    """An address that the server does not have: a page with a link to the dashboard."""

    def prepare(self) -> None:
        path, home = f"/{self.request.path.lstrip('/')}", f"{getattr(self.application, 'prefix', '')}/"
        sentence = f"This server has no page `{path}`."
        raise OtherPage(404, "refused.html", title="Not found", sentence=sentence, lines=(), reload_s=0, home=home)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        _write_error(tornado.web.RequestHandler.write_error, self, status_code, **kwargs)


def decide_here(settings: Settings) -> AccessDecision | None:
    """Decide whether the current session is of the server's own person; None outside of any session of a server."""
    document: Any = state.curdoc
    context = document.session_context if document is not None else None
    if context is None:
        return None
    # One that the server made ahead (`--warm`) has no request. Only the server's own person may come to it.
    decision = OWN if context.request is None else _decide(context.request, settings)
    if decision.is_own:
        note = _notes.setdefault(document, _Note())
        note.own_for, note.policy = settings, note.policy or FRAMES
    return decision


def login_name() -> str:
    """Return the name with which the visitor of the current session has logged in; "" without a session or login."""
    if getattr(state.curdoc, "session_context", None) is None:
        return ""
    return str(state.user or "").strip('"')[:200]


def set_policy(policy: str, document: Document | None = None) -> None:
    """Set the content security policy of a document, by default that of the current session: `FRAMES` or `CLOSED`."""
    if (document := document or state.curdoc) is not None:
        _notes.setdefault(document, _Note()).policy = policy


def hold_page(component: Any, name: str) -> None:
    """Keep the document of the current session until a parameter of a component is set, `HOLD_S` at most: the browser
    then draws what the document has. From then on, only changes reach it."""
    if (document := state.curdoc) is not None and not getattr(component, name):
        held: Future[None] = Future()
        _notes.setdefault(document, _Note()).held = held
        component.param.watch(lambda _: None if held.done() else held.set_result(None), name)


def refuse(title: str, sentence: str, lines: Sequence[str] = (), *, status: int = 403, reload_s: int = 0) -> None:
    """Reply to the request for the current session with a page, and no session; see `SessionRefused`."""
    if (document := state.curdoc) is not None:
        refusal = partial(SessionRefused, title, sentence, lines, status=status, reload_s=reload_s)
        _notes.setdefault(document, _Note()).refusal = refusal


def _settings() -> Settings:
    """Return the settings; if they cannot be read, which a page says, only how others reach this server."""
    try:
        return Settings.load()
    except JobkitError:
        return Settings(public_url=os.environ.get("JOBKIT_PUBLIC_URL", ""))


def sentence_of(decision: AccessDecision) -> str:
    return f"{decision.why[:1].upper()}{decision.why[1:]}."


def _decide(request: Any, settings: Settings) -> AccessDecision:
    """Decide by the request that came. What a session shows as its request may come from the browser's session token,
    which is not signed unless the server says so: headers and cookies of that prove nothing."""
    visitor = _noted(request, _VISITOR)
    if not isinstance(visitor, RequestSender):  # a server that is not Panel's on Tornado
        return AccessDecision(False, "this server has no login")
    return decide(replace(visitor, server=visitor.server.configured(settings)))


def _remember(handler: Any) -> None:
    """Keep who sent a request; a websocket cannot be asked for its connection later."""
    setattr(handler.request, _VISITOR, visitor_of_tornado(handler.request, handler.application))
    setattr(handler.request, _MODULES, packed.is_served(handler))


def _noted(request: Any, name: str) -> Any:
    """Return what `_remember` has kept under a name, else None."""
    try:
        return getattr(request, name, None)
    except KeyError:  # requests of bokeh-django have the items of a dictionary
        return None


def modules_prefix() -> str | None:
    """Return what to put in front of the address of a module in the current session; None if the server has none.

    None also for a page of another server that this one's is put into: relative addresses lead to that one.
    """
    context = getattr(state.curdoc, "session_context", None)
    request: Any = context.request if context is not None else None
    if not _noted(request, _MODULES) or str(getattr(request, "path", "")).endswith("/autoload.js"):
        return None
    origin = request.headers.get("Origin", "")  # of a websocket, whose window had another session before
    if origin and urlsplit(origin).netloc.lower() != request.host.lower():
        return None
    return f"{state.rel_path}/" if state.rel_path else "./"


def _check(document: Document, request: Any) -> None:
    """Raise SessionRefused if the sender of `request` may not have the session of `document`."""
    note = _notes.get(document)
    if note is None:
        return
    if note.refusal is not None:
        raise note.refusal()
    if note.own_for is not None and not (decision := _decide(request, note.own_for)).is_own:
        raise SessionRefused("No access", sentence_of(decision))


class _Scope(dict[str, Any]):
    """Scope of an ASGI request, with the attributes that jobkit uses of Tornado's requests."""

    @property
    def headers(self) -> HTTPHeaders:
        return HTTPHeaders({name.decode("latin-1"): value.decode("latin-1") for name, value in self["headers"]})


async def _create_session(old: Any, self: Any, session_id: Any, request: Any = None, token: Any = None) -> Any:
    """Check the visitor of each page and each websocket before it gets its session, new or not."""
    _begun.add(self)
    if isinstance(request, dict):  # the scope of a websocket of FastAPI
        request = _Scope(request)
    sender = getattr(request, _VISITOR, None) or _asgi_sender.get()
    if sender is not None and request is not None:
        setattr(request, _VISITOR, sender)
        if sender.connection.is_local and not sender.server.has_login:
            _ = sender.connection.uid  # while it is open: a page may ask who opened it when it has been closed
    session = await old(self, session_id, request, token)
    if request is None or "Upgrade" not in request.headers:  # else its window may be older, of another session
        patch.know_components(session.document)
    if request is not None:
        try:
            _check(session.document, request)
        except SessionRefused:
            if not session.connection_count:
                session.request_expiration()
            raise
    return session


async def _get_session(old: Any, self: Any) -> Any:
    if _is_first_visit(self):
        _begun.add(self.application_context)
        look = ground(Theme.read({}), _theme_of(self))
        raise OtherPage(200, "skeleton.html", scripts="'unsafe-inline'", look=look)
    self.set_header("Cache-Control", "no-store")  # it has jobs, which stay visible after a logout; Panel 1.9.0 lacks it
    session = await old(self)
    if (note := _notes.get(session.document)) is not None:
        _check(session.document, self.request)  # `--reuse-sessions` gives the session of another visitor
        setattr(self, _NOTE, note)
        if note.held is not None and len(_holding) < HELD_MOST:
            _holding.add(note.held)
            session.block_expiration()  # no browser is connected yet, and a busy server may take long
            try:
                await asyncio.wait([asyncio.wrap_future(note.held)], timeout=HOLD_S)
            finally:
                session.unblock_expiration()
                _holding.discard(note.held)
    return session


def _write_page(old: Any, self: Any, page: Any) -> None:
    """Send a page with the policy that its document has once it is drawn."""
    note: _Note | None = getattr(self, _NOTE, None)
    if note is not None and note.policy:
        for name, value in {**_HEADERS, "Content-Security-Policy": note.policy}.items():
            self.set_header(name, value)
    packed.write_page(old, self, page)


def _theme_of(handler: Any) -> str:
    """Return what the switch of the dashboard's header was set to in this browser: "light", "dark", or "" if never."""
    theme: str = handler.get_cookie("jobkit-theme", "")
    return theme if theme in ("light", "dark") else ""


def _is_first_visit(handler: Any) -> bool:
    """Return whether a browser opens a dashboard whose program has not run yet.

    That takes seconds: it loads most of jobkit and may start a server. So the browser gets the skeleton at once, asks
    for the page again immediately, and shows the skeleton until it has it.
    """
    context = handler.application_context
    return (
        context not in _begun
        and handler.request.headers.get("Sec-Fetch-Dest") in ("document", "iframe")
        and any("Dashboard" in source and "jobkit" in source for source in patch.page_sources([context]))
    )


def _explain_failure(old: Any, handler: Any, module: Any, error: Exception) -> None:
    """Say on the page why its program failed, if that is an error of jobkit: what is missing, and how to get it."""
    if not isinstance(error, JobkitError) or state.curdoc is None:
        old(handler, module, error)
        return
    if str(error) not in _logged:
        _logged.add(str(error))
        logger.error("%s; open pages try again every %d s", error, RETRY_S)
    decision = decide_here(_settings())
    sentence = f"{str(error)[:1].upper()}{str(error)[1:]}."
    if decision is not None and not decision.is_own:
        sentence = "The log of this server says why."
    refuse("The dashboard cannot start", sentence, status=503, reload_s=RETRY_S)


def _check_host(handler: Any) -> None:
    """Refuse a page or websocket under a name that the API refuses, too."""
    host, server = handler.request.host, server_of_tornado(handler.application)
    if not is_own_host(host, server.names) and not is_own_host(host, server.configured(_settings()).hosts):
        raise SessionRefused("Unknown address", f"{unknown_host(host)}.", status=421)


async def _check_page(_old: Any, self: Any, *_: Any) -> None:
    """Answer a HEAD request, with which an open page checks whether its server is back."""


async def _prepare(old: Any, self: Any) -> None:
    _check_host(self)
    _remember(self)
    await old(self)
    if isinstance(self, WSHandler) and self.current_user is None:  # as newer Panel does, before the connection is made
        raise tornado.web.HTTPError(403)
    if self.request.method == "GET" and not patch.is_finished(self) and TOKEN_FIELD in self.request.query_arguments:
        _take_token(self)


def _take_token(handler: Any) -> None:
    """Give a browser that brings the token of the printed address a cookie for it, and the address without it."""
    token = handler.get_query_argument(TOKEN_FIELD, "")
    if not is_access_token(token):
        return
    if _decide(handler.request, _settings()).needs_token:
        handler.set_cookie(
            cookie_name(of_tornado(handler.request)),
            access_cookie(),
            path=getattr(handler.application, "prefix", "") or "/",
            httponly=True,
            samesite="Lax",
            secure=handler.request.protocol == "https",
        )
    others = {name: values for name, values in handler.request.query_arguments.items() if name != TOKEN_FIELD}
    path = f"/{handler.request.path.lstrip('/')}"
    handler.request.uri = path  # for the access log
    handler.redirect(f"{path}?{urlencode(others, doseq=True)}".rstrip("?"))


def _redirect(old: Any, self: Any, url: str, *args: Any, **options: Any) -> None:
    """Keep the query of `/?job=...` on the way to the server's only page; browsers keep what is after "#"."""
    is_page = any(url.endswith(path) for path in self.applications if path != "/")
    old(self, f"{url}?{self.request.query}" if is_page and self.request.query else url, *args, **options)


def _write_error(old: Any, self: Any, status: int, **options: Any) -> None:
    error = (options.get("exc_info") or (None, None))[1]
    if not isinstance(error, OtherPage):
        old(self, status, **options)
        return
    self.set_header("Content-Type", "text/html; charset=utf-8")
    self.set_header("Cache-Control", "no-store")
    for name, value in {**_HEADERS, "Content-Security-Policy": error.policy}.items():
        self.set_header(name, value)
    self.finish(_templates.load(error.name).generate(**error.values, theme=_theme_of(self)))


async def _open_websocket(old: Any, self: Any, token: str) -> Any:
    try:
        return await old(self, token)
    except SessionRefused:
        self.close(1008, "no access")


def _check_origin(old: Any, self: Any, origin: str) -> bool:
    """As newer Tornado does, take a page from the host that it connects to, which may be a forwarded port."""
    return urlsplit(origin).netloc.lower() == self.request.host.lower() or bool(old(self, origin))


async def _get_fastapi_session(old: Any, self: Any, request: Any, session_id: Any) -> Any:
    """Keep who sent a request for a page to a FastAPI server: Panel hands on another request."""
    _asgi_sender.set(visitor_of_asgi(request.scope))
    try:
        return await old(self, request, session_id)
    except SessionRefused as refused:
        exceptions = import_module("starlette.exceptions")
        raise exceptions.HTTPException(refused.status_code, refused.values["sentence"]) from None


async def _open_fastapi_websocket(old: Any, self: Any, socket: Any, token: str) -> Any:
    _asgi_sender.set(visitor_of_asgi(socket.scope))
    try:
        return await old(self, socket, token)
    except SessionRefused:
        await socket.close(1008)
        raise


# -- other routes ------------------------------------------------------------------------------------------------------


def _find_component(old: Any, self: Any, path: str) -> Any:
    """Give the files of `module/Class/...` if that is a component of a loaded module. A request must load nothing:
    neither a module, nor what a module loads when it is asked for a name."""
    module, name, *_ = [*path.split("/"), "", ""]
    found = vars(sys.modules.get(module) or object).get(name)
    if not (isinstance(found, type) and issubclass(found, param.Parameterized | Model)):
        raise tornado.web.HTTPError(404)
    return old(self, path)


async def _require_login(_old: Any, self: Any) -> None:
    """Let those in who are logged in, if the server asks for a login."""
    if not await _is_logged_in(self):
        raise tornado.web.HTTPError(403)


async def _check_liveness(_old: Any, self: Any) -> None:
    """`/liveness?endpoint=...` runs a page's code: only for those who may see the page."""
    if self.get_query_argument("endpoint", ""):
        _remember(self)
        is_open = server_of_tornado(self.application).has_login or _decide(self.request, _settings()).is_own
        if not (is_open and await _is_logged_in(self)):
            raise tornado.web.HTTPError(403)


async def _is_logged_in(handler: Any) -> bool:
    provider = handler.application.auth_provider
    if provider.get_user_async is not None:
        return bool(await provider.get_user_async(handler))
    return provider.get_user is None or bool(provider.get_user(handler))


# -- the server itself -------------------------------------------------------------------------------------------------


def _make_http_server(old: Any, application: Any, **options: Any) -> Any:
    """Give Tornado's server time-outs and a bound for bodies, if it serves jobkit; options that are given hold."""
    if not serves_jobkit(application):
        return old(application, **options)
    packed.add_routes(application)
    application.settings.setdefault("default_handler_class", UnknownPage)
    bounds = {"idle_connection_timeout": HEADER_S, "body_timeout": BODY_S, "max_body_size": BODY_BYTES}
    return BoundedServer(application, **{**bounds, **options})


def serves_jobkit(application: Any) -> bool:
    """Return whether a server of Bokeh's has pages with jobkit: its code is loaded, or a page's text names it."""
    if "jobkit.http" in sys.modules or "jobkit.ui.access.session" in sys.modules:
        return True
    contexts = getattr(application, "applications", {}).values()
    return any("jobkit" in source for source in patch.page_sources(contexts))


def _needs_token(server: Any) -> bool:
    application = patch.application_of(server)
    if server.port is None or not serves_jobkit(application):
        return False
    return not why_closed(server_of_tornado(application).configured(_settings())) and not system_tells()


def _show(old: Any, self: Any, app_path: str, browser: str | None = None, new: Any = "tab") -> None:
    if not _needs_token(self):
        old(self, app_path, browser, new)
        return
    try:
        # Not by Bokeh's own way: that makes a path of what is no http address.
        webbrowser.get(browser).open(to_open(f"{_base(self)}{app_path}"))
    except (JobkitError, webbrowser.Error) as error:
        logger.error("%s", error)


def _start(old: Any, self: Any) -> None:
    if serves_jobkit(patch.application_of(self)):
        _embedded.setLevel(_embedded.level or logging.INFO)  # it logs its start, and how to stop it
    old(self)
    if address := os.environ.pop(ADDRESS_VARIABLE, ""):
        print(address, file=sys.stderr, flush=True)
    if _needs_token(self) and not tornado.process.task_id():
        try:
            for path in patch.application_of(self).applications:
                print(f"jobkit: open {to_print(_base(self) + path)}", flush=True)
        except JobkitError as error:
            logger.error("%s", error)


def _base(server: Any) -> str:
    scheme = "https" if patch.is_https(server) else "http"
    return f"{scheme}://{server.address or 'localhost'}:{server.port}{server.prefix}"


#: What is replaced in Panel's and Bokeh's server: owner, name, and what takes its place; see `patch.replace_methods`.
HOOKS: list[tuple[Any, str, Callable[..., Any]]] = [
    (ApplicationContext, "create_session_if_needed", _create_session),
    (panels_server.DocHandler, "get_session", _get_session),
    (panels_server.DocHandler, "head", _check_page),
    (AuthRequestHandler, "prepare", _prepare),
    (AuthRequestHandler, "write_error", _write_error),
    (panels_server.RootHandler, "redirect", _redirect),
    (panels_server.DocHandler, "write", _write_page),
    (StaticHandler, "get", packed.get_file),
    (MultiRootStaticHandler, "get", packed.get_file),
    (panels_server.ComponentResourceHandler, "get", packed.get_file),
    (WSHandler, "check_origin", _check_origin),
    (WSHandler, "_async_open", _open_websocket),
    (panels_server.WSHandler, "_async_open", _open_websocket),
    (panels_server.ComponentResourceHandler, "parse_url_path", _find_component),
    (panels_server.ComponentResourceHandler, "prepare", _require_login),
    (import_module("panel.io.rest").BaseHandler, "prepare", _require_login),  # which loads `rest_provider` from here
    (LivenessHandler, "prepare", _check_liveness),
    (bokeh.server.server, "HTTPServer", _make_http_server),
    (BaseServer, "show", _show),
    (BaseServer, "start", _start),
]
if hasattr(handlers, "autoreload_handle_exception"):  # else the error is in the log alone
    HOOKS.append((handlers, "autoreload_handle_exception", _explain_failure))
if (session_info := getattr(panels_server, "SessionInfoHandler", None)) is not None:  # from Panel 1.10 on
    HOOKS.append((session_info, "prepare", _require_login))

if "fastapi" in sys.modules and find_spec("bokeh_fastapi"):  # Panel's pages may be a part of a FastAPI server
    fastapi: Any = import_module("panel.io.fastapi")
    HOOKS.append((fastapi.BkSessionHandler, "get_session", _get_fastapi_session))
    HOOKS.append((fastapi.WSHandler, "_async_open", _open_fastapi_websocket))

patch.replace_methods(HOOKS)
settings.session_user = login_name
