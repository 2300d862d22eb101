"""From the background loop into one browser session.

A Bokeh document may only be changed by its own session's callbacks. `SessionBridge.push` hands a function over, from
any thread, and `put` hands over texts for a component, which is much cheaper; both end by themselves when the session
does, also if the tab was closed without notice.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import panel as pn

from jobkit.client.loop import background
from jobkit.ui.live.patch_sender import Literals, PatchSender, PendingUpdate, sender_of
from jobkit.ui.patch import batch_changes, changes, models_of, send, sockets_of

logger = logging.getLogger("jobkit.ui")


class SessionBridge:
    """Runs functions in the session that was current when it was made, and takes texts to its browser.

    Without a session (a notebook, a test) they run at once, in the caller's thread, one after the other.
    """

    def __init__(self) -> None:
        document = pn.state.curdoc
        self._document: Any = document if document is not None and document.session_context is not None else None
        self._lock = threading.RLock()
        self._endings: list[Callable[[], None]] = []
        self._sender: PatchSender | None = None
        self._box: dict[Any, PendingUpdate] = {}
        self._is_due = False
        self._present: weakref.WeakSet[Any] = weakref.WeakSet()
        self.is_open = True
        if self._document is not None:
            pn.state.on_session_destroyed(self._destroyed)

    def push(self, function: Callable[[], object]) -> None:
        """Run `function` in the session soon; dropped if the session has ended."""
        if not self.is_open:
            return
        if self._document is None:
            with self._lock:
                self._guarded(function)
            return
        sender = self._sender = self._sender or sender_of(self._document)
        if sender is None:  # the session is only being made
            self._add(function)
            return
        try:
            sender.call(self._add, function)
        except RuntimeError:  # the server has ended
            self.close()

    def put(self, component: Any, whole: Mapping[str, str], parts: Mapping[str, str] | None = None) -> None:
        """Give the component in the browser new texts, from any thread.

        What cannot be sent at once is merged: of a whole text the newest, parts as a JSON array of all of them. A
        browser that is not there gets nothing; it asks when it comes (`greeted`).

        Args:
            component: has a parameter for each text, and `part_of` names the part that a whole text replaces.
            whole: texts that replace what was there.
            parts: JSON texts that go on from what was there.
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
        """Send what waits; on the server's loop."""
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
        absent = {each: post for each, post in box.items() if sockets is None or not self._hears(each)}
        events: list[str] = []
        for each, post in box.items():
            if sockets and each not in absent:
                events += changes(each, post.values(), literals)
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

    def _add(self, function: Callable[[], object]) -> None:
        """On the server's loop: Bokeh and Panel lose a callback that comes from another thread just as they let go of
        a document that they held (they copy what was held first, and then begin a new list)."""
        try:
            self._document.add_next_tick_callback(lambda: self._guarded(function))
        except Exception:  # a closed tab whose session has just expired
            self.close()

    def _fetch(self) -> None:
        """Have `carry` called after this turn of the background loop, which may add more."""
        sender = self._sender = self._sender or sender_of(self._document)
        if sender is None:  # the session is only being made, or the server is none of Tornado's
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

    def _put(self, posts: Mapping[Any, PendingUpdate]) -> None:
        """Set parameters in the session: for a page that is being made, and for servers other than Tornado's."""
        is_short = self._document is not None and sockets_of(self._document) is not None
        for component, post in posts.items():
            if is_short and self._hears(component):
                continue  # it came meanwhile, and was told all
            values = post.whole if is_short else post.values()
            component.carried.update(values)
            component.param.update(**values)

    def _sent(self, runner: asyncio.Future[None]) -> None:
        if not runner.cancelled() and runner.exception() is not None:
            logger.debug("a browser could not be reached", exc_info=runner.exception())
        self._go_on()

    def _go_on(self) -> None:
        with self._lock:
            self._is_due = bool(self._box)
            is_due = self._is_due
        if is_due:
            self._fetch()

    def _destroyed(self, _context: Any) -> None:
        self.close()

    def _guarded(self, function: Callable[[], object]) -> None:
        if not self.is_open:
            return
        try:
            with batch_changes(self._document):
                function()
        except Exception:
            logger.exception("a page could not be updated")
