"""From the background loop into one browser session.

A Bokeh document may only be changed by its own session's callbacks. `SessionBridge.push` hands a function over, from
any thread; it ends by itself when the session does, also where the tab was closed and nobody said so.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import panel as pn

logger = logging.getLogger("jobkit.ui")


class SessionBridge:
    """Runs functions in the session that was current when it was made.

    Without a session (a notebook, a test) they run at once, in the caller's thread, one after the other.
    """

    def __init__(self) -> None:
        document = pn.state.curdoc
        self._document: Any = document if document is not None and document.session_context is not None else None
        self._lock = threading.RLock()
        self._endings: list[Callable[[], None]] = []
        self.is_open = True
        if self._document is not None:
            pn.state.on_session_destroyed(self._destroyed)

    def push(self, function: Callable[[], object]) -> None:
        """Run `function` in the session soon; dropped where the session has ended."""
        if not self.is_open:
            return
        if self._document is None:
            with self._lock:
                self._guarded(function)
            return
        try:
            self._document.add_next_tick_callback(lambda: self._guarded(function))
        except Exception:  # the document's callbacks are gone: a closed tab whose session has just expired
            self.close()

    def on_close(self, ending: Callable[[], None]) -> None:
        """Call `ending` once when the session ends; at once where it has."""
        if self.is_open:
            self._endings.append(ending)
        else:
            ending()

    def close(self) -> None:
        """The session is over: nothing is pushed any more, and everybody who feeds it is told."""
        with self._lock:
            if not self.is_open:
                return
            self.is_open = False
            endings, self._endings = self._endings, []
        for ending in endings:
            try:
                ending()
            except Exception:
                logger.exception("the end of a session was not clean")

    def _destroyed(self, _context: Any) -> None:
        self.close()

    def _guarded(self, function: Callable[[], object]) -> None:
        if not self.is_open:
            return
        try:
            function()
        except Exception:
            logger.exception("a page could not be updated")
