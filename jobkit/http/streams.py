"""Event streams: one job's, and all jobs'.

    GET /api/jobs/{id}/events     a snapshot, then its events, to its end
    GET /api/events               the events of all jobs, or of some

A stream knows only its position. What it has not sent yet it asks the tail for when its client has taken what came
before, so nothing piles up; a client that takes nothing for `Limits.slow_s` is cut by the adapter.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from jobkit.client import Kit
from jobkit.http.api import Api, Call, on_loop, subject_of
from jobkit.http.frames import COMMENT, Part, frame, snapshot_frame
from jobkit.http.jobs import find
from jobkit.http.messages import EVENT_STREAM, Problem, Request, Response, to_json
from jobkit.http.shapes import JobStreamQuery, StreamQuery
from jobkit.http.tail import Entry, Key, Tail
from jobkit.http.tokens import Grant
from jobkit.model import EventsExpired, EventType, JobEvent, JobkitError, JobNotFound, JobSnapshot, JobSpec, JobState
from jobkit.store.values import event_key, parse_stream_id

#: Milliseconds after which a client comes back.
RETRY_MS = 1000

#: Seconds between two writes to one client: what comes meanwhile goes together.
PACE_S = 0.05

#: Lines of the log that a new stream begins with, and those that one write carries.
LOG_TAIL, LOG_PAGE = 200, 500

HEADERS = {
    "Content-Type": EVENT_STREAM,
    "Cache-Control": "private, no-cache, no-store, must-revalidate, max-age=0",
    "X-Accel-Buffering": "no",
    "Connection": "keep-alive",
    "Pragma": "no-cache",
}

#: Everything that is kept.
EARLIEST: Key = (0, 0)


class View(Protocol):
    """What one client sees."""

    async def collect(self) -> Sequence[bytes]:
        """What is new, as frames, maybe not all of it at once; none where there is none.

        May be called at any time, and gives each thing once.
        """
        ...

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        ...


async def job_events(call: Call) -> Response:
    """One job's events: `snapshot` first (or, with an id to go on from, what came after it), then as they come."""
    asked: JobStreamQuery = call.query
    snapshot = await find(call)
    cursor = cursor_of(call.request, asked.last_event_id)
    tail = await call.api.tail()
    leave = await enter(call, call.grant, tail)
    stop: Callable[[], None] | None = None
    try:
        view = JobView(call, tail, snapshot, cursor, with_logs=asked.logs)
        if asked.logs:
            stop = call.kit.hub.listen(view.heard, snapshot.id)
        if await view.begin():
            leave()
            if stop is not None:
                stop()
            return Response(204)  # an EventSource that comes back after the end stops here
    except BaseException:
        if stop is not None:
            stop()
        leave()
        raise
    return Response(200, headers=dict(HEADERS), stream=Stream(call.api, call.grant, tail, view, leave, stop))


async def events(call: Call) -> Response:
    """The events of all jobs, or of those asked for, from now on or after an id."""
    asked: StreamQuery = call.query
    for task in asked.task:
        call.require_task(task)
    tail = await call.api.tail()
    leave = await enter(call, call.grant, tail)
    try:
        view = AllView(call, tail, asked, cursor_of(call.request, asked.last_event_id))
        await view.begin()
    except BaseException:
        leave()
        raise
    return Response(200, headers=dict(HEADERS), stream=Stream(call.api, call.grant, tail, view, leave))


async def enter(call: Call, grant: Grant, tail: Tail, topics: int = 0) -> Callable[[], None]:
    """Count one more stream of somebody, who asks for so many topics of the hub; returns what ends its counting.

    Raises:
        Problem: 429 too many of this subject (person, token or address), 503 too many of all. The open server's own
            machine is not limited by itself.
    """
    api, subject, limits = call.api, subject_of(grant, call.request), call.api.limits
    if api.streams >= limits.streams:
        raise _too_many(503, f"{limits.streams:,} streams are open; come back later")
    if not grant.is_open and api.streams_of[subject] >= limits.streams_per_subject:
        raise _too_many(429, f"{limits.streams_per_subject:,} streams of yours are open; close one, or come back later")
    if not grant.is_open and api.topics_of[subject] + topics > limits.topics_per_subject:
        raise _too_many(429, f"your streams ask for more than {limits.topics_per_subject:,} topics together; close one")
    is_counted = True
    api.streams += 1
    api.streams_of[subject] += 1
    api.topics_of[subject] += topics

    def count_off() -> None:
        nonlocal is_counted
        if is_counted:
            is_counted = False
            api.streams -= 1
            for counter, n in ((api.streams_of, 1), (api.topics_of, topics)):
                counter[subject] -= n
                if counter[subject] <= 0:
                    del counter[subject]

    try:
        await tail.enter()
    except BaseException:
        count_off()
        raise

    def leave() -> None:
        if is_counted:
            count_off()
            tail.leave()

    return leave


def _too_many(status: int, message: str) -> Problem:
    return Problem(status, "too_many_streams", message, headers={"Retry-After": "5"})


class Stream(AsyncIterator[bytes]):
    """Frames of a view, heartbeats while it is silent, and an end: of the view, the token or the stream's life.

    An object and not a generator, so that its end is certain: `aclose` may be called before the first frame.
    """

    def __init__(
        self,
        api: Api,
        grant: Grant,
        tail: Tail,
        view: View,
        leave: Callable[[], None],
        stop: Callable[[], None] | None = None,
        *,
        retry_ms: int = RETRY_MS,
    ) -> None:
        self._api, self._grant, self._tail, self._view = api, grant, tail, view
        self._leave, self._stop = leave, stop
        now = time.time()
        life = api.limits.stream_s * random.uniform(0.8, 1.0)
        self._until = time.monotonic() + min(life, grant.expires_at - now)
        self._is_begun = self._is_closed = self._has_paced = False
        self._checked = time.monotonic()
        # Before the first event and not alone: some clients take a block without data for an event.
        self._retry = f"retry: {retry_ms}\n".encode() if retry_ms else b""

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        if not self._is_begun:
            self._is_begun = True
            return COMMENT
        if self._has_paced:
            await asyncio.sleep(PACE_S)
        try:
            while not self._is_closed:
                if await self._is_ending():  # also of a stream that is never silent
                    break
                version = self._tail.version
                frames = await self._view.collect()
                self._has_paced = bool(frames)
                if frames:
                    retry, self._retry = self._retry, b""
                    return b"".join([retry, *frames])
                if self._view.is_over:
                    break
                left = self._until - time.monotonic()
                is_new = await self._tail.changed(version, max(0.0, min(self._api.limits.heartbeat_s, left)))
                if not is_new and not await self._is_ending():
                    return COMMENT
        except (JobkitError, Problem):
            pass  # the store is away, or what was read is gone: the client comes back
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End it; any number of times."""
        if not self._is_closed:
            self._is_closed = True
            if self._stop is not None:
                self._stop()
            self._leave()

    async def _is_ending(self) -> bool:
        now = time.monotonic()
        if now >= self._until:
            return True
        if now - self._checked >= min(5.0, self._api.limits.heartbeat_s):
            self._checked = now
            if not await self._api.holds(self._grant):
                self._until = now
                return True
        return False


class JobView:
    """One job. With `with_logs` also its log lines, as `logged` events without an id."""

    def __init__(self, call: Call, tail: Tail, snapshot: JobSnapshot, cursor: str, *, with_logs: bool) -> None:
        self._call, self._tail, self._cursor, self._with_logs = call, tail, cursor, with_logs
        self._id = snapshot.id
        self._snapshot = snapshot
        self._position: Key = tail.last
        self._seq = 0
        self._news = tail.newest_news
        self._first: list[bytes] = []
        self._line: int | None = None
        self._early: Entry | None = None
        self._is_over = False

    @property
    def is_over(self) -> bool:
        return self._is_over

    def heard(self, event: JobEvent) -> None:
        """An event on the job's own channel, in the hub's thread."""
        if event.type is EventType.LOGGED:
            self._tail.poke()

    async def begin(self) -> bool:
        """Find where to begin. True where there is nothing to say: the client knows the job's end."""
        at = key_of(self._cursor)
        if at is None or not await is_known(self._call.kit, self._tail, at):  # the first time, or another store's id
            await self._restart()
            return False
        self._position = at
        if not self._snapshot.is_terminal:
            return False
        try:
            return not any(entry.event.job_id == self._id for entry in await self._missed(at))
        except EventsExpired:
            return False

    async def _missed(self, at: Key) -> list[Entry]:
        """The job's events after a position, up to now."""
        found: list[Entry] = []
        while page := await self._tail.after(at):
            found += [entry for entry in page if entry.event.job_id == self._id]
            at = page[-1].key
        return found

    async def _restart(self) -> None:
        """Begin with a snapshot, under the id of the last event that is in it."""
        before = self._tail.last
        snapshot: JobSnapshot = await self._call.kit.aio.snapshot(self._id)
        self._snapshot, self._seq, self._position = snapshot, snapshot.seq, before
        try:
            for entry in await self._missed(before):
                if entry.event.seq <= snapshot.seq:
                    self._position = entry.key
        except EventsExpired:
            self._position = self._tail.last
        self._first = [snapshot_frame(snapshot, id_of(self._position))]
        self._is_over = snapshot.is_terminal

    async def collect(self) -> Sequence[bytes]:
        frames, self._first = self._first, []
        if self._is_over:
            if frames:
                frames = [*await self._lines(), *frames]
            return frames
        part = Part(frames)
        try:
            while page := await self._tail.after(self._position):
                for entry in page:
                    if part.is_full:
                        return part.frames
                    self._position = entry.key
                    event = entry.event
                    if event.job_id != self._id or event.seq <= self._seq:
                        continue
                    self._seq = event.seq
                    if self._ends(event):
                        self._is_over = True
                        return [*part.frames, *await self._lines(), entry.frame]
                    part.add(entry.frame)
        except EventsExpired:
            try:
                await self._restart()
            except JobNotFound:
                self._is_over = True
                return part.frames
            part.add(*self._first)
            self._first = []
        part.add(*self._newest())
        part.add(*await self._lines())
        return part.frames

    def _newest(self) -> list[bytes]:
        """The job's newest progress, where that is news."""
        newest, self._early = self._early, None
        while True:
            self._news, news = self._tail.news(self._news)
            if not news:
                break
            newest = next((entry for entry in reversed(news) if entry.event.job_id == self._id), newest)
        if newest is None or newest.event.seq < self._seq:
            return []
        if newest.event.seq > self._seq:  # it waits for the event that it belongs to
            self._early = newest
            return []
        return [newest.frame]

    @staticmethod
    def _ends(event: JobEvent) -> bool:
        return event.type is EventType.DELETED or JobState(event.data.get("state", "queued")).is_terminal

    async def _lines(self) -> list[bytes]:
        """New lines of the log; of a log that is longer than the tail, at first only its end."""
        if not self._with_logs:
            return []
        tail = LOG_TAIL if self._line is None else LOG_PAGE
        log = await self._call.kit.aio.logs(self._id, after=self._line or 0, tail=tail)
        self._line = max(self._line or 0, log.lines[-1].n if log.lines else 0)
        if not log.lines:
            return []
        body = {
            "job_id": self._id,
            "type": "logged",
            "total": log.total,
            "lines": [line.to_json() for line in log.lines],
        }
        return [frame(to_json(body), event="logged")]


class AllView:
    """All jobs, or those that the query and the token are about.

    The first event of a new stream is `ready`: it tells where the stream is, so that who is cut in silence and comes
    back misses nothing.
    """

    def __init__(self, call: Call, tail: Tail, asked: StreamQuery, cursor: str) -> None:
        self._kit, self._tail, self._grant = call.kit, tail, call.grant
        self._cursor = cursor
        self._jobs, self._tasks, self._queues = frozenset(asked.job), frozenset(asked.task), frozenset(asked.queue)
        self._types = frozenset(asked.type)
        self._with_news = asked.progress
        self._needs_spec = bool(asked.task or asked.queue or not call.grant.sees_all)
        self._position: Key = tail.last
        self._news = tail.newest_news
        self._first: list[bytes] = []
        self.is_over = False

    async def begin(self) -> None:
        at = key_of(self._cursor)
        if at is not None and await is_known(self._kit, self._tail, at):
            self._position = at
        elif self._cursor:
            self._first = [self._reset("the id to go on from is not one of this store")]
        else:
            last = id_of(self._position)
            self._first = [frame(to_json({"id": last}), event="ready", id=last)]

    def _reset(self, why: str) -> bytes:
        self._position = self._tail.last
        body = {"message": f"{why}: read the jobs again; this stream goes on from now"}
        return frame(to_json(body), event="reset", id=id_of(self._position))

    async def collect(self) -> Sequence[bytes]:
        part, self._first = Part(self._first), []
        try:
            while not part.is_full and (page := await self._tail.after(self._position)):
                for entry in await self._wanted(page):
                    if part.is_full:
                        return part.frames
                    part.add(entry.frame)
                    self._position = entry.key
                self._position = page[-1].key
        except EventsExpired:
            return [*part.frames, self._reset("some events are no longer kept")]
        while self._with_news and not part.is_full:
            self._news, news = self._tail.news(self._news)
            if not news:
                break
            part.add(*(entry.frame for entry in await self._wanted(news)))
        return part.frames

    async def _wanted(self, page: Sequence[Entry]) -> Sequence[Entry]:
        if self._jobs:
            page = [entry for entry in page if entry.event.job_id in self._jobs]
        if self._types:
            page = [entry for entry in page if str(entry.event.type) in self._types]
        if not self._needs_spec or not page:
            return page
        specs = await self._tail.specs(entry.event.job_id for entry in page)
        return [entry for entry in page if self._is_of(specs.get(entry.event.job_id))]

    def _is_of(self, spec: JobSpec | None) -> bool:
        return (
            spec is not None
            and self._grant.sees(spec)
            and (not self._tasks or spec.task in self._tasks)
            and (not self._queues or spec.queue in self._queues)
        )


def cursor_of(request: Request, in_query: str) -> str:
    """The id to go on from: the header, which a browser sends by itself, before the query."""
    header = request.headers.get("last-event-id", "")
    if header or in_query:
        return header or in_query
    names = ("lastEventId", "lastEventID", "Last-Event-ID")  # of older clients and polyfills
    return next((value for name, value in request.arguments() if name in names), "")


def key_of(cursor: str) -> Key | None:
    """Position of an event's id, or None where it is none; "earliest" for everything kept."""
    if cursor == "earliest":
        return EARLIEST
    text = cursor.removeprefix("#")
    return parse_stream_id(text if "-" in text else f"{text}-0")


async def is_known(kit: Kit, tail: Tail, at: Key) -> bool:
    """Whether this store may have given that id: it has come as far."""
    return at <= tail.last or at <= event_key(await on_loop(kit.verbs.store.last_event_id()))


def id_of(key: Key) -> str:
    return f"{key[0]}-{key[1]}"
