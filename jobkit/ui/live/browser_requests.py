"""Requests of a browser: a JSON text in a component's property `request`, written by `ask` in common.js."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobkit.ui.live.bridge import SessionBridge


class Requests:
    """Gives each request of a browser once.

    Panel gathers the changes of a property for a moment and keeps the last, so each text repeats the requests of the
    moment before it (`earlier`), and those that arrived are known by their `n`.
    """

    def __init__(self) -> None:
        self._seen: deque[str] = deque(maxlen=100)

    def of(self, text: str) -> list[dict[str, Any]]:
        """Return the new ones, in order, each with an `action`; what is no request is left out."""
        try:
            told = json.loads(text)
        except ValueError:
            return []
        earlier = told.get("earlier") if isinstance(told, dict) else None
        found = []
        for asked in (*(earlier if isinstance(earlier, list) else ()), told):
            if not isinstance(asked, dict) or not isinstance(asked.get("action"), str):
                continue
            n = str(asked.get("n", ""))
            if n and n in self._seen:
                continue
            self._seen.append(n)
            found.append(asked)
        return found


def on_request(component: Any, bridge: SessionBridge, do: Callable[[str, Mapping[str, Any]], object]) -> None:
    """Call `do(action, request)` in the session for each request of a Panel component's browser."""
    requests = Requests()

    def asked(event: Any) -> None:
        for request in requests.of(event.new):
            bridge.greeted(component)  # with whatever it asks first
            do(request["action"], request)

    component.param.watch(asked, "request")
