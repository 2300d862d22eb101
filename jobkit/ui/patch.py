"""All private names of Panel and Bokeh that `jobkit.ui` uses, in one file, except `panel_server.HOOKS`.

Two needs have no public way. Texts go to a browser as Bokeh's own message, past param, Panel and the document: with 20
sessions, a tenth of the cost. And Panel's server has no hooks for who may have a session, which files `/components`
serves, and which address `--show` opens.

Each function says what happens without its private names: texts then go the public way, slower; a hook of the server
that is gone stops the start, since pages would be open without it. `tests/ui/test_patch.py` fails when a release of
Panel or Bokeh changes any of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import struct
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, lru_cache, partial, wraps
from itertools import count
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary, WeakSet

import panel as pn
from bokeh.document import Document
from bokeh.document.events import DocumentPatchedEvent, ModelChangedEvent
from bokeh.models import CustomJS, ImportedStyleSheet
from bokeh.server.session import ServerSession
from bokeh.server.views.static_handler import StaticHandler
from bokeh.server.views.ws import WSHandler
from panel.io import document as panel_document
from panel.io import notebook
from panel.io.model import diff
from panel.io.resources import DIST_DIR, LOCAL_DIST
from panel.io.state import set_curdoc
from panel.pane.base import Pane
from panel.reactive import Reactive, Syncable, SyncableData
from panel.viewable import MimeRenderMixin
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError

from jobkit.runners import Runners

logger = logging.getLogger("jobkit.ui")

#: Messages on their way.
_sendings = Runners()


# -- sessions ----------------------------------------------------------------------------------------------------------


def session_of(document: Any) -> Any:
    """Return the server's session of a document; None outside a server, and before the session exists."""
    return getattr(document.session_context if document is not None else None, "session", None)


def loop_of(document: Any) -> asyncio.AbstractEventLoop | None:
    """Return the loop of a session's server; None before the session exists, and if the server is not Tornado's.

    Not the running loop: from Panel 1.10 on, a page is made in a thread.
    """
    loop: asyncio.AbstractEventLoop | None = getattr(getattr(session_of(document), "_loop", None), "asyncio_loop", None)
    return loop


def sockets_of(document: Any) -> list[WSHandler] | None:
    """Return the websockets of a session; [] while no browser is connected; None if texts must go the public way: the
    server is not Bokeh's on Tornado, or this release is not known."""
    session = session_of(document)
    if session is None:
        return []
    try:
        sockets = [connection._socket for connection in session._subscribed_connections]
    except AttributeError:
        return None
    return sockets if all(isinstance(socket, WSHandler) for socket in sockets) else None


def is_ready(document: Any) -> bool:
    """Return whether the browser has said that it has the document; False if this release is not known."""
    return bool(getattr(pn.state, "_connected", {}).get(document))


def models_of(component: Any) -> list[Any] | None:
    """Return the Bokeh models that show a component; None if this release is not known."""
    models = getattr(component, "_models", None)
    return None if models is None else [model for model, _ in list(models.values())]


# -- changes of a document ---------------------------------------------------------------------------------------------


def frame(text: bytes) -> bytes:
    """Return a text as one frame of a websocket, as a server writes it without compression."""
    size = len(text)
    if size < 126:
        return bytes((0x81, size)) + text
    return (struct.pack("!BBH", 0x81, 126, size) if size < 1 << 16 else struct.pack("!BBQ", 0x81, 127, size)) + text


#: The first two of the three fragments of each message in Bokeh's protocol.
_HEADER, _METADATA = b'{"msgid":"jobkit","msgtype":"PATCH-DOC"}', b"{}"
_HEAD = frame(_HEADER) + frame(_METADATA)


@lru_cache(maxsize=16)
def literal(text: str) -> bytes:
    """Return a text as a JSON string. All sessions of a page get the same texts, one session after the other."""
    return json.dumps(text, ensure_ascii=False).encode()


def changes(component: Any, values: Mapping[str, str]) -> Iterable[bytes]:
    """Yield Bokeh's events for new texts in a component's properties in the browser."""
    for model in models_of(component) or ():
        if model.document is None:  # not on the page any more
            continue
        for name, text in values.items():
            head = f'{{"kind":"ModelChanged","model":{{"id":"{model.data.id}"}},"attr":"{name}","new":'
            yield b"%b%b}" % (head.encode(), literal(text))


def send(socket: WSHandler, events: bytes) -> Coroutine[Any, Any, None] | None:
    """Send one PATCH-DOC message to a browser, if it can be reached.

    Returns what to await until a slow one has taken it, None if it has. Tornado's own way makes a task and a system
    call for each of the three fragments: with 20 sessions, most of the cost of an update.
    """
    try:
        rest = _write(socket, b'{"events":[%b]}' % events)
    except (WebSocketClosedError, StreamClosedError):  # Bokeh sees it as well
        return None
    except Exception:
        logger.debug(_UNREACHED, exc_info=True)
        return None
    return None if rest is None else _taken(rest)


_UNREACHED = "a browser could not be reached"


def _write(socket: WSHandler, content: bytes) -> Awaitable[None] | None:
    """Write a message to one browser; return what is left to await."""
    protocol: Any = socket.ws_connection
    if protocol is None or protocol.is_closing():
        return None
    is_free = getattr(getattr(socket.write_lock, "_block", None), "_value", 0)
    if not is_free or getattr(protocol, "_compressor", socket) is not None:
        return _write_fragments(socket, content)
    written: asyncio.Future[None] = protocol.stream.write(_HEAD + frame(content))
    return None if written.done() else written


async def _write_fragments(socket: WSHandler, content: bytes) -> None:
    async with socket.write_lock:
        for fragment in (_HEADER, _METADATA, content):
            await socket.write_message(fragment.decode(), locked=False)


async def _taken(rest: Awaitable[None]) -> None:
    try:
        await rest
    except (WebSocketClosedError, StreamClosedError):
        pass
    except Exception:
        logger.debug(_UNREACHED, exc_info=True)


@contextmanager
def batch_changes(document: Any) -> Iterator[None]:
    """Send all document changes of a session callback as one message, when the callback ends.

    Panel writes each change itself while the callback runs, and keeps those that it cannot write yet for a coroutine.
    One that is kept just as the coroutine before it ends is written with the next change, and if there is no next one,
    never (`panel.io.document._dispatch_msgs` removes a mark after an `await` that the next change has set meanwhile;
    measured: 6 of 450 bursts beside a busy table). Panel leaves a document alone that is held.

    No-op for None, outside a session, if the document is held already, and if this release is not known.
    """
    session = session_of(document)
    is_known = hasattr(session, "_loop") and hasattr(session, "_subscribed_connections")
    if not is_known or document.callbacks.hold_value or not hasattr(document.callbacks, "_held_events"):
        yield
        return
    if not (_is_on_loop() or session._loop):
        yield
        return
    document.hold("collect")
    try:
        yield
    finally:
        callbacks = document.callbacks
        events, callbacks._held_events = list(callbacks._held_events), []
        callbacks.unhold()
        for event in events:
            if not isinstance(event, DocumentPatchedEvent):  # a callback that was added or removed
                callbacks.trigger_on_change(event)
        send_changes(session, [event for event in events if isinstance(event, DocumentPatchedEvent)])


def send_changes(session: Any, events: list[Any]) -> None:
    """Write changes to the browsers of a session alone.

    Panel listens to the models on the server, too, and takes what it hears there for a request of a browser.
    """
    for connection in getattr(session, "_subscribed_connections", ()) if events else ():
        message = connection.protocol.create("PATCH-DOC", events)
        if _is_on_loop():
            _send(session.document, connection, message)
        else:  # from Panel 1.10 on, callbacks run in a thread
            session._loop.add_callback(_send, session.document, connection, message)


def _send(document: Any, connection: Any, message: Any) -> None:
    """Write a message behind those that Panel keeps for a coroutine: they may bring the models that it names."""
    kept = getattr(panel_document, "_WRITE_MSGS", {}).get(document, {}).pop(connection, [])
    for each in (*kept, message):
        _sendings.run(connection._socket.send_message(each))


#: Documents that a browser has.
_pulled: WeakSet[Document] = WeakSet()


async def _pull(old: Callable[..., Any], self: ServerSession, *args: Any) -> Any:
    """Give a browser the document of a session. It brings the definitions of all component classes: models that name
    one in `_defs`, too, would break a page that has reconnected. For that page its first root has the tag "kept"."""
    await self.with_document_locked(_drop_definitions, self.document)  # type: ignore[misc]  # Bokeh makes it a coroutine
    reply = await old(self, *args)
    if self.document in _pulled:  # by a page that has reconnected; it takes no arrays beside the document
        whole = await self.with_document_locked(self.document.to_json, deferred=False)  # type: ignore[misc]
        for root in whole["roots"][:1]:
            root["attributes"]["tags"] = [*root["attributes"].get("tags", []), "kept"]
        reply = type(reply)(reply.create_header(args[0].header["msgid"]), {}, {"doc": whole})
    _pulled.add(self.document)
    return reply


def _drop_definitions(document: Document) -> None:
    for model in document.models:
        if getattr(model, "_defs", None):
            model._defs = []  # type: ignore[attr-defined]  # Panel's


def _keep_events(old: Callable[..., Any], document: Document, lock: Any) -> list[Any]:
    """Return the events of a document to send. Panel drops changes until the browser says that it is ready, which
    is right only until the browser has pulled the document: what a click before that moment adds would stay unseen."""
    if document not in _pulled:
        return list(old(document, lock))
    with lock:
        events, document.callbacks._held_events = list(document.callbacks._held_events), []
        document.callbacks._hold = None
    return events


#: What is replaced in Bokeh's session and Panel's document; without, clicks on a page that loads may have no effect.
SESSION_HOOKS: list[tuple[Any, str, Callable[..., Any]]] = [
    (ServerSession, "_handle_pull", _pull),
    (panel_document, "_drain_unconnected_events", _keep_events),
]


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# -- documents of a notebook -------------------------------------------------------------------------------------------

#: Held while a document of a notebook changes and its changes are written, each of them as several messages. Not while
#: code of users runs, which may wait for another thread.
_documents = threading.RLock()

#: Seconds to wait for the lock, at most: an update that may be mixed with another one is better than none.
_LOCK_S = 5.0

#: Comms of outputs that the browser does not show yet.
_unshown: WeakSet[Any] = WeakSet()

#: Seconds between two questions whether the browser shows an output.
_QUESTION_S = 0.1

#: Number of questions after which changes are sent without an answer.
_QUESTIONS = 600

#: The calls of users' code that a message of a browser has led to in this thread; they come after the message.
_waiting = threading.local()


@contextmanager
def alone() -> Iterator[None]:
    """Change documents of a notebook in one thread at a time; no-op in the session of a server."""
    is_free = getattr(pn.state.curdoc, "session_context", None) is not None or not _documents.acquire(timeout=_LOCK_S)
    try:
        yield
    finally:
        if not is_free:
            _documents.release()


def _change_alone(old: Callable[..., Any], *args: Any, **options: Any) -> Any:
    with alone():
        return old(*args, **options)


class _Probe:
    """Stands for Panel's location of an output: asks the browser until it answers that it shows the output.

    Panel's comm opens before, and the browser drops all changes that arrive in between.
    """

    def _get_model(self, doc: Any, root: Any, parent: Any, comm: Any) -> Any:
        manager = doc.roots[-1]
        question = ModelChangedEvent(doc, manager, "timeout", manager.timeout + 1)
        _unshown.add(comm)

        def shown() -> None:
            _unshown.discard(comm)
            _call_later(notebook.push, doc, comm)

        def ask(left: int = _QUESTIONS) -> None:
            if comm not in _unshown:
                return
            if not left or not _is_on_loop():
                return shown()
            with alone():
                if message := diff(doc, events=[question]):
                    notebook.send(comm, message)
            asyncio.get_running_loop().call_later(_QUESTION_S, ask, left - 1)

        def init(*args: Any) -> None:
            del comm.init
            comm.init(*args)
            ask()

        manager.js_on_change("timeout", CustomJS(code="cb_obj.name = 'shown'"))
        manager.on_change("name", lambda attr, old, new: shown())
        comm.init = init
        return manager


def _render(old: Callable[..., Any], self: Any, model: Any, doc: Any, comm: Any, location: Any = None) -> Any:
    with alone():
        return old(self, model, doc, comm, location or _Probe())


def _push(old: Callable[..., Any], doc: Any, comm: Any, binary: bool = True, msg: Any = None) -> None:
    """Write all changes of a document, as soon as the browser shows the output.

    Panel would make the message at once and repeat it on the loop of this thread, which may never run.
    """
    if msg is not None or (comm._comm and comm not in _unshown):
        _change_alone(old, doc, comm, binary, msg)
    elif comm not in _unshown and "init" not in vars(comm):  # the output of another program than Panel

        def init(*args: Any) -> None:
            del comm.init
            comm.init(*args)
            notebook.push(doc, comm, binary)

        comm.init = init


def _take_message(old: Callable[..., Any], self: Any, ref: str, *args: Any) -> None:
    """Apply what a browser has sent, then call the code of users that waits for it.

    Panel drops all changes that wait in the document meanwhile, which may be those of other threads, and Bokeh takes
    the new models in them for known to the browser.
    """
    before, calls = getattr(_waiting, "calls", None), list[Callable[[], object]]()
    with alone():
        document = pn.state._views[ref][2]
        callbacks, models = document.callbacks, document.models
        unsent = set(getattr(models, "_new_models", ()))
        held, callbacks._held_events, _waiting.calls = callbacks._held_events, [], calls
        try:
            old(self, ref, *args)
        finally:
            callbacks._held_events, _waiting.calls = [*held, *callbacks._held_events], before
            if unsent:
                models._new_models |= unsent
    for call in calls:
        call()


def _call_later(old: Callable[..., Any], *args: Any) -> None:
    calls: list[Callable[[], object]] | None = getattr(_waiting, "calls", None)
    if calls is None:
        old(*args)
    else:
        calls.append(partial(old, *args))


#: What is replaced in Panel for notebooks, see `replace_methods`; without these names, updates there may get lost.
NOTEBOOK_HOOKS: list[tuple[Any, str, Callable[..., Any]]] = [
    (Syncable, "_apply_update", _change_alone),
    (Syncable, "_update_manual", _change_alone),
    (Syncable, "_comm_change", _call_later),
    (Syncable, "_comm_event", _call_later),
    (Reactive, "_send_event", _change_alone),
    (SyncableData, "_stream", _change_alone),
    (SyncableData, "_patch", _change_alone),
    (Pane, "_update_pane", _change_alone),
    (MimeRenderMixin, "_render_mimebundle", _render),
    (MimeRenderMixin, "_on_msg", _take_message),
    *(
        (module, "push", _push)
        for name, module in sorted(sys.modules.items())
        if name.startswith("panel.") and vars(module).get("push") is notebook.push
    ),
]


class PlainSheets:
    """Mixed into a layout or component of Panel, before it: drops the style sheets that only Panel asked for.

    Without this name a page shows the same, but requests style sheets that it does not need.
    """

    def _process_param_change(self, params: dict[str, Any]) -> dict[str, Any]:
        properties: dict[str, Any] = super()._process_param_change(params)  # type: ignore[misc]  # the component's
        if "stylesheets" in properties:
            asked = {*pn.config.css_files, *map(str, self.stylesheets)}  # type: ignore[attr-defined]  # the component's
            properties["stylesheets"] = [
                sheet
                for sheet in properties["stylesheets"]
                if not isinstance(sheet, ImportedStyleSheet) or str(sheet.url) in asked
            ]
        return properties


class MainPart:
    """Mixed into a layout of Panel, before it: marks the main part of a page, to which screen readers skip.

    Without this name a page shows the same, without the mark.
    """

    def _get_properties(self, doc: Any) -> dict[str, Any]:
        properties: dict[str, Any] = super()._get_properties(doc)  # type: ignore[misc]  # the layout's
        return properties | {"html_attributes": {"role": "main"}}


#: Parameters that the scripts of components set.
_SET_BY_BROWSERS = frozenset({"beat", "file", "request"})

#: Maximum number of requests of a component that wait.
_REQUESTS_MOST = 50

#: Number of component classes that a document's page knows: those that were there before the page was given out.
_known: WeakKeyDictionary[Document, int] = WeakKeyDictionary()

_numbers = count(1)
_newest = 0


def know_components(document: Document) -> None:
    """Note that the page of a document will know all component classes of this moment; no-op if a browser has it."""
    if not _is_shown(document):
        _known[document] = _newest


class ComponentHooks(PlainSheets):
    """Mixed into a component of `panel.custom`, before it: methods that Panel calls by private names.

    Without these names a page shows the same, but gets the script and the sheets of each component with its document,
    and does not show components whose class is newer than the page.
    """

    _number: ClassVar[int] = 0

    #: Requests of the browser that wait, except the newest.
    _requests: tuple[str, ...] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        global _newest
        super().__init_subclass__(**options)
        cls._number = _newest = next(_numbers)

    def _module_url(self) -> str:
        """Return where the browser finds the component's script with its sheets; "" if they go with the document."""
        return ""

    def changing(self) -> AbstractContextManager[object]:
        """Return a context in which a request of the browser changes parameters."""
        return nullcontext()

    def _comm_change(
        self, doc: Any, ref: str, comm: Any, subpath: str | None, attr: str, old: object, new: object
    ) -> None:
        """Take from a notebook's browser only what scripts set there: what Python has set may come here, too, later."""
        if attr in _SET_BY_BROWSERS:
            super()._comm_change(doc, ref, comm, subpath, attr, old, new)  # type: ignore[misc]  # the component's

    def _server_change(self, doc: Any, ref: str, subpath: str | None, attr: str, old: object, new: object) -> None:
        """Keep each request: Panel keeps the newest alone of those that come before a busy server acts on any."""
        if attr == "request" and attr in self._events:  # type: ignore[attr-defined]  # the component's
            self._requests = (*self._requests, self._events[attr])[-_REQUESTS_MOST:]  # type: ignore[attr-defined]
        super()._server_change(doc, ref, subpath, attr, old, new)  # type: ignore[misc]  # the component's

    def _change_event(self, doc: Any) -> None:
        with self.changing(), batch_changes(doc):  # all that the request changes, here and in other components
            requests, self._requests = self._requests, ()
            with set_curdoc(doc):
                for each in requests:
                    self._process_events({"request": each})  # type: ignore[attr-defined]  # the component's
            super()._change_event(doc)  # type: ignore[misc]  # the component's

    def _process_param_change(self, params: dict[str, Any]) -> dict[str, Any]:
        properties = super()._process_param_change(params)
        if "stylesheets" in properties and self._module_url():
            own = {str(sheet) for sheet in self._stylesheets}  # type: ignore[attr-defined]  # the component's
            properties["stylesheets"] = [sheet for sheet in properties["stylesheets"] if sheet not in own]
        return properties

    def _get_properties(self, doc: Any) -> dict[str, Any]:
        properties: dict[str, Any] = super()._get_properties(doc)  # type: ignore[misc]  # the component's
        if url := self._module_url():
            # As of a component with a `_bundle` in a file: Panel takes the class from the module's default export.
            properties.update(esm=url, bundle="url", importmap={})
        # A page gets the definitions of the classes that exist by then. Panel sends the one of a newer class to the
        # first page alone that shows it (`_data_model__initialized`).
        if doc is not None:
            know_components(doc)
        is_needed = doc is not None and self._number > _known.get(doc, 0)
        properties["_defs"] = [self._data_model] if is_needed else []  # type: ignore[attr-defined]  # the component's
        return properties


def _is_shown(document: Any) -> bool:
    """Return whether a browser may have the page of a document: from then on, only changes reach it."""
    return bool(document.roots) if document.session_context is None else sockets_of(document) != []


# -- the scripts of a page ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LeanScripts:
    """Bokeh's core and Panel's models.

    Attributes:
        urls: of the two, relative to the server.
        stand_ins: a script to run between them. Panel's models of widgets and tables are made of Bokeh's, 0.7 MB of
            scripts, and cannot be loaded without them; this script gives empty ones instead. Then none may be shown.
    """

    urls: tuple[str, str]
    stand_ins: str


@cache
def lean_scripts() -> LeanScripts:
    """Return what a document needs for which `is_lean` is true."""
    panels = DIST_DIR / "panel.min.js"
    modules = sorted(set(re.findall(r'"@bokehjs/([\w./]+)"', panels.read_text("utf-8"))))
    bokehs = StaticHandler.append_version("js/bokeh.min.js")
    version = hashlib.sha256(panels.read_bytes()).hexdigest()[:16]
    script = Path(__file__).with_name("stand_ins.js").read_text("utf-8").replace("MODULES", json.dumps(modules))
    return LeanScripts((f"static/{bokehs}", f"{LOCAL_DIST}panel.min.js?v={version}"), script)


def is_lean(document: Any) -> bool:
    """Return whether `lean_scripts` draw all that a document shows, and the program has not asked Panel for more."""
    config = pn.config
    if config.js_files or config.js_modules or config.css_files or config.raw_css or config.notifications:
        return False
    models = {type(model) for root in document.roots for model in root.references()}
    return not any(
        any(base.__module__.startswith("bokeh.models.widgets") for base in model.__mro__)
        or (getattr(model, "__javascript_raw__", None) and model.__module__ != "panel.models.esm")
        for model in models
    )


# -- the server --------------------------------------------------------------------------------------------------------


def replace_methods(hooks: Sequence[tuple[Any, str, Callable[..., Any]]]) -> None:
    """Replace methods once in a process: each by one that is called with the old one before its other arguments.

    Raises:
        AttributeError: this release does not have one of them. Nothing was replaced: pages must not be served without.
    """
    methods = [getattr(owner, name) for owner, name, _ in hooks]
    if hasattr(methods[0], "__wrapped__"):  # a second import of the module
        return
    for (owner, name, change), old in zip(hooks, methods, strict=True):
        setattr(owner, name, _replaced(old, change))


def _replaced(old: Callable[..., Any], change: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(old, updated=())
    def method(*args: Any, **options: Any) -> Any:
        return change(old, *args, **options)

    return method


def application_of(server: Any) -> Any:
    """Return the Tornado application of a server of Bokeh's."""
    return server._tornado


def is_https(server: Any) -> bool:
    """Return whether a server of Bokeh's names an https URL as its own."""
    return str(getattr(server, "_absolute_url", "")).startswith("https:")


def is_finished(handler: Any) -> bool:
    """Return whether a request of Tornado's has its reply."""
    return bool(handler._finished)


def page_sources(contexts: Iterable[Any]) -> list[str]:
    """Return the texts of the programs that a server runs for these pages; "" for one that is not known."""
    handlers = [h for each in contexts for h in each.application.handlers]
    mains = [getattr(handler, "_main_handler", handler) for handler in handlers]  # of a directory
    return [str(getattr(getattr(main, "_runner", None), "source", "")) for main in mains]


replace_methods([hook for hook in (*NOTEBOOK_HOOKS, *SESSION_HOOKS) if hasattr(*hook[:2])])
