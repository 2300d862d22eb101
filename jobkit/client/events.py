"""Events as iterators: of all jobs, or of one to its end. None is left out, even if the connection is cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from jobkit.client.verbs import Verbs
from jobkit.model import EventType, InvalidParams, JobEvent, JobState, StoreUnavailable
from jobkit.store.values import parse_stream_id

T = TypeVar("T")

#: Seconds between retries of an iterator over events while the server does not answer.
_AWAY_S = 0.5


async def all_events(verbs: Verbs, after: str | None = None) -> AsyncIterator[JobEvent]:
    """All jobs' numbered events from now on, or after an event `id`; waits for those to come and for the server.

    Raises:
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

    stop = hub.listen(lambda event: loop.call_soon_threadsafe(hear, event), None)
    try:
        await hub.ready(None)
        last = await _patiently(store.last_event_id) if after is None else after
        while True:
            wake.clear()
            progress |= heard
            heard.clear()
            if found := await _patiently(partial(store.events, last)):
                yield found
                last = found[-1].id
                continue
            if progress:
                yield [*progress.values()]
                progress.clear()
            with contextlib.suppress(TimeoutError):  # poll, in case the connection for news was cut
                async with asyncio.timeout(10):
                    await wake.wait()
    finally:
        stop()


async def events_of_job(verbs: Verbs, job_id: str, after: int = 0) -> AsyncIterator[JobEvent]:
    """One job's events with a `seq` above `after`, to its end: numbered ones without a gap, news as they come."""
    news: asyncio.Queue[JobEvent | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def put(event: JobEvent | None) -> None:
        loop.call_soon_threadsafe(news.put_nowait, event)

    stops = [
        verbs.hub.listen(put, job_id),
        verbs.hub.on_status(lambda is_live: put(None) if is_live else None),
    ]
    try:
        await verbs.hub.ready(job_id)
        last, is_stale = after, True
        while True:
            if is_stale:
                snapshot = await _patiently(partial(verbs.snapshot, job_id))
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
                if JobState(got.data.get("state", "queued")).is_terminal:
                    return
    finally:
        for stop in stops:
            stop()


async def _patiently(verb: Callable[[], Awaitable[T]]) -> T:
    """Retry the call until the server answers."""
    while True:
        try:
            return await verb()
        except StoreUnavailable:
            await asyncio.sleep(_AWAY_S)
