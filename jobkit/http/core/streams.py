"""Event streams: how the frames of one client become a response that lasts.

A stream stores only its position and the page that it has read. When its client has taken the last write, the next
frames are read from the tail, so nothing piles up. The adapters cut a client that takes nothing for `Limits.slow_s`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, suppress

from jobkit.http.core.handling import ApiCall
from jobkit.http.core.tail import Key, Tail
from jobkit.http.messages import EVENT_STREAM, Problem, Response
from jobkit.model import JobkitError
from jobkit.store.values import parse_stream_id

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

#: A heartbeat; the first one makes `onopen` fire. No empty line follows, since some clients (httpx-sse) take that for
#: an event without data.
COMMENT = b":\n"

#: Approximate size of one write to a client; as much is buffered for each client that does not read.
PART_BYTES = 256_000

#: Before all kept events.
EARLIEST: Key = (0, 0)

#: The frames that one client sees. After all that is new comes b"": the generator is resumed when there may be more.
Frames = AsyncGenerator[bytes, None]


async def _parts(call: ApiCall, tail: Tail, frames: Frames, ends: ExitStack, retry_ms: int) -> Frames:
    """Yield frames, and heartbeats while there are none, until the frames, the token or the stream's life end.

    The first part is empty: once it was yielded, `aclose` closes `ends`.
    """
    api, checked_at = call.api, time.monotonic()
    life = api.limits.stream_s * random.uniform(0.8, 1.0)
    until = checked_at + min(life, call.grant.expires_at - time.time())

    async def is_ending() -> bool:
        nonlocal checked_at
        now = time.monotonic()
        if now >= until:
            return True
        if now - checked_at < min(5.0, api.limits.heartbeat_s):
            return False
        checked_at = now
        return not await api.holds(call.grant)

    # The store may be away, or the job deleted: the client reconnects.
    with ends, suppress(JobkitError, Problem):
        yield b""
        # Not a separate block: some clients take one without data for an event.
        comment = COMMENT + (f"retry: {retry_ms}\n".encode() if retry_ms else b"")
        is_over, is_idle = False, True
        async with aclosing(frames):
            while not is_over and not await is_ending():  # also of a stream that is never silent
                if comment:
                    yield comment
                    comment = b""
                version, part, was_idle = tail.version, bytearray(), is_idle
                is_over, is_idle = True, False
                async for one in frames:
                    part += one
                    if not one or len(part) >= PART_BYTES:
                        is_over, is_idle = False, not one
                        break
                if data := bytes(part):
                    del part  # a slow client has it only once
                    yield data
                    await asyncio.sleep(PACE_S)
                elif was_idle and not is_over:
                    left = max(0.0, until - time.monotonic())
                    if not await tail.changed(version, min(api.limits.heartbeat_s, left)):
                        comment = COMMENT


async def enter(call: ApiCall, ends: ExitStack, topics: int = 0) -> Tail:
    """Count one more stream of a caller, with this number of hub topics, until `ends` is closed. Return its tail.

    Refuses too many for one person, token or address (429), except the machine of an open server, and in total (503).
    """
    api, subject, limits = call.api, call.subject, call.api.limits
    if api.streams >= limits.streams:
        raise _too_many(503, f"{limits.streams:,} streams are open; come back later")
    if not call.grant.is_open and api.streams_of[subject] >= limits.streams_per_subject:
        raise _too_many(429, f"{limits.streams_per_subject:,} streams of yours are open; close one, or come back later")
    if not call.grant.is_open and api.topics_of[subject] + topics > limits.topics_per_subject:
        raise _too_many(429, f"your streams ask for more than {limits.topics_per_subject:,} topics together; close one")
    api.count_streams(subject, 1, topics)
    ends.callback(api.count_streams, subject, -1, -topics)
    tail = await api.tail()
    await tail.enter()
    ends.callback(tail.leave)
    return tail


def _too_many(status: int, message: str) -> Problem:
    return Problem(status, "too_many_streams", message, headers={"Retry-After": "5"})


async def streamed(call: ApiCall, tail: Tail, frames: Frames, ends: ExitStack, retry_ms: int = RETRY_MS) -> Response:
    """Return the response that streams frames; it takes over `ends`. `retry_ms` is 0 to let clients choose it."""
    parts = _parts(call, tail, frames, ends.pop_all(), retry_ms)
    await anext(parts)
    return Response(200, headers=dict(_HEADERS), stream=parts)


async def position_of(cursor: str, tail: Tail) -> Key | None:
    """Return the position of an event's id, `EARLIEST` for "earliest", or None if it is not an id of this store."""
    if cursor == "earliest":
        return EARLIEST
    text = cursor.removeprefix("#")
    key = parse_stream_id(text if "-" in text else f"{text}-0")
    return key if key is not None and await tail.may_know(key) else None


def id_of(key: Key) -> str:
    return f"{key[0]}-{key[1]}"
