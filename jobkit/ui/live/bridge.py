"""From jobkit's background loop into one browser session.

Only a session's own callbacks may change its Bokeh document. `SessionBridge.push` runs a function in the session, from
any thread. `put` sends texts to a component in the browser, which costs a tenth: they go as Bokeh's own message, past
param, Panel and the document. The server's models do not know these texts, so a browser that connects or reconnects
sends its position and gets the rest (`hello` in common.js).

`send_beats` uses the same way: a browser whose websocket was cut silently, or whose server is frozen, detects the
silence (`Pulse` in common.js). Servers other than Bokeh's on Tornado send texts by param, and no beats.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from typing import Any

import panel as pn

from jobkit.client.loop import BackgroundLoop, background
from jobkit.runners import Runners
from jobkit.ui.patch import batch_changes, changes, is_ready, loop_of, models_of, send, session_of, sockets_of

logger = logging.getLogger("jobkit.ui")

#: Maximum number of parts that wait for one slow browser. With more, it gets none and requests the whole text.
_BEHIND = 40

#: Maximum number of components of a page that get its beats. A page may have hundreds of cards.
_HEARERS = 8

#: Seconds between two beats. The browser reports a lost connection after 2.5 s of silence, so a server may be late by
#: 1.75 s.
BEAT_S = 0.75

_FAILED = "a page could not be updated"

#: Messages that slow browsers have not taken yet.
_sendings = Runners(lambda error: logger.error(_FAILED, exc_info=error))

#: Components that get beats, by document.
_hearers: weakref.WeakKeyDictionary[Any, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()


def send_beats(document: Any, component: Any) -> None:
    """Send beats to `component`, which a browser shows; no-op without a Tornado server. From any thread."""

    def begin() -> None:
        is_first = document not in _hearers
        _hearers.setdefault(document, weakref.WeakSet()).add(component)
        if is_first:
            _beat(document, 1, set())

    if (loop := loop_of(document)) is not None and not loop.is_closed():
        loop.call_soon_threadsafe(begin)


def _beat(document: Any, n: int, busy: set[Any]) -> None:
    """Send the `n`-th beat to all windows of a session that have taken the one before (others are in `busy`). Repeats
    until the session ends."""
    session = session_of(document)
    if session is None or session.destroyed:
        _hearers.pop(document, None)
        return
    if ready := set(sockets_of(document) or ()) - busy:
        beats = (event for each in _hearers[document] for event in changes(each, {"beat": str(n)}))
        events = b",".join(islice(beats, _HEARERS))
        for socket in ready if events else ():
            if (rest := send(socket, events)) is not None:
                busy.add(socket)
                _sendings.run(rest, partial(busy.discard, socket))
    asyncio.get_running_loop().call_later(BEAT_S, _beat, document, n + 1, busy)


#: Bridges with texts to send, by the loop of their server, which is woken once for all of them.
_filled: dict[asyncio.AbstractEventLoop, dict[SessionBridge, None]] = {}
_filling = threading.Lock()


def _wake(loop: asyncio.AbstractEventLoop, bridge: SessionBridge) -> None:
    """Have the texts of a bridge sent; from any thread. From a loop, after those that it fills meanwhile."""
    with _filling:
        is_first = loop not in _filled
        _filled.setdefault(loop, {})[bridge] = None
    if is_first or loop.is_closed():
        try:
            asyncio.get_running_loop().call_soon(_cross, loop)
        except RuntimeError:
            _cross(loop)


def _cross(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.call_soon_threadsafe(_send_all, loop)
    except RuntimeError:  # the server has ended
        for bridge in _taken(loop):
            bridge.close()


def _send_all(loop: asyncio.AbstractEventLoop) -> None:
    for bridge in _taken(loop):
        try:
            bridge._send()
        except Exception:
            logger.exception(_FAILED)


def _taken(loop: asyncio.AbstractEventLoop) -> dict[SessionBridge, None]:
    with _filling:
        return _filled.pop(loop, {})


#: Its thread changes what notebooks show. The background loop must not wait for what users' code does there.
_notebooks = BackgroundLoop()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_notebooks.after_fork_in_child)


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

    def merge(self, later: PendingUpdate, part_of: Mapping[str, str]) -> None:
        """Add what came later."""
        self.add(later.whole, {}, part_of)
        for name, texts in later.parts.items():
            for text in texts:
                self.add({}, {name: text}, part_of)

    def values(self) -> dict[str, str]:
        """Texts by the property that takes them; parts as one JSON array, in order."""
        return self.whole | {name: "[" + ",".join(texts) + "]" for name, texts in self.parts.items()}


class SessionBridge:
    """Runs functions in the session that was current when it was made, and sends texts to its browser.

    It ends with the session, also if the tab was closed silently. Without a session (a notebook, a test), functions
    run one after the other: those of the background loop in a separate thread, others at once.
    """

    def __init__(self) -> None:
        document = pn.state.curdoc
        self._document: Any = document if document is not None and document.session_context is not None else None
        self._lock = threading.RLock()
        self._running = threading.RLock()
        self._endings: list[Callable[[], object]] = []
        self._box: dict[Any, PendingUpdate] = {}
        self._slow: dict[Any, dict[Any, PendingUpdate]] = {}  # windows that have not taken a message, and what waits
        self._present: weakref.WeakSet[Any] = weakref.WeakSet()
        self._waiting: list[Callable[[], object]] | None = None  # until the browser has the document
        self.is_open = True
        if self._document is not None:
            if not pn.state.loaded:
                self._waiting = []
                pn.state.onload(self._arrived)
            pn.state.on_session_destroyed(lambda _context: self.close())

    def push(self, function: Callable[[], object]) -> None:
        """Run `function` in the session soon, see `when_ready`; dropped if the session has ended."""
        self._push(partial(self.when_ready, function))

    def _push(self, function: Callable[[], object]) -> None:
        if not self.is_open:
            return
        if self._document is None:
            if background.is_here:
                _notebooks.watchers_do(partial(self._run, function))
            else:
                self._run(function)
        elif not self._hand_over(self._add, function):
            self._add(function)

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
            is_first = not self._box
            self._box.setdefault(component, PendingUpdate()).add(whole, parts or {}, component.part_of)
        if (loop := loop_of(self._document)) is not None:
            _wake(loop, self)
        elif is_first:
            self._push(lambda: self._put(self._take_box()))

    def greeted(self, component: Any) -> None:
        """A browser shows the component: from now on, its texts go there directly."""
        self._present.add(component)

    def changing(self) -> AbstractContextManager[object]:
        """Return a context in which, outside a session, no function runs in another thread: param loses updates of an
        object that two threads change."""
        return nullcontext() if self._document is not None else self._running

    def on_close(self, ending: Callable[[], object]) -> None:
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
            self._waiting = None
        for ending in endings:
            try:
                ending()
            except Exception:
                logger.exception("the end of a session was not clean")

    def _hand_over(self, do: Callable[..., object], *values: Any) -> bool:
        """Do it on the server's loop. Return False without a session, while it is being made, and without a Tornado
        server."""
        if (loop := loop_of(self._document)) is None:
            return False
        try:
            loop.call_soon_threadsafe(do, *values)
        except RuntimeError:  # the server has ended
            self.close()
        return True

    def _run(self, function: Callable[[], object]) -> None:
        with self._running:
            self._guarded(function)

    # -- functions, in the session -------------------------------------------------------------------------------------

    def _add(self, function: Callable[[], object]) -> None:
        """On the server's loop: Bokeh and Panel lose a callback that another thread adds while they release a held
        document (they copy the held events first, and then begin a new list)."""
        try:
            self._document.add_next_tick_callback(lambda: self._guarded(function))
        except Exception:  # a closed tab whose session has just expired
            self.close()

    def _guarded(self, function: Callable[[], object]) -> None:
        if not self.is_open:
            return
        try:
            with batch_changes(self._document):
                function()
        except Exception:
            logger.exception(_FAILED)

    def when_ready(self, function: Callable[[], object]) -> None:
        """Run `function`, in the session: at once, or when the browser has said that its document is ready.

        Panel drops changes while a browser fetches the document, and the models that such a change adds would stay
        unknown to the browser, with every later change that names them: a click before that had no effect for good.
        """
        with self._lock:
            if self._waiting is not None and sockets_of(self._document) != [] and not is_ready(self._document):
                self._waiting.append(function)
                return
        if self._waiting:  # the program's own `onload` has failed, and Panel called no other one
            self._arrived()
        function()

    def _arrived(self) -> None:
        """The browser has the document: run what has waited, in order."""
        while True:
            with self._lock:
                functions, self._waiting = self._waiting, [] if self._waiting else None
            if not functions:
                return
            for function in functions:
                self._guarded(function)

    # -- texts ---------------------------------------------------------------------------------------------------------

    def _take_box(self) -> dict[Any, PendingUpdate]:
        with self._lock:
            box, self._box = self._box, {}
            return box

    def _send(self) -> None:
        """Send all waiting texts; on the server's loop."""
        box = self._take_box()
        sockets = sockets_of(self._document) if self.is_open else []
        absent = {each: update for each, update in box.items() if sockets is None or not self._hears(each)}
        if absent:
            self._push(lambda: self._put(absent))
        self._write(sockets or (), {each: update for each, update in box.items() if each not in absent})

    def _write(self, sockets: Iterable[Any], updates: Mapping[Any, PendingUpdate]) -> None:
        """Write texts to windows. For one that has not taken the message before they wait, and hold up no other one."""
        events = b",".join(event for each, update in updates.items() for event in changes(each, update.values()))
        for socket in sockets if events else ():
            if (waiting := self._slow.get(socket)) is not None:
                for component, update in updates.items():
                    waiting.setdefault(component, PendingUpdate()).merge(update, component.part_of)
            elif (rest := send(socket, events)) is not None:
                self._slow[socket] = {}
                _sendings.run(rest, partial(self._written, socket))

    def _written(self, socket: Any) -> None:
        """A slow window has taken a message."""
        if (waiting := self._slow.pop(socket)) and self.is_open:
            self._write([socket], waiting)

    def _hears(self, component: Any) -> bool:
        """Return whether texts for the component may go past its document."""
        return component in self._present and models_of(component) is not None

    def _put(self, updates: Mapping[Any, PendingUpdate]) -> None:
        """Set parameters in the session: for a page that is being made, and for servers other than Tornado's."""
        is_short = self._document is not None and sockets_of(self._document) is not None
        for component, update in updates.items():
            if is_short and self._hears(component):
                continue  # its browser has connected meanwhile, and got everything
            values = update.whole if is_short else update.values()
            component.carried.update(values)
            component.param.update(**values)
