"""`Heartbeat`: lets the browsers of a server know, more than once a second, that their session is alive.

A browser whose websocket is cut without a word, or whose server is frozen, sees nothing at all: silence is the only
sign. So each session gets a number every `BEAT_S`, as the property `beat` of its components, and `Pulse` in
common.js counts how long none has come. A beat is sent past Panel and the document, as `sender` sends texts: about
0.1 ms for each session. Servers that are not Bokeh's own on Tornado send none, and their pages never miss them.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from itertools import islice
from typing import Any

from jobkit.ui.live.patch_sender import Literals
from jobkit.ui.patch import changes, loop_of, send, session_of, sockets_of

logger = logging.getLogger("jobkit.ui")

#: A page may hold hundreds of cards; so many of them hear of a beat.
_HEARERS = 8

#: Seconds between two beats. The browser takes 2.5 s of silence for the end, so a server may be late by 1.75 s.
BEAT_S = 0.75


class Heartbeat:
    """The beats of one server loop; used on that loop alone, except for `join`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._count = 0
        self._components: weakref.WeakKeyDictionary[Any, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()
        self._under_way: weakref.WeakSet[Any] = weakref.WeakSet()
        self._is_beating = False

    def join(self, document: Any, component: Any) -> None:
        """Send beats to `component`, which a browser shows, as long as it is part of `document`; from any thread."""
        self._loop.call_soon_threadsafe(self._join, document, component)

    def _join(self, document: Any, component: Any) -> None:
        self._components.setdefault(document, weakref.WeakSet()).add(component)
        if not self._is_beating:
            self._is_beating = True
            self._beat()

    def _beat(self) -> None:
        """Send one beat to every session. Ends with the last session."""
        self._count += 1
        literals = Literals()
        for document, components in list(self._components.items()):
            session = session_of(document)
            if session is None or session.destroyed:
                del self._components[document]
            elif document not in self._under_way and (sockets := sockets_of(document)):
                beat = {"beat": str(self._count)}
                events = (event for each in components for event in changes(each, beat, literals))
                if told := ",".join(islice(events, _HEARERS)):
                    self._send(document, sockets, told)
        self._is_beating = bool(self._components)
        if self._is_beating:
            self._loop.call_later(BEAT_S, self._beat)

    def _send(self, document: Any, sockets: list[Any], events: str) -> None:
        """Send it. The next one waits until it has left: a slow browser is not given a queue of them."""
        self._under_way.add(document)
        runner = asyncio.ensure_future(send(sockets, events))

        def sent(done: asyncio.Future[None]) -> None:
            self._under_way.discard(document)
            if not done.cancelled() and done.exception() is not None:
                logger.debug("a browser could not be reached", exc_info=done.exception())

        runner.add_done_callback(sent)


_hearts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Heartbeat] = weakref.WeakKeyDictionary()


def join(document: Any, component: Any) -> None:
    """Send beats to `component`, which a browser shows, as long as it is part of `document`; no-op without a Tornado
    server."""
    loop = loop_of(document)
    if loop is not None and not loop.is_closed():
        (_hearts.get(loop) or _hearts.setdefault(loop, Heartbeat(loop))).join(document, component)
