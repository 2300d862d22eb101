"""From the store in memory to those who listen, without a connection between them.

Events are told in the order in which they happened, in the thread of the verb that made them, before it returns. Where
another thread (or a listener further up the stack) is telling at that moment, it goes on with the new ones instead:
nobody waits for a listener, so a listener may wait for a verb.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from jobkit.model import EventType, JobEvent
from jobkit.store.hub import OWN, Listener, Listeners, void

#: Called with an event and the client that submitted its job.
Receiver = Callable[[JobEvent, str], None]


class Outbox:
    """Tells receivers what stands in `events`: `(event, client)`, appended by the store under its own lock."""

    def __init__(self, events: deque[tuple[JobEvent, str]]) -> None:
        self._events = events
        self._telling = threading.Lock()
        self._receivers: tuple[Receiver, ...] = ()
        self._changing = threading.Lock()

    def attach(self, receiver: Receiver) -> Callable[[], None]:
        """Call `receiver` from now on; returns a function that ends it."""
        with self._changing:
            self._receivers = (*self._receivers, receiver)

        def stop() -> None:
            with self._changing:
                self._receivers = tuple(other for other in self._receivers if other != receiver)

        return stop

    def tell(self) -> None:
        """Tell all there is, unless somebody is at it already."""
        while self._events and self._telling.acquire(blocking=False):
            try:
                while self._events:
                    event, client = self._events.popleft()
                    for receiver in self._receivers:
                        receiver(event, client)
            finally:
                self._telling.release()


class Source(Protocol):
    """What a hub needs of its store."""

    def attach(self, hub: Receiver) -> Callable[[], None]: ...


class MemoryHub:
    """The hub of a `MemoryStore`: always live; see `jobkit.store.hub.Hub`. Listeners are called in a verb's thread."""

    def __init__(self, store: Source) -> None:
        self.client_id = secrets.token_hex(8)
        self._listeners = Listeners()
        self._detach: Callable[[], None] | None = store.attach(self._take)

    @property
    def is_live(self) -> bool:
        return self._detach is not None

    async def start(self) -> None:
        """Nothing to wait for."""
        self._listeners.tell_status(True)

    def listen(self, listener: Listener, job_id: str | None = None) -> Callable[[], None]:
        """Call `listener` with each event from now on: of one job with its log lines, or (None) of all jobs without.

        Returns a function that ends it.
        """
        key, _ = self._listeners.add(listener, job_id)
        return lambda: void(self._listeners.remove(key, job_id))

    def listen_own(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the events of each job that was submitted under `client_id`, without their log lines."""
        return self.listen(listener, OWN)

    def on_status(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Call `callback(is_live)` at start and close; returns a function that ends it."""
        return self._listeners.add_status(callback)

    def on_heard(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Nothing is told between a `listen` and its confirmation here."""
        return lambda: None

    async def ready(self, job_id: str | None = None) -> None:
        """Nothing to wait for."""

    async def close(self) -> None:
        if self._detach is not None:
            self._detach()
            self._detach = None

    def _take(self, event: JobEvent, client: str) -> None:
        news = replace(event, result=b"") if event.result else event
        if client == self.client_id and event.type is not EventType.LOGGED:
            self._listeners.tell(event, OWN)
        if event.seq:  # what retention removed is told to those who listen to all jobs
            self._listeners.tell(news, event.job_id)
        if event.type is not EventType.LOGGED:
            self._listeners.tell(news, None)
