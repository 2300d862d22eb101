"""Events as iterators, of all jobs or of one to its end, and as calls of users' functions (`kit.on("failed")`).

None is left out, even if the connection is cut. A hook calls its function in a separate thread: one that raises, hangs
or is slow harms neither a job nor another hook.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar

from jobkit.client.connection import Connection
from jobkit.client.job import Job
from jobkit.client.loop import background
from jobkit.client.verbs import Verbs
from jobkit.model import EventsExpired, EventType, InvalidParams, JobEvent, JobNotFound, StoreUnavailable
from jobkit.store.hub import EventHub
from jobkit.store.values import parse_stream_id

T = TypeVar("T")

logger = logging.getLogger("jobkit.client")

#: Jobs that wait for one slow hook; of more, the oldest are left out, and the log says how many.
MOST_WAITING = 10_000

#: Seconds between retries of an iterator over events while the server does not answer.
_AWAY_S = 0.5


async def all_events(verbs: Verbs, after: str | None = None) -> AsyncIterator[JobEvent]:
    """All jobs' numbered events from now on, or after an event `id`; waits for those to come and for the server.

    Raises:
        StoreUnavailable: the embedded server was stopped.
        InvalidParams: `after` is not an event id.
        EventsExpired: some of them are no longer kept: `after` is too old, or the reader too slow.
    """
    if isinstance(after, str) and after and "-" not in after:
        after = f"{after}-0"
    if after is not None and not (isinstance(after, str) and parse_stream_id(after)):
        raise InvalidParams(f"after must be the id of an event, like '1764000000000-0', not {after!r}", "after")
    async for page in event_pages(verbs, after):
        for event in page:
            if not event.type.is_news:
                yield event


async def event_pages(verbs: Verbs, after: str | None) -> AsyncIterator[Sequence[JobEvent]]:
    """Yield pages of all jobs' numbered events, as `all_events`, and pages of their newest progress.

    Progress of a job comes after the event that it belongs to, although it arrives by another channel.
    """
    store, hub, loop = verbs.store, verbs.hub, asyncio.get_running_loop()
    wake = asyncio.Event()  # pub/sub only says that there is something new; what it is comes from the kept stream
    heard: dict[str, JobEvent] = {}
    progress: dict[str, JobEvent] = {}  # heard before the last read, which had all events that were stored before

    def hear(event: JobEvent) -> None:
        if event.type is EventType.PROGRESSED:
            heard[event.job_id] = event
        wake.set()

    with contextlib.ExitStack() as stops:
        stops.callback(hub.listen(lambda event: loop.call_soon_threadsafe(hear, event), None))
        stops.callback(hub.on_status(lambda _: loop.call_soon_threadsafe(wake.set)))
        await hub.ready(None)
        last = await _patiently(hub, store.last_event_id) if after is None else after
        while True:
            wake.clear()
            progress |= heard
            heard.clear()
            if found := await _patiently(hub, partial(store.events, last)):
                yield found
                last = found[-1].id
                continue
            if progress:
                yield [*progress.values()]
                progress.clear()
            with contextlib.suppress(TimeoutError):  # poll, in case the connection for news was cut
                async with asyncio.timeout(10):
                    await wake.wait()


async def events_of_job(verbs: Verbs, job_id: str, after: int = 0) -> AsyncIterator[JobEvent]:
    """One job's events with a `seq` above `after`, to its end: numbered ones without a gap, news as they come."""
    news: asyncio.Queue[JobEvent | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def put(event: JobEvent | None) -> None:
        loop.call_soon_threadsafe(news.put_nowait, event)

    with contextlib.ExitStack() as stops:
        stops.callback(verbs.hub.listen(put, job_id))
        stops.callback(verbs.hub.on_status(lambda _: put(None)))
        await verbs.hub.ready(job_id)
        last, is_stale = after, True
        while True:
            if is_stale:
                snapshot = await _patiently(verbs.hub, partial(verbs.snapshot, job_id))
                for event in snapshot.history:
                    if event.seq > last:
                        last = event.seq
                        yield event
                if snapshot.is_terminal:
                    return
            try:
                async with asyncio.timeout(10):
                    got = await news.get()
            except TimeoutError:
                got = None
            is_stale = got is None or (not got.type.is_news and got.seq > last + 1)
            if got is None or is_stale:
                continue
            if got.type.is_news:
                yield got
            elif got.seq == last + 1:
                last = got.seq
                yield got
                if got.type.is_end:
                    return


async def _patiently(hub: EventHub, verb: Callable[[], Awaitable[T]]) -> T:
    """Retry the call until the server answers. Raises StoreUnavailable if it was stopped."""
    while True:
        try:
            return await verb()
        except StoreUnavailable:
            hub.check_stopped()
            await asyncio.sleep(_AWAY_S)


class Hook:
    """A function that is called with each job that has one of the chosen events. Made by `kit.on`.

    Attributes:
        calls: how often it was called. errors: how often it raised. left_out: jobs it was too slow for.
    """

    def __init__(
        self, connection: Connection, call: Callable[[Job], object], kinds: frozenset[EventType], task: str, after: str
    ) -> None:
        self._connection, self._call, self._kinds, self._task = connection, call, kinds, task
        self._name = getattr(call, "__qualname__", None) or repr(call)
        self._waiting: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
        self._is_over = False
        self.calls = self.errors = self.left_out = 0
        threading.Thread(target=self._run, name=f"jobkit-hook-{self._name}"[:60], daemon=True).start()
        self._reading = background.spawn(self._read(after))

    def __repr__(self) -> str:
        return f"<Hook {self._name} on {', '.join(sorted(self._kinds))}: {self.calls} calls, {self.errors} errors>"

    def __call__(self, job: Job) -> Any:
        """The function itself, as if undecorated."""
        return self._call(job)

    def stop(self) -> None:
        """End the hook. A call that runs may finish; this does not wait for it."""
        self._is_over = True
        self._waiting.put(("", False))  # wakes its thread
        self._reading.cancel()

    # -- on the background loop -------------------------------------------------------------------------------------

    async def _read(self, after: str) -> None:
        """Every event from `after` on, for as long as it takes."""
        position: str | None = after
        said = ""
        while not self._is_over:
            try:
                async for event in all_events(self._connection.verbs, position):
                    if event.type in self._kinds:
                        self._put(event.job_id, event.type.is_end)
                    position = event.id
            except EventsExpired as expired:
                logger.warning("hook %s missed some jobs: %s", self._name, expired)
                position = None
            except Exception as error:  # the kit was closed, or its store speaks nonsense
                if self._connection.is_closed:
                    return
                if str(error) != said:
                    logger.warning("hook %s waits for the store: %s: %s", self._name, type(error).__name__, error)
                said = str(error)
                await asyncio.sleep(1.0)

    def _put(self, job_id: str, is_end: bool) -> None:
        if self._waiting.qsize() >= MOST_WAITING:
            with contextlib.suppress(queue.Empty):  # its thread was faster
                self._waiting.get_nowait()
                self.left_out += 1
                if self.left_out % 1000 == 1:
                    logger.warning("hook %s is too slow: %d jobs were left out so far", self._name, self.left_out)
        self._waiting.put((job_id, is_end))

    # -- in its own thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            job_id, is_end = self._waiting.get()
            if self._is_over:
                return
            try:
                job = self._connection.job(job_id)
                if is_end:
                    job.wait(10)  # the live handle may be a moment behind the event
            except JobNotFound:  # it is forgotten already
                continue
            except Exception as error:
                logger.warning("hook %s cannot look at job %s: %s", self._name, job_id, error)
                continue
            if not fnmatchcase(job.task, self._task):
                continue
            self.calls += 1
            try:
                self._call(job)
            except Exception:
                self.errors += 1
                logger.exception("hook %s raised for job %s; the job is not affected", self._name, job_id)
