"""`SharedFeed`: live data of a page or a job, read once for all its sessions; `Subscriber`: one of these sessions.

A feed listens to the hub first and reads the store second, so that no event falls between the two; events that arrive
during a read are applied after it. When the connection comes back, and when a subclass sees a gap, it reads again.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, Self, TypeVar

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.model import JobEvent, JobkitError, StoreUnavailable
from jobkit.model.plain import dumps, iso
from jobkit.runners import Runners
from jobkit.store.query import Query, narrowed

logger = logging.getLogger("jobkit.ui")

#: Seconds between two attempts to read while the store does not answer.
_AGAIN_S = 0.5

#: Seconds until a `QueryFeed` reads everything again while an index is being filled.
_FILLING_S = 1.5

#: Seconds between two updates of progress in a table, at least: people see no more.
NEWS_S = 0.2

#: Seconds between two updates of curves, at least: each is a message to every session. `CALM_S`: of curves in tables,
#: and of those that many sessions show.
CURVES_S, CALM_S = 0.5, 1.0

#: New jobs that a `QueryFeed` reads at once; the others follow.
_READ = 200

T = TypeVar("T")

#: What a `Pacer` calls; a coroutine that it returns is awaited.
Work = Callable[[], Coroutine[Any, Any, None] | None]


Deliver = Callable[[Mapping[str, str], Mapping[str, str]], None]
"""Sends `(whole, parts)` to one browser: texts that replace what it has, and texts that continue it, by the name of the
component's property. Called on the background loop; must not block."""


@dataclass(eq=False)
class Subscriber:
    """One session, or one component of it, that shows a feed's texts; `start` and all below it from any thread.

    Attributes:
        put: gets the texts, from `start` to `stop` and none after it.
        on_end: called once on the background loop after the last delivery, with the model of jobs that have ended, or
            None if they are not kept.
        feed: the shared feed; None before it has begun and after the end. Changes on the background loop.
        is_active: False from `stop` on.
    """

    put: Deliver
    on_end: Callable[[Any], None] | None = field(default=None, kw_only=True)
    feed: Any = field(default=None, init=False)
    is_active: bool = field(default=True, init=False)

    def deliver(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
        if self.is_active:
            self.put(whole, parts)

    def end(self, model: Any) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(model)

    def start(self, kit: Kit, kind: type[SharedFeed[Any]], *key: Any) -> Self:
        """Subscribe, unless that is done, to the feed `kind(kit, *key)` that all subscribers with this key share."""
        self.is_active = True
        soon(self._begin, kit, kind, key)
        return self

    def stop(self) -> None:
        """Unsubscribe; any number of times."""
        self.is_active = False
        soon(self._end)

    def resend(self, version: Any = None) -> None:
        """Deliver everything again, unless `version` is the newest: a browser was opened, or has missed something."""
        self.ask(lambda feed: feed.tell(self, version))

    def ask(self, do: Callable[[Any], object]) -> None:
        """Call `do(feed)` on the background loop; no-op when not subscribed."""
        soon(lambda: do(self.feed) if self.feed is not None and self.is_active else None)

    def _begin(self, kit: Kit, kind: type[SharedFeed[Any]], key: tuple[Any, ...]) -> None:
        if self.is_active and self.feed is None and not kit.is_closed:  # as at the end of a program
            feeds = _feeds.setdefault(kit, {})
            self.feed = feeds.get((kind, *key)) or feeds.setdefault((kind, *key), kind(kit, *key))
            self.feed.add(self)
        elif kit.is_closed:
            self.end(None)

    def _end(self) -> None:
        if self.feed is not None:
            self.feed.remove(self)
            self.feed = None


S = TypeVar("S", bound=Subscriber)


class SharedFeed(Generic[S]):
    """Data that several sessions show, kept up to date from the first subscriber to the last.

    Used on the background loop alone. A subclass implements `read`, `take`, `flush` and `tell`.

    Attributes:
        CHANNELS: channels of the hub: None for the events of all jobs, a job's id, `CONTROL`, ...
        WINDOW_S: seconds (> 0) between two calls of `flush`, at least.
        LOOK_S: seconds between two calls of `look`; None for none.
        has_read: whether `read` has succeeded once.
        is_over: nothing will change any more: `look` is not called.
    """

    CHANNELS: ClassVar[tuple[str | None, ...]] = (None,)
    WINDOW_S: ClassVar[float] = 0.25
    LOOK_S: ClassVar[float | None] = None

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.subscribers: list[S] = []
        self.runners = Runners(self.failed)
        self._pacers: list[Pacer] = []
        self.pacer = self.paced(self.WINDOW_S, self.flush)
        self._reader = self.paced(0.0, self._reload)
        self._early: list[JobEvent] | None = []
        self._stops: list[Callable[[], None]] = []
        self.has_read = self.is_over = False

    # -- a subclass says what it reads and delivers --------------------------------------------------------------------

    async def read(self) -> None:
        """Read everything from the store; repeated until the store answers. Other errors go to `failed`."""

    def loaded(self) -> None:
        """Deliver what `read` found. Called after the events that arrived meanwhile were applied."""

    def take(self, event: JobEvent) -> None:
        """Apply one event."""

    def flush(self) -> Coroutine[Any, Any, None] | None:
        """Deliver changes. Called soon after `poke`; may return a coroutine, see `Pacer`."""
        return None

    def tell(self, subscriber: S, version: Any = None) -> None:
        """Deliver everything to one subscriber, unless it has `version` and that is the newest."""

    def look(self) -> None:
        """Do what time alone makes necessary; by default, flush."""
        self.poke()

    def status(self, is_live: bool) -> None:
        """The hub's connection has come back, or was lost."""
        if is_live:
            self.reload()

    def kit_closed(self, why: str) -> None:
        """Deliver the last texts, with the sentence `why`, and end the subscribers: nothing can be read any more."""

    def failed(self, error: Exception) -> None:
        """Handle an error of `read` or of any of `runners`."""
        if not isinstance(error, JobkitError):
            raise error
        # The header of the page says so when the store is away; the hub calls `status` when it is back.
        level = logging.DEBUG if isinstance(error, StoreUnavailable) or self.kit.is_closed else logging.WARNING
        logger.log(level, "%s could not read: %s", type(self).__name__, error)

    def close(self) -> None:
        """Release what a subclass holds. Called when the last subscriber has gone."""

    # -- subscribers ---------------------------------------------------------------------------------------------------

    def add(self, subscriber: S) -> None:
        self.subscribers.append(subscriber)
        if self._stops:
            self.tell(subscriber)
            return
        hub = self.kit.hub
        self._stops = [
            *(hub.listen(self._hear, channel) for channel in self.CHANNELS),
            hub.on_status(lambda is_live: self.kit_closed(hub.stopped) if self.kit.is_closed else self.status(is_live)),
        ]
        self.reload()
        if self.LOOK_S is not None:
            self.runners.run(self._look_again(self.LOOK_S))
        if not hub.is_live:
            self.status(False)

    def remove(self, subscriber: S) -> None:
        if subscriber not in self.subscribers:
            return
        self.subscribers.remove(subscriber)
        if not self.subscribers:
            for pacer in self._pacers:
                pacer.stop()
            for stop in self._stops:
                stop()
            self.runners.cancel()
            self.close()
            feeds = _feeds.get(self.kit, {})
            for key in [key for key, feed in feeds.items() if feed is self]:
                del feeds[key]

    def publish(self, whole: Mapping[str, str], parts: Mapping[str, str] | None = None) -> None:
        """Deliver the same to all subscribers."""
        for subscriber in list(self.subscribers):
            try:
                subscriber.deliver(whole, parts or {})
            except Exception:
                logger.exception("%s could not deliver to a session", type(self).__name__)

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def is_loading(self) -> bool:
        """True while events are kept for after a read."""
        return self._early is not None

    def paced(self, window_s: float, work: Work, *, is_prompt: bool = True) -> Pacer:
        """Return a pacer that stops with the feed."""
        self._pacers.append(Pacer(window_s, work, self.runners, is_prompt=is_prompt))
        return self._pacers[-1]

    def poke(self) -> None:
        """Flush soon, never before the caller returns."""
        self.pacer.poke()

    def reload(self) -> None:
        """Read again. During a read, read once more after it: what is under way may be older than the reason to ask."""
        if self._early is None:
            self._early = []
        self._reader.poke()

    async def _reload(self) -> None:
        is_read = False
        try:
            for channel in self.CHANNELS:
                await self.kit.hub.ready(channel)
            self._early = []
            await answered(self.read)
            self.has_read = is_read = True
        finally:
            if self.has_read and self.subscribers and not self._reader.is_due:
                early, self._early = self._early, None  # after an error, they change what was read before it
                for event in early or ():
                    self.take(event)
                if is_read:
                    self.loaded()

    def _hear(self, event: JobEvent) -> None:
        if self._early is not None:
            self._early.append(event)
        else:
            self.take(event)

    async def _look_again(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            if self.is_over or self.kit.is_closed:
                return
            try:
                self.look()
            except Exception:
                logger.exception("%s could not be brought up to date", type(self).__name__)


class QueryFeed(SharedFeed[S]):
    """Feed of the jobs that a query finds: reads new ones by id, counts, and reads all again while an index is filled.

    It delivers the whole as the text `page`, and changes as the part `delta`. Both have a number `n`, without a gap, so
    that a browser sees whether it has missed something. A subclass has `now`, `count` and `count_s`.

    Args:
        only: the owner whose jobs alone are shown and counted, whatever the query says; None for everybody's.

    Attributes:
        MODEL: of the jobs, made with `(query, only)`: has `to_read`, `learn`, `whole` and `delta`.
        searched: only the newest so many jobs were searched, while the index is being filled; None for all.
        n: number of the newest page or delta; starts so that no two feeds share one.
    """

    MODEL: ClassVar[type[Any]]

    def __init__(self, kit: Kit, query: Query, only: str | None = None) -> None:
        super().__init__(kit)
        self.query = narrowed(query, only)
        self.only = only
        self.model = self.MODEL(self.query, only)
        self.searched: int | None = None
        self.n = time.time_ns() // 1_000_000
        self._counter = self.paced(self.count_s(), lambda: None if self.is_loading else answered(self.count))
        self._learner = self.paced(0.0, self._learn)
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> Any:
        """Return the time as the model takes it."""

    async def count(self) -> None:
        """Count, and deliver the numbers."""

    def count_s(self) -> float:
        """Return the seconds between two counts, at least."""
        return 1.0

    def reload_in(self, seconds: float) -> None:
        """Read everything again within so many seconds."""
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() > loop.time() + seconds:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_later(seconds, self._time_has_come)

    def recount(self) -> None:
        """Count soon."""
        self._counter.poke()

    def tell(self, subscriber: S, version: Any = None) -> None:
        if not self.is_loading and version != self.n:
            subscriber.deliver(self._whole(), {})

    def loaded(self) -> None:
        self.n += 1
        self.publish(self._whole())
        if self.searched is not None:
            self.reload_in(_FILLING_S)
        self.poke()

    def flush(self) -> None:
        if delta := self.model.delta(self.now()):
            self.n += 1
            self.publish({}, {"delta": dumps({**delta, "n": self.n})})
        self._learner.poke()

    def _whole(self) -> dict[str, str]:
        return {"page": dumps({**self.model.whole(self.now()), "searched": self.searched, "n": self.n})}

    def _time_has_come(self) -> None:
        self._timer = None
        self.reload()

    async def _learn(self) -> None:
        if ids := self.model.to_read(_READ):
            self.model.learn(await answered(lambda: self.kit.verbs.store.snapshots(ids)), self.now())
            self.poke()


class TextFeed(SharedFeed[Subscriber]):
    """Data of a page as JSON, read every `LOOK_S` seconds and soon after each event that `is_news`.

    It is delivered as the text `NAME` when anything but its time (`now`) has changed.
    """

    NAME = "picture"
    LOOK_S = 2.0
    WINDOW_S = 0.4

    _body = _told = _text = ""

    def is_news(self, event: JobEvent) -> bool:
        """Return True if the page looks different after an event of a job."""
        return not event.type.is_news

    async def data(self) -> dict[str, Any]:
        """Read the store and return the data, not empty; `now` is this machine's time unless given."""
        return {}

    async def read(self) -> None:
        data = await self.data()
        now = data.pop("now", iso(datetime.now(UTC)))
        self._body = dumps(data)
        self._text = f'{self._body[:-1]},"now":"{now}"}}'

    def loaded(self) -> None:
        if self._body != self._told:
            self._told = self._body
            self.publish({self.NAME: self._text})

    def failed(self, error: Exception) -> None:
        if not isinstance(error, JobkitError):
            raise error
        logger.debug("%s could not read: %s", type(self).__name__, error)  # it tries again in `LOOK_S` seconds

    def take(self, event: JobEvent) -> None:
        if event.job_id in self.CHANNELS or self.is_news(event):  # pauses and schedules are in CHANNELS
            self.poke()

    def flush(self) -> None:
        self.reload()

    def tell(self, subscriber: Subscriber, version: Any = None) -> None:
        if self._text:
            subscriber.deliver({self.NAME: self._text}, {})


_feeds: weakref.WeakKeyDictionary[Kit, dict[tuple[Any, ...], SharedFeed[Any]]] = weakref.WeakKeyDictionary()

F = TypeVar("F", bound=SharedFeed[Any])


def open_feeds(kit: Kit, kind: type[F]) -> list[F]:
    """Return the feeds of a kind that have subscribers now."""
    return [feed for feed in list(_feeds.get(kit, {}).values()) if isinstance(feed, kind)]


def poke_feeds(kit: Kit, kind: type[F]) -> None:
    """Have all feeds of a kind flush soon; from any thread."""
    soon(lambda: [feed.poke() for feed in open_feeds(kit, kind)])


# -- pacing, retries and threads --------------------------------------------------------------------------------------


class Pacer:
    """Calls `work` soon and then at most once in each `window_s` of the loop's clock, which may be changed.

    For one event loop's thread. Windows of different feeds begin together, so that their texts travel together. The
    first call after a pause comes at once if `is_prompt`, else at the end of a window. If `work` returns a coroutine,
    one runs at a time; a request during it follows it (`is_due`).
    """

    def __init__(self, window_s: float, work: Work, runners: Runners, *, is_prompt: bool = True) -> None:
        self.window_s = window_s
        self.is_due = False
        self._is_prompt = is_prompt
        self._work = work
        self._runners = runners
        self._last = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self._is_busy = self._is_stopped = False

    def poke(self) -> None:
        if self._is_busy:
            self.is_due = True
        elif self._handle is None and not self._is_stopped:
            loop, window_s = asyncio.get_running_loop(), self.window_s
            since = self._last if self._is_prompt else loop.time()
            due = (math.floor(since / window_s + 1e-6) + 1) * window_s if window_s else since
            self._handle = loop.call_at(due, self._run)

    def stop(self) -> None:
        self._is_stopped = True
        if self._handle is not None:
            self._handle.cancel()

    def _run(self) -> None:
        self._handle = None
        self._last = asyncio.get_running_loop().time()
        if (work := self._work()) is not None:
            self._is_busy = True
            self._runners.run(work, self._finished)

    def _finished(self) -> None:
        self._is_busy = False
        if self.is_due:
            self.is_due = False
            self.poke()


async def answered(read: Callable[[], Awaitable[T]]) -> T:
    """Return the value of a read, as soon as the store answers.

    Waiting for the hub's status instead could last for ever: events have a separate connection, and the one for reads
    can be cut alone. The feed cancels the caller with its last subscriber.
    """
    while True:
        try:
            return await read()
        except StoreUnavailable as error:
            logger.debug("what is shown could not be read, and is asked for again: %s", error)
            await asyncio.sleep(_AGAIN_S)


def soon(function: Callable[..., object], *values: Any) -> None:
    """Call it on the background loop; from any thread.

    It gets an empty context: a feed that goes on would keep the document of the session that began it.
    """
    background.start().call_soon_threadsafe(function, *values, context=contextvars.Context())
