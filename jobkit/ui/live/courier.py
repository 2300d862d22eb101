"""Carries texts to the browsers of one server loop, written once however many sessions get them.

What Bokeh would send for `model.data.name = text` is sent here without the way through param, Panel and the document:
measured with 20 sessions, an update costs a tenth of that. So the server's own models do not know these texts; a
browser that comes, or comes back, says what it has and gets the rest (`hello` in common.js).
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from bokeh.server.views.ws import WSHandler
from bokeh.util.serialization import make_id
from tornado.websocket import WebSocketClosedError

T = TypeVar("T")

logger = logging.getLogger("jobkit.ui")

#: Parts that wait for one slow browser; with more, it gets none and asks for the whole.
_BEHIND = 40


class Post:
    """What waits for one component: whole texts, of which only the newest counts, and parts, which all do."""

    def __init__(self) -> None:
        self.whole: dict[str, str] = {}
        self.parts: dict[str, list[str]] = {}

    def add(self, whole: Mapping[str, str], parts: Mapping[str, str], part_of: Mapping[str, str]) -> None:
        """`part_of`: the part that a whole text replaces, as `{"log": "log_append"}`."""
        for name, text in whole.items():
            self.whole[name] = text
            self.parts.pop(part_of.get(name, ""), None)
        for name, text in parts.items():
            waiting = self.parts.setdefault(name, [])
            waiting.append(text)
            if len(waiting) > _BEHIND:
                del waiting[:-1]  # the browser sees the gap

    def values(self) -> dict[str, str]:
        """Texts by the property that takes them; parts as one JSON array, in order."""
        return self.whole | {name: "[" + ",".join(texts) + "]" for name, texts in self.parts.items()}


class Literals(dict[str, str]):
    """Texts to JSON strings; each is written once for all sessions that get it."""

    def __missing__(self, text: str) -> str:
        literal = self[text] = json.dumps(text, ensure_ascii=False)
        return literal


class Courier:
    """Calls on everybody who has something to send, once for all that came in the same moment."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._ready: list[Any] = []

    def fetch(self, sender: Any) -> None:
        """Call `sender.carry(literals)` on the server's loop soon; from any thread."""
        with self._lock:
            self._ready.append(sender)
            if len(self._ready) > 1:
                return
        try:
            self._loop.call_soon_threadsafe(self._go)
        except RuntimeError:  # the server has ended
            self._ready.clear()

    def call(self, function: Callable[[T], object], value: T) -> None:
        """Call `function(value)` on the server's loop soon, in order; from any thread.

        Raises:
            RuntimeError: the server has ended.
        """
        self._loop.call_soon_threadsafe(function, value)

    def _go(self) -> None:
        with self._lock:
            ready, self._ready = self._ready, []
        literals = Literals()
        for sender in ready:
            try:
                sender.carry(literals)
            except Exception:
                logger.exception("a page could not be updated")


_couriers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Courier] = weakref.WeakKeyDictionary()


def courier_of(document: Any) -> Courier | None:
    """The courier of a session's server; None if `loop_of` gives None."""
    loop = loop_of(document)
    if loop is None:
        return None
    return _couriers.get(loop) or _couriers.setdefault(loop, Courier(loop))


def loop_of(document: Any) -> asyncio.AbstractEventLoop | None:
    """The loop of a session's server; None before the session is there, and if the server is not Tornado's.

    The loop is the session's: Panel makes a page in a thread from 1.10 on, so the running one would be no help.
    """
    context = document.session_context
    session = context.session if context is not None else None
    loop: asyncio.AbstractEventLoop | None = getattr(getattr(session, "_loop", None), "asyncio_loop", None)
    return loop


def sockets_of(document: Any) -> list[WSHandler] | None:
    """The browsers of a session, none while it is away; None where this server is not Bokeh's own on Tornado."""
    context = document.session_context
    session = context.session if context is not None else None
    if session is None:
        return []
    sockets = [connection._socket for connection in session._subscribed_connections]
    return sockets if all(isinstance(socket, WSHandler) for socket in sockets) else None


def changes(component: Any, values: Mapping[str, str], literals: Literals) -> Iterable[str]:
    """Bokeh's events for new values of a component's properties in the browser."""
    for model, _ in list(component._models.values()):
        if model.document is None:  # not on the page any more
            continue
        for name, text in values.items():
            yield (
                f'{{"kind":"ModelChanged","model":{{"id":"{model.data.id}"}},"attr":"{name}","new":{literals[text]}}}'
            )


async def send(sockets: Iterable[WSHandler], events: str) -> None:
    """One PATCH-DOC message, in the three fragments of Bokeh's protocol; returns when they are on their way."""
    header = json.dumps({"msgid": make_id(), "msgtype": "PATCH-DOC"})
    for socket in sockets:
        try:
            with await socket.write_lock.acquire():
                for fragment in (header, "{}", f'{{"events":[{events}]}}'):
                    await socket.write_message(fragment, locked=False)
        except WebSocketClosedError:  # Bokeh is told of it as well
            continue
