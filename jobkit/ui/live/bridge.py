"""From jobkit's background loop into one browser session.

Only a session's own callbacks may change its Bokeh document. `SessionBridge.push` runs a function in the session, from
any thread. `put` sends texts to a component in the browser, which costs a tenth: they go as Bokeh's own message, past
param, Panel and the document, and each text is encoded once for all sessions. The server's models do not know these
texts, so a browser that connects or reconnects says what it has and gets the rest (`hello` in common.js).

`BrowserSender.join` sends beats the same way: a browser whose websocket was cut silently, or whose server is frozen,
knows it by the silence (`Pulse` in common.js). Servers other than Bokeh's on Tornado get their texts by param, and no
beats.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import panel as pn

from jobkit.client.loop import background
from jobkit.ui.patch import batch_changes, changes, loop_of, models_of, send, session_of, sockets_of

logger = logging.getLogger("jobkit.ui")

#: Parts that wait for one slow browser. With more, it gets none and asks for the whole.
_BEHIND = 40

#: Components of a page that get its beats, at most. A page may have hundreds of cards.
_HEARERS = 8

#: Seconds between two beats. The browser takes 2.5 s of silence for the end, so a server may be late by 1.75 s.
BEAT_S = 0.75


class PendingUpdate:
    """Texts that wait for one component: the newest whole texts, and all parts."""

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


class BrowserSender:
    """Sends to the browsers of one server loop: the texts of all bridges, and beats."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._ready: list[SessionBridge] = []
        self._beats = 0
        self._hearers: weakref.WeakKeyDictionary[Any, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()
        self._under_way: weakref.WeakSet[Any] = weakref.WeakSet()
        self._is_beating = False

    def fetch(self, bridge: SessionBridge) -> None:
        """Call `bridge.carry(literals)` on the server's loop soon, once for all that wait; from any thread."""
        with self._lock:
            self._ready.append(bridge)
            if len(self._ready) > 1:
                return
        try:
            self.loop.call_soon_threadsafe(self._go)
        except RuntimeError:  # the server has ended
            self._ready.clear()

    def _go(self) -> None:
        with self._lock:
            ready, self._ready = self._ready, []
        literals = Literals()
        for bridge in ready:
            try:
                bridge.carry(literals)
            except Exception:
                logger.exception("a page could not be updated")

    # -- beats, on the server's loop -----------------------------------------------------------------------------------

    def join(self, document: Any, component: Any) -> None:
        """Send beats to `component`, which a browser shows, as long as it is part of `document`."""
        self._hearers.setdefault(document, weakref.WeakSet()).add(component)
        if not self._is_beating:
            self._is_beating = True
            self._beat()

    def _beat(self) -> None:
        """Send one beat to every session, and the next one later. Ends with the last session."""
        self._beats += 1
        beat, literals = {"beat": str(self._beats)}, Literals()
        for document, components in list(self._hearers.items()):
            session = session_of(document)
            if session is None or session.destroyed:
                del self._hearers[document]
            elif document not in self._under_way and (sockets := sockets_of(document)):
                events = (event for each in components for event in changes(each, beat, literals))
                if told := ",".join(islice(events, _HEARERS)):
                    self._under_way.add(document)  # a slow browser does not get a queue of them
                    runner = asyncio.ensure_future(send(sockets, told))
                    runner.add_done_callback(lambda done, document=document: self._sent(done, document))  # type: ignore[misc]
        self._is_beating = bool(self._hearers)
        if self._is_beating:
            self.loop.call_later(BEAT_S, self._beat)

    def _sent(self, runner: asyncio.Future[None], document: Any) -> None:
        self._under_way.discard(document)
        _log_failure(runner)


_senders: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, BrowserSender] = weakref.WeakKeyDictionary()


def sender_of(document: Any) -> BrowserSender | None:
    """Return the sender of a session's server; None if `loop_of` gives None."""
    loop = loop_of(document)
    if loop is None:
        return None
    return _senders.get(loop) or _senders.setdefault(loop, BrowserSender(loop))


def join(document: Any, component: Any) -> None:
    """Send beats to `component`, which a browser shows; no-op without a Tornado server. From any thread."""
    sender = sender_of(document)
    if sender is not None and not sender.loop.is_closed():
        sender.loop.call_soon_threadsafe(sender.join, document, component)


class SessionBridge:
    """Runs functions in the session that was current when it was made, and sends texts to its browser.

    It ends with the session, also if the tab was closed silently. Without a session (a notebook, a test), functions
    run at once, in the caller's thread, one after the other.
    """

    def __init__(self) -> None:
        document = pn.state.curdoc
        self._document: Any = document if document is not None and document.session_context is not None else None
        self._lock = threading.RLock()
        self._endings: list[Callable[[], None]] = []
        self._found: BrowserSender | None = None
        self._box: dict[Any, PendingUpdate] = {}
        self._is_due = False
        self._present: weakref.WeakSet[Any] = weakref.WeakSet()
        self.is_open = True
        if self._document is not None:
            pn.state.on_session_destroyed(lambda _context: self.close())

    def push(self, function: Callable[[], object]) -> None:
        """Run `function` in the session soon; dropped if the session has ended."""
        if not self.is_open:
            return
        if self._document is None:
            with self._lock:
                self._guarded(function)
        elif (sender := self._sender()) is None:
            self._add(function)
        else:
            try:
                sender.loop.call_soon_threadsafe(self._add, function)
            except RuntimeError:  # the server has ended
                self.close()

    def put(self, component: Any, whole: Mapping[str, str], parts: Mapping[str, str] | None = None) -> None:
        """Send new texts to the component in the browser, from any thread.

        Texts that cannot be sent at once are merged: the newest whole text, and parts as a JSON array of all of them. A
        browser that is not connected gets nothing; it asks when it connects (`greeted`).

        Args:
            component: has a parameter for each text, and `part_of` names the part that a whole text replaces.
            whole: texts that replace the ones before.
            parts: JSON texts that continue the ones before.
        """
        if not self.is_open:
            return
        with self._lock:
            self._box.setdefault(component, PendingUpdate()).add(whole, parts or {}, component.part_of)
            if self._document is None:
                box, self._box = self._box, {}
                self._guarded(lambda: self._put(box))
                return
            is_first, self._is_due = not self._is_due, True
        if is_first:
            self._fetch()

    def greeted(self, component: Any) -> None:
        """A browser shows the component: from now on, its texts go there directly."""
        self._present.add(component)

    def carry(self, literals: Literals) -> None:
        """Send the waiting texts; on the server's loop."""
        is_under_way = False
        try:
            is_under_way = self._carry(literals)
        finally:
            if not is_under_way:
                self._go_on()

    def _carry(self, literals: Literals) -> bool:
        """Send; return whether `_sent` will be called."""
        with self._lock:
            box, self._box = self._box, {}
        sockets = sockets_of(self._document) if self.is_open else []
        absent = {each: update for each, update in box.items() if sockets is None or not self._hears(each)}
        events: list[str] = []
        for each, update in box.items():
            if sockets and each not in absent:
                events += changes(each, update.values(), literals)
        if absent:
            self.push(lambda: self._put(absent))
        if events and sockets:
            runner = asyncio.ensure_future(send(sockets, ",".join(events)))
            runner.add_done_callback(self._sent)
            return True
        return False

    def _hears(self, component: Any) -> bool:
        """Return whether texts for the component may go past its document."""
        return component in self._present and models_of(component) is not None

    def on_close(self, ending: Callable[[], None]) -> None:
        """Call `ending` once when the session ends; at once if it has ended."""
        if self.is_open:
            self._endings.append(ending)
        else:
            ending()

    def close(self) -> None:
        """End: push nothing more, and call all functions of `on_close`."""
        with self._lock:
            if not self.is_open:
                return
            self.is_open = False
            endings, self._endings = self._endings, []
            self._box.clear()
        for ending in endings:
            try:
                ending()
            except Exception:
                logger.exception("the end of a session was not clean")

    def _sender(self) -> BrowserSender | None:
        """Return the server's sender; None while the session is being made, and without a Tornado server."""
        self._found = self._found or sender_of(self._document)
        return self._found

    def _add(self, function: Callable[[], object]) -> None:
        """On the server's loop: Bokeh and Panel lose a callback that another thread adds while they release a held
        document (they copy the held events first, and then begin a new list)."""
        try:
            self._document.add_next_tick_callback(lambda: self._guarded(function))
        except Exception:  # a closed tab whose session has just expired
            self.close()

    def _fetch(self) -> None:
        """Have `carry` called after this turn of the background loop, which may add more."""
        sender = self._sender()
        if sender is None:
            self.push(self._put_all)
        elif background.is_here:
            asyncio.get_running_loop().call_soon(sender.fetch, self)
        else:
            sender.fetch(self)

    def _put_all(self) -> None:
        """Set all waiting texts as parameters, in the session."""
        with self._lock:
            box, self._box = self._box, {}
            self._is_due = False
        self._put(box)

    def _put(self, updates: Mapping[Any, PendingUpdate]) -> None:
        """Set parameters in the session: for a page that is being made, and for servers other than Tornado's."""
        is_short = self._document is not None and sockets_of(self._document) is not None
        for component, update in updates.items():
            if is_short and self._hears(component):
                continue  # its browser has connected meanwhile, and got everything
            values = update.whole if is_short else update.values()
            component.carried.update(values)
            component.param.update(**values)

    def _sent(self, runner: asyncio.Future[None]) -> None:
        _log_failure(runner)
        self._go_on()

    def _go_on(self) -> None:
        with self._lock:
            self._is_due = bool(self._box)
            is_due = self._is_due
        if is_due:
            self._fetch()

    def _guarded(self, function: Callable[[], object]) -> None:
        if not self.is_open:
            return
        try:
            with batch_changes(self._document):
                function()
        except Exception:
            logger.exception("a page could not be updated")


def _log_failure(runner: asyncio.Future[None]) -> None:
    if not runner.cancelled() and runner.exception() is not None:
        logger.debug("a browser could not be reached", exc_info=runner.exception())
