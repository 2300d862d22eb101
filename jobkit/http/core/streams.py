"""Event streams: how a view of events becomes a response that lasts.

A stream stores only its position. When its client has taken the last write, the view reads what comes next from the
tail, so nothing piles up. The adapters cut a client that takes nothing for `Limits.slow_s`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from typing import Protocol

from jobkit.client import Kit
from jobkit.http.auth.access import Grant
from jobkit.http.core.handling import Api, ApiCall, subject_of
from jobkit.http.core.messages import EVENT_STREAM, Problem, Response
from jobkit.http.core.tail import COMMENT, Key, Tail, on_loop
from jobkit.model import JobkitError
from jobkit.store.values import event_key, parse_stream_id

#: Milliseconds after which a client reconnects.
RETRY_MS = 1000

#: Seconds between two writes to one client. Events in between are sent together.
PACE_S = 0.05

_HEADERS = {
    "Content-Type": EVENT_STREAM,
    "Cache-Control": "private, no-cache, no-store, must-revalidate, max-age=0",
    "X-Accel-Buffering": "no",
    "Connection": "keep-alive",
    "Pragma": "no-cache",
}

#: Before all kept events.
EARLIEST: Key = (0, 0)


class View(Protocol):
    """The events that one client sees. `is_over`: nothing more will come."""

    is_over: bool

    async def collect(self) -> Sequence[bytes]:
        """Return the next frames, perhaps not all; empty if there is nothing new. Each frame is returned once."""
        ...


class Stream(AsyncIterator[bytes]):
    """Frames of a view, heartbeats while it is silent, and an end: of the view, the token or the stream's life.

    An object and not a generator, so that it always ends: `aclose` may be called before the first frame.

    Args:
        ends: closed when the stream ends.
        retry_ms: milliseconds after which the client reconnects; 0 to leave that to the client.
    """

    def __init__(
        self, api: Api, grant: Grant, tail: Tail, view: View, ends: ExitStack, *, retry_ms: int = RETRY_MS
    ) -> None:
        self._api, self._grant, self._tail, self._view, self._ends = api, grant, tail, view, ends
        now = time.time()
        life = api.limits.stream_s * random.uniform(0.8, 1.0)
        self._until = time.monotonic() + min(life, grant.expires_at - now)
        self._is_begun = self._is_closed = self._has_paced = False
        self._checked = time.monotonic()
        # Sent before the first event and not alone: some clients take a block without data for an event.
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
            pass  # the store is away, or the job is deleted: the client reconnects
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End it. May be called more than once."""
        self._is_closed = True
        self._ends.close()

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


async def enter(call: ApiCall, grant: Grant, tail: Tail, ends: ExitStack, topics: int = 0) -> None:
    """Count one more stream of a caller, with this number of hub topics, until `ends` is closed.

    Raises:
        Problem: 429 too many for this subject (person, token or address), 503 too many in total. The limits per subject
            do not hold for the machine of an open server.
    """
    api, subject, limits = call.api, subject_of(grant, call.request), call.api.limits
    if api.streams >= limits.streams:
        raise _too_many(503, f"{limits.streams:,} streams are open; come back later")
    if not grant.is_open and api.streams_of[subject] >= limits.streams_per_subject:
        raise _too_many(429, f"{limits.streams_per_subject:,} streams of yours are open; close one, or come back later")
    if not grant.is_open and api.topics_of[subject] + topics > limits.topics_per_subject:
        raise _too_many(429, f"your streams ask for more than {limits.topics_per_subject:,} topics together; close one")
    api.count_streams(subject, 1, topics)
    ends.callback(api.count_streams, subject, -1, -topics)
    await tail.enter()
    ends.callback(tail.leave)


def _too_many(status: int, message: str) -> Problem:
    return Problem(status, "too_many_streams", message, headers={"Retry-After": "5"})


def streamed(
    call: ApiCall, grant: Grant, tail: Tail, view: View, ends: ExitStack, *, retry_ms: int = RETRY_MS, **headers: str
) -> Response:
    """Return the response that streams a view; it takes over `ends`. Header names are written with underscores."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(
        200,
        headers={**_HEADERS, **named},
        stream=Stream(call.api, grant, tail, view, ends.pop_all(), retry_ms=retry_ms),
    )


def key_of(cursor: str) -> Key | None:
    """Return the position of an event's id, `EARLIEST` for "earliest", or None if it is not an id."""
    if cursor == "earliest":
        return EARLIEST
    text = cursor.removeprefix("#")
    return parse_stream_id(text if "-" in text else f"{text}-0")


async def is_known(kit: Kit, tail: Tail, at: Key) -> bool:
    """Return whether this store may have given that id: its newest event is not older."""
    return at <= tail.last or at <= event_key(await on_loop(kit.verbs.store.last_event_id()))


def id_of(key: Key) -> str:
    return f"{key[0]}-{key[1]}"
