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
from jobkit.http.auth.tokens import Grant
from jobkit.http.core.call import Api, Call, subject_of
from jobkit.http.core.messages import EVENT_STREAM, Problem, Request
from jobkit.http.core.tail import COMMENT, Key, Tail, on_loop
from jobkit.model import JobkitError
from jobkit.store.values import event_key, parse_stream_id

#: Milliseconds after which a client comes back.
RETRY_MS = 1000

#: Seconds between two writes to one client: what comes meanwhile goes together.
PACE_S = 0.05

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
