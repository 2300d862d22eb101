"""`Control`: a live card in one browser, on a page or in a notebook: its texts, and what its browser requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobkit.ui.access.actions import ActionReply, Actions
from jobkit.ui.live.shared_feed import Deliver, Subscriber


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

    def _acted(self, reply: ActionReply) -> None:
        """On the background loop."""
        self._put({"refused": reply.problem}, {})
