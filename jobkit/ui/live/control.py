"""Requests of a browser, and `Control`: a live card in one browser, on a page or in a notebook.

A request is a JSON text in a component's property `request`, written by `ask` in common.js.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from jobkit.features import modules
from jobkit.ui.access.actions import ActionReply, Actions
from jobkit.ui.live.shared_feed import Deliver, Subscriber

if TYPE_CHECKING:
    from jobkit.ui.live.bridge import SessionBridge

#: What features tell one reader of a card; loaded with the cards, as their actions are, so that these are known.
_READERS, _ACTIONS = tuple(modules("reader")), tuple(modules("actions"))


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
    """Call `do(action, request)` in the session for each request of a Panel component's browser.

    All but a browser's greeting wait until its document is ready, see `SessionBridge.when_ready`.
    """
    requests = Requests()

    def asked(event: Any) -> None:
        for request in requests.of(event.new):
            bridge.greeted(component)  # with whatever it asks first
            if request["action"] == "hello":
                do("hello", request)
            else:
                bridge.when_ready(partial(do, request["action"], request))

    component.param.watch(asked, "request")


class Control:
    """Base of the controls of both cards. A subclass sets `_subscriber` and handles requests.

    Args:
        access: of the session.
        put: shows whole texts and parts in the browser; called in any thread. The text `refused` says why the last
            request failed.
        on_end: see `Subscriber`.
    """

    def __init__(self, access: Actions, put: Deliver, on_end: Callable[[Any], None] | None = None) -> None:
        self._access, self._kit, self._put, self._on_end = access, access.kit, put, on_end
        self._subscriber: Subscriber | None = None

    @property
    def model(self) -> Any:
        """The model of the jobs; None until they have been read, and after `stop`."""
        feed = self._subscriber.feed if self._subscriber is not None else None
        return feed.model if feed is not None else None

    def stop(self) -> None:
        """Deliver nothing more; any number of times."""
        if self._subscriber is not None:
            self._subscriber.stop()
        self._subscriber = None

    def do(self, action: str, asked: Mapping[str, Any]) -> None:
        """Handle a request of the browser; ignore others."""

    def _deliver(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
        if self._sees():
            self._put(whole, parts)

    def _sees(self) -> bool:
        """Return whether the person of this session may see all of the jobs."""
        model = self.model
        return self._access.person.sees_all or (model is not None and all(map(self._access.sees, model.snapshots)))

    def _act(self, action: str, targets: Sequence[str], **details: Any) -> None:
        self._put({"refused": ""}, {})
        self._access.begin(action, targets, self._acted, **details)

    async def _tell_reader(self, id: str, is_shown: Callable[[], bool]) -> None:
        """Deliver what the card of a job or batch tells this person alone, unless it shows another one by then."""
        for module in _READERS:
            texts = await module.about(self._access, id)
            if is_shown():
                self._put(dict(texts), {})

    def _acted(self, reply: ActionReply) -> None:
        """On the background loop."""
        self._put({"refused": reply.problem}, {})
