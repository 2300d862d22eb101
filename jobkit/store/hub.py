"""The one subscriber of a process: Redis's pub/sub in, callbacks out.

One connection, on the background loop. It always listens to the process's own channel (events of the jobs submitted
from here); a job's channel and the namespace's are added while it has listeners. After a cut connection it subscribes
again and then tells every listener by `on_status`, so that each can read its snapshot again: what was published
meanwhile is gone, but what it said is in the records.
The hub also starts an embedded server again that has died, and learns if it was stopped instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, RedisError

from jobkit.model import JobEvent, JobkitError, StoreUnavailable
from jobkit.store.connect import explain
from jobkit.store.redis import RedisStore
from jobkit.store.silence import abort

logger = logging.getLogger("jobkit.hub")

_unjson = msgspec.json.decode

#: Topics of listeners other than channels.
STATUS, HEARD = "connection status", "confirmed subscriptions"

#: Seconds between attempts to come back, growing.
_BACKOFF_S = (0.05, 0.2, 0.5, 1.0, 2.0)

#: Seconds between two checks whether the server answers, while there are listeners.
_PING_S = 1.25

#: The server counts as away if a question has no answer at so many checks: within 5 s after it froze. Between two
#: checks this process may not have run, but not so often.
_UNANSWERED_MOST = 3

#: Seconds after which a server that was stopped counts as stopped for those who wait. Until then it may be restarting.
RESTART_S = 5.0


class Listeners:
    """The callbacks of a hub, by topic. Thread-safe.

    Args:
        changed: called with a topic that has got its first listener or lost its last one.
    """

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._lock = threading.RLock()
        self._of: dict[str, dict[object, Callable[[Any], object]]] = {}
        self._changed = changed

    def add(self, topic: str, callback: Callable[[Any], object]) -> Callable[[], None]:
        """Return a function that removes the callback."""
        key = object()
        with self._lock:
            group = self._of.setdefault(topic, {})
            group[key] = callback
            is_first = len(group) == 1

        def stop() -> None:
            with self._lock:
                if group.pop(key, None) is None or group:
                    return
                del self._of[topic]
            self._changed(topic)

        if is_first:
            self._changed(topic)
        return stop

    def topics(self) -> set[str]:
        with self._lock:
            return set(self._of)

    def tell(self, topic: str, value: Any) -> None:
        """Call the callbacks of a topic. They must not block; what one raises is logged, and the others are called."""
        with self._lock:
            group = list(self._of.get(topic, {}).values())
        for callback in group:
            try:
                callback(value)
            except Exception:
                logger.exception("a listener of job events raised; the others go on")


class EventHub:
    """See the module's docstring. `start` and `close` run on the hub's loop; the rest from any thread.

    Args:
        revive: called in a thread after a cut. Starts the server again if it has died: True. Raises JobkitError if it
            was stopped, or cannot be started.

    Attributes:
        is_awaited: returns whether a job of the own channel has not ended yet.
        stopped: why it is vain to wait, as a sentence: the server is not started again, or permits no channels; ""
            while it runs or may come back.
    """

    def __init__(self, store: RedisStore, revive: Callable[[], bool] | None = None) -> None:
        self.client_id = secrets.token_hex(8)
        self._store, self._revive = store, revive
        self._stopped_at: float | None = None  # since when it is known, on the loop's clock
        self.stopped = ""
        self._pubsub = store.redis.pubsub()
        self._listeners = Listeners(self._wanted)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting = asyncio.Lock()
        """Held while the connection is replaced and for each subscription."""
        self._reader: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._is_silent = False  # nothing was received since the last question
        self._is_live = False
        self.is_awaited: Callable[[], object] = bool
        self._acknowledged: set[str] = set()
        self._flushes = 0
        self._flushing: dict[bytes, asyncio.Future[None]] = {}
        self._news = asyncio.Condition()
        self._all = store.channel("all")
        self._own = store.channel("client", self.client_id)
        self._job_prefix = store.channel("ch") + ":"

    @property
    def is_live(self) -> bool:
        """True while the server answers and every channel that was wanted is subscribed."""
        return self._is_live

    def check_stopped(self) -> None:
        """Raise StoreUnavailable if the server was stopped, for which it would be vain to wait."""
        if self.stopped:
            raise StoreUnavailable(self.stopped)

    def connection(self, is_live: bool) -> str:
        """Return what a page says of a status: "live", "reconnecting", or `stopped`."""
        return "live" if is_live else self.stopped or "reconnecting"

    async def start(self) -> None:
        """Subscribe to the own channel; returns when the server has confirmed it.

        Raises:
            StoreUnavailable: the server does not answer, or permits no channels.
        """
        self._loop = asyncio.get_running_loop()
        await self._store.ping()
        self._reader = self._loop.create_task(self._read(), name="jobkit-hub")
        self._watcher = self._loop.create_task(self._watch(), name="jobkit-hub-watch")
        await self._confirmed(self._own)

    def listen(self, listener: Callable[[JobEvent], object], job_id: str | None = None) -> Callable[[], None]:
        """Call `listener` with each event from now on: of one job with its log lines, or (None) of all jobs without.

        Returns a function that ends it.
        """
        return self._listeners.add(self._channel(job_id), listener)

    def listen_own(self, listener: Callable[[JobEvent], object]) -> Callable[[], None]:
        """Call `listener` with the events of each job that was submitted under `client_id`, without their log lines."""
        return self._listeners.add(self._own, listener)

    def on_status(self, callback: Callable[[bool], object]) -> Callable[[], None]:
        """Call `callback(is_live)` when the connection is cut or back, and with False again when `stopped` changes.

        Returns a function that ends it.
        """
        return self._listeners.add(STATUS, callback)

    def on_heard(self, callback: Callable[[str], object]) -> Callable[[], None]:
        """Call `callback(job_id)` when it is confirmed that we listen to a job: what was told before is in its record.

        Returns a function that ends it.
        """
        return self._listeners.add(HEARD, callback)

    async def ready(self, job_id: str | None = None) -> None:
        """Returns when the server has confirmed the subscription for a listener of `job_id` (None: all jobs).

        Raises:
            StoreUnavailable: the server was stopped.
        """
        await self._confirmed(self._channel(job_id))

    async def flush(self) -> None:
        """Return once listeners were called with the events published so far; at once if the connection is cut."""
        if not self._is_live or self._loop is None:
            return
        self._flushes += 1
        mark, delivered = b"!%d" % self._flushes, self._loop.create_future()
        self._flushing[mark] = delivered
        try:
            await self._store.redis.publish(self._own, mark)
            await delivered
        except (RedisError, OSError):
            pass
        finally:
            self._flushing.pop(mark, None)

    async def close(self, why: str = "") -> None:
        """End it. With `why`, listeners of the status hear of it, and `stopped` says so."""
        self._is_live = False
        self._end_flushes()
        for each in filter(None, (self._watcher, self._reader)):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each
        self._watcher = self._reader = None
        with contextlib.suppress(RedisError, OSError):
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
        if why:
            self.stopped = why
            self._listeners.tell(STATUS, False)

    # -- on the loop ------------------------------------------------------------------------------------------------

    def _channel(self, job_id: str | None) -> str:
        return self._all if job_id is None else self._job_prefix + job_id

    def _wanted(self, topic: str) -> None:
        """Subscribe or unsubscribe a channel, as it is wanted by then; the own one stays subscribed."""
        loop = self._loop
        if topic not in (self._own, STATUS, HEARD) and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(lambda: loop.create_task(self._sync(topic)))

    async def _sync(self, channel: str) -> None:
        # Without a connection, and after an error, the reader subscribes to all channels.
        with contextlib.suppress(RedisError, OSError):
            async with self._connecting:
                if self._pubsub.connection is None:
                    return
                if channel in self._listeners.topics():
                    await self._pubsub.subscribe(channel)
                elif channel in self._acknowledged:
                    self._acknowledged.discard(channel)  # at once: who listens again meanwhile waits for the next one
                    await self._pubsub.unsubscribe(channel)

    async def _confirmed(self, channel: str) -> None:
        async with self._news:
            while channel not in self._acknowledged:
                self.check_stopped()
                await self._news.wait()

    async def _read(self) -> None:
        """Read for ever; come back after each cut."""
        failures = 0
        while True:
            try:
                async with self._connecting:
                    wanted = {self._own, *self._listeners.topics()} - {STATUS, HEARD}
                    await self._pubsub.subscribe(*wanted)
                left = len(wanted)
                async for message in self._pubsub.listen():
                    left -= message["type"] == "subscribe"
                    await self._take(message, is_all=left <= 0)
                    failures = 0
            except Exception as error:
                if not isinstance(error, RedisError | OSError):
                    logger.exception("live events could not be read (a bug of jobkit); connecting again")
                elif self._is_live:
                    logger.warning("the connection for live events was cut (%s); coming back", type(error).__name__)
                self._go_dark()
                if isinstance(error, NoPermissionError):
                    await self._tell_stopped(str(explain(error, self._store.settings)))
                async with self._connecting:
                    with contextlib.suppress(RedisError, OSError):
                        await self._pubsub.aclose()  # type: ignore[no-untyped-call]
                    self._pubsub = self._store.redis.pubsub()
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures = 0 if await self._has_revived() else failures + 1

    async def _watch(self) -> None:
        """Notice a server that does not answer although it is connected: it is frozen. It is back with its answer."""
        unanswered = 0
        while True:
            await asyncio.sleep(_PING_S)
            unanswered = unanswered + 1 if self._is_silent else 0
            if unanswered >= _UNANSWERED_MOST and self._is_live:
                logger.warning("the server of live events does not answer")
                self._is_live = False
                self._end_flushes()
                self._listeners.tell(STATUS, False)
            if unanswered * _PING_S > self._store.settings.reply_timeout and self._pubsub.connection is not None:
                abort(self._pubsub.connection)  # half open, it would never answer: the reader opens another one
                self._is_silent = False
            is_used = not self._listeners.topics() <= {self._own, STATUS, HEARD} or self.is_awaited()
            if self._is_silent or not is_used:
                continue
            with contextlib.suppress(RedisError, OSError):
                async with self._connecting:
                    if self._pubsub.connection is not None:
                        self._is_silent = True
                        await self._pubsub.ping()

    async def _has_revived(self) -> bool:
        """Have a server that has died started; return True if that was necessary. Tell all if it was stopped."""
        if self._revive is None:
            return False
        try:
            has_started = await asyncio.to_thread(self._revive)
            self._stopped_at = None  # it is starting, or about to answer
            if self.stopped:
                self.stopped = ""
                self._listeners.tell(STATUS, False)
            return has_started
        except RuntimeError:  # no further thread can be started: tried again
            return False
        except JobkitError as error:
            now = asyncio.get_running_loop().time()
            self._stopped_at = self._stopped_at or now
            if not self.stopped and now - self._stopped_at >= RESTART_S:
                await self._tell_stopped(str(error))
            return False

    async def _tell_stopped(self, why: str) -> None:
        self.stopped = why
        self._listeners.tell(STATUS, False)
        async with self._news:
            self._news.notify_all()

    def _end_flushes(self) -> None:
        for delivered in self._flushing.values():
            if not delivered.done():
                delivered.set_result(None)

    def _go_dark(self) -> None:
        self._acknowledged.clear()
        self._end_flushes()
        if self._is_live:
            self._is_live = False
            self._listeners.tell(STATUS, False)

    async def _take(self, message: dict[str, Any], *, is_all: bool) -> None:
        """Handle a message; `is_all`: every channel that was wanted at the connect is confirmed."""
        kind, self._is_silent = message["type"], False
        if kind == "message":
            self._deliver(message["channel"].decode(), message["data"])
            return
        channel = (message["channel"] or b"").decode()  # a "pong" has none
        async with self._news:
            if kind == "subscribe":
                self._acknowledged.add(channel)
            else:
                self._acknowledged.discard(channel)
            self._news.notify_all()
        if not self._is_live and is_all:
            self._is_live, self._stopped_at, self.stopped = True, None, ""
            self._listeners.tell(STATUS, True)
        if kind == "subscribe" and channel.startswith(self._job_prefix):
            self._listeners.tell(HEARD, channel.removeprefix(self._job_prefix))

    def _deliver(self, channel: str, data: bytes) -> None:
        if (delivered := self._flushing.get(data)) is not None:
            if not delivered.done():
                delivered.set_result(None)
            return
        try:
            event = _event(data)
        except (msgspec.DecodeError, KeyError, ValueError, TypeError, AttributeError):  # whatever JSON it may be
            logger.warning("a message on %s is not an event of jobkit; left out", channel)
            return
        self._listeners.tell(channel, event)


@lru_cache(maxsize=8)
def _event(data: bytes) -> JobEvent:
    """Return the event in a message, which often comes on several channels."""
    head, _, rider = data.partition(b"\n")
    return JobEvent.from_wire(_unjson(head), result=rider)
