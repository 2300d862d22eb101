"""`Connection`: the base of a kit: its store, hub and live handles, and the loop that they run on.

It is made anew after a fork, and has an embedded server started again if that does not answer.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from jobkit.client.inline import Inline
from jobkit.client.listening import end_events, next_event
from jobkit.client.live import LiveJobs
from jobkit.client.loop import background
from jobkit.client.verbs import Verbs
from jobkit.codec import Codec
from jobkit.model import JobEvent, JobkitError
from jobkit.settings import Settings
from jobkit.store.direct import DirectSubmit
from jobkit.store.events import EventHub
from jobkit.store.private import Space
from jobkit.store.redis import RedisStore

T = TypeVar("T")

_open: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection:
    """See `jobkit.client.kit.Kit`, which describes the arguments."""

    def __init__(self, settings: Settings, *, revive: Callable[[], object] | None = None) -> None:
        self.settings = settings
        self.codec = Codec.from_secret(settings.secret)
        if settings.scheme == "sync":
            self.codec = Codec([b"this process"])  # nothing leaves it, so pickles are harmless
        self._revive = revive
        self._generation = -1
        self._closed = False
        self._connect()
        _open.add(self)

    @property
    def hub(self) -> EventHub:
        """The process's subscriber: `listen(callback, job_id=None)`, `on_status`, `is_live`."""
        self._ensure_open()
        return self._hub

    @property
    def verbs(self) -> Verbs:
        """The coroutines behind the verbs, for code that runs on the background loop."""
        self._ensure_open()
        return self._verbs

    def close(self) -> None:
        """End its connections. Jobs are not affected."""
        if not self._closed:
            self._closed = True
            if self._generation == background.generation:
                background.call(self._close())
                if self._direct is not None:
                    self._direct.close()
            _open.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Kit {self.settings.masked_url} namespace={self.settings.namespace} {state}>"

    def _connect(self) -> None:
        """Make store, hub and live handles anew: at first, and in a forked child."""
        self._generation = background.generation
        self._direct: DirectSubmit | None = None
        self._inline: Inline | None = None
        if self.settings.scheme == "sync":
            self._space = self._open_space()
            self._store = self._open_store(self._space.settings)
            self._hub = EventHub(self._store)
            self._inline = Inline(self._store, self._hub, self.codec, self.settings, self._space.paused)
        else:
            self._store = self._open_store(self.settings)
            self._hub = EventHub(self._store)
            self._direct = DirectSubmit(self.settings, self._hub.client_id)
        self._verbs = Verbs(self.settings, self._store, self._hub, self.codec)
        self._live = LiveJobs(self._store, self._hub)
        background.call(self._begin())

    def _open_space(self) -> Space:
        return Space.of(self.settings)

    def _open_store(self, settings: Settings) -> RedisStore:
        return RedisStore(settings)

    def _run_here(self, job_id: str) -> None:
        """Run a new job in this thread if the kit is `sync://`; for other kits workers run it."""
        if self._inline is not None:
            self._inline.run(job_id)

    def _run_paused(self) -> None:
        if self._inline is not None:
            self._inline.run_paused()

    async def _begin(self) -> None:
        try:
            await self._hub.start()
            await self._live.remember_store()
        except BaseException:
            await self._hub.close()
            await self._store.close()
            raise
        self._live.start()

    async def _close(self) -> None:
        self._live.close()
        await self._verbs.close()
        await self._hub.close()
        if self._inline is not None:
            await self._space.leave(self._store)
        await self._store.close()

    def _ensure_open(self) -> None:
        if self._closed:
            raise JobkitError(f"this kit ({self.settings.masked_url}) is closed; connect again")
        if self._generation != background.generation:
            self._connect()

    def _call(self, verb: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._ensure_open()
        if self._inline is not None:
            return background.call(self._inline.settled(verb()))
        try:
            return background.call(verb())
        except ConnectionError:
            if self._revive is None:
                raise
            self._revive()
            return background.call(verb())

    def _iterate(self, events: Callable[[], AsyncIterator[JobEvent]]) -> Iterator[JobEvent]:
        self._ensure_open()
        source = events()
        try:
            while True:
                try:
                    yield background.call(next_event(source))
                except StopAsyncIteration:
                    return
        finally:
            with contextlib.suppress(JobkitError, RuntimeError):
                background.call(end_events(source))


def close_all() -> None:
    """Close every open kit of this process."""
    for kit in list(_open):
        with contextlib.suppress(Exception):  # the process is ending
            kit.close()
