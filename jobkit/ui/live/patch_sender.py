"""Sends texts to the browsers of one server loop, encoded once however many sessions get them.

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
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jobkit.ui.patch import loop_of

T = TypeVar("T")

logger = logging.getLogger("jobkit.ui")

#: Parts that wait for one slow browser; with more, it gets none and asks for the whole.
_BEHIND = 40


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


class PatchSender:
    """Calls all bridges with texts to send, once for all that came in the same moment."""

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


_senders: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, PatchSender] = weakref.WeakKeyDictionary()


def sender_of(document: Any) -> PatchSender | None:
    """Return the sender of a session's server; None if `loop_of` gives None."""
    loop = loop_of(document)
    if loop is None:
        return None
    return _senders.get(loop) or _senders.setdefault(loop, PatchSender(loop))
