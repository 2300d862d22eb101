"""Submits on their way to the store: from blocking code, from coroutines, and in bulk.

Blocking code has a connection for its own threads: the way over the background loop costs two changes of thread, and
the reply waits behind the job's first events there, together more than the submit itself. Each event loop has one, too.
Concurrent submits of coroutines share a round trip, and a lost one is repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

import hiredis
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from jobkit.model import StoreUnavailable
from jobkit.model.batch import BatchSpec
from jobkit.model.errors import repeating
from jobkit.settings import Settings
from jobkit.store import library, wire
from jobkit.store.connect import REPLY_TIMEOUT_S, Reaching, explain, open_blocking
from jobkit.store.redis import RedisStore
from jobkit.store.values import Submission, SubmitReply

#: What one call that submits may carry, so that it does not hold up others, and has its reply in time.
_SLICE_JOBS, _SLICE_BYTES = 200, 4_000_000

#: Payloads below this size pass a slow link (20 kB/s) within `REPLY_TIMEOUT_S`.
_SMALL_BYTES = 100_000

#: As many of the submits that wait share a round trip. If all did, the coroutines would wait for the server together,
#: and then the server for them: with 64 of them 32 at a time give half as many more a second.
_SHARING = 32


class DirectSubmit:
    """One connection that all blocking threads share, one submit at a time. `client_id` is as for a `Sender`."""

    def __init__(self, settings: Settings, client_id: str) -> None:
        self._reaching = Reaching(settings)
        self._prefix = f"jk:{settings.namespace}:"
        self._client_id = client_id
        self._ttl_ms = max(1, int(settings.result_ttl * 1000))
        self._redis = open_blocking(settings)
        self._connection: Any = None
        self._lock = threading.Lock()

    def submit(self, job: Submission) -> SubmitReply:
        """Submit one job; see `RedisStore.submit`.

        Raises:
            StoreUnavailable: no answer; the job may be stored or not, and the submit may be repeated.
        """
        args = [self._client_id, b"", *wire.submit_args([job])]
        with self._reaching, self._lock:
            reply = library.run_blocking(self._call, self._prefix, "submit", args)
            left = wire.has_many_needs([job])
            with contextlib.suppress(RedisError, OSError):  # the next heartbeat goes on
                while left:
                    left = library.run_blocking(self._call, self._prefix, "settle", [self._ttl_ms])
        return wire.answers([job], reply)[0]

    def _call(self, *command: Any) -> Any:
        """A command's reply, without the bookkeeping of redis-py's pool."""
        if self._connection is None:
            self._connection = self._redis.connection_pool.get_connection()
        connection = self._connection
        is_whole = False
        try:
            # Connects if it is not connected.
            connection.send_packed_command([hiredis.pack_command(command)], check_health=False)
            reply = connection.read_response()
            is_whole = True
            return reply
        except ResponseError as error:
            is_whole = not isinstance(error, ReadOnlyError)  # a server that became a replica must be looked for again
            raise
        finally:
            if not is_whole:  # a reply may still be on its way
                connection.disconnect()

    def close(self) -> None:
        with self._lock:
            self._connection = None
            self._redis.close()
            self._redis.connection_pool.disconnect()


class Sender:
    """Sends submits through one store; `client_id` is the submitter's own channel, see `RedisStore.submit`."""

    def __init__(self, store: RedisStore, client_id: str) -> None:
        self._store, self._client_id = store, client_id
        self._queue: list[tuple[Submission, asyncio.Future[SubmitReply]]] = []
        self._is_busy = False
        self._sender: asyncio.Task[None] | None = None

    async def submit(self, submission: Submission) -> SubmitReply:
        """Submit one job; see `RedisStore.submit`. Those that come meanwhile share the next round trip."""
        if self._is_busy:
            reply: asyncio.Future[SubmitReply] = asyncio.get_running_loop().create_future()
            self._queue.append((submission, reply))
            return await reply
        self._is_busy = True
        try:
            return (await self._stored([submission]))[0]
        finally:
            self._is_busy = bool(self._queue)
            if self._queue:
                self._sender = asyncio.get_running_loop().create_task(self._send(), name="jobkit-submit")

    async def submit_many(
        self, submissions: Sequence[Submission], batch: BatchSpec | None = None, place: int = 0
    ) -> list[SubmitReply]:
        """Submit many jobs, in slices that do not hold up others; `batch` and `place` as of `RedisStore.submit`."""
        replies: list[SubmitReply] = []
        for part in sliced(submissions):
            replies += await self._stored(part, batch, place + len(replies))
        return replies

    async def _send(self) -> None:
        try:
            while self._queue:
                count = len(next(sliced([submission for submission, _ in self._queue[:_SHARING]])))
                batch, self._queue = self._queue[:count], self._queue[count:]
                try:
                    answers = await self._stored([submission for submission, _ in batch])
                except Exception as error:
                    for _, answer in batch:
                        if not answer.done():
                            answer.set_exception(error)
                    continue
                for (_, answer), value in zip(batch, answers, strict=True):
                    if not answer.done():
                        answer.set_result(value)
        finally:
            self._is_busy = False

    async def _stored(
        self, jobs: Sequence[Submission], batch: BatchSpec | None = None, place: int = 0
    ) -> list[SubmitReply]:
        """Store jobs. Ids are ours, so a submit whose reply was lost is safe to repeat: it finds itself."""
        began = asyncio.get_running_loop().time()
        try:
            return await self._stored_once(jobs, batch, place)
        except StoreUnavailable as error:
            if asyncio.get_running_loop().time() - began > 1.0:
                raise  # a server that does not answer in time is not asked once more
            first = error
        await asyncio.sleep(0.05)
        with repeating(first):
            return await self._stored_once(jobs, batch, place)

    async def _stored_once(self, jobs: Sequence[Submission], batch: BatchSpec | None, place: int) -> list[SubmitReply]:
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S if is_small(jobs) else None):
                return await self._store.submit(jobs, self._client_id, batch, place)
        except TimeoutError:
            error = TimeoutError(f"no reply within {REPLY_TIMEOUT_S:g} s")
            raise explain(error, self._store.settings) from None


class LoopSenders:
    """A `Sender` for each event loop that submits; its connection ends with the loop."""

    def __init__(self, open_store: Callable[[], RedisStore], client_id: str) -> None:
        self._open_store, self._client_id = open_store, client_id
        self._by_loop: dict[asyncio.AbstractEventLoop, tuple[Sender, AsyncGenerator[Sender]]] = {}

    async def of_this_loop(self) -> Sender:
        """Return the running loop's sender."""
        loop = asyncio.get_running_loop()
        if (known := self._by_loop.get(loop)) is not None:
            return known[0]
        for ended in [each for each in self._by_loop if each.is_closed()]:
            del self._by_loop[ended]
        life = self._life(loop)
        sender = await anext(life)
        self._by_loop[loop] = sender, life
        return sender

    async def _life(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Sender]:
        """Yield a sender, and close its connection when a loop that ends closes its generators."""
        store = self._open_store()
        try:
            yield Sender(store, self._client_id)
        finally:
            self._by_loop.pop(loop, None)
            await store.close()

    def close(self) -> None:
        """Close the connections on the loops that run."""
        for loop, (_, life) in list(self._by_loop.items()):
            if loop.is_running():
                asyncio.run_coroutine_threadsafe(life.aclose(), loop)


def is_small(submissions: Sequence[Submission]) -> bool:
    """Return False if a slow link may need longer than `REPLY_TIMEOUT_S` to send these submissions."""
    return sum(len(submission.payload) for submission in submissions) < _SMALL_BYTES


def sliced(submissions: Sequence[Submission]) -> Iterator[Sequence[Submission]]:
    """Parts that one call may carry: neither too many nor too large."""
    start, jobs, size = 0, 0.0, 0
    for i, submission in enumerate(submissions):
        more, more_bytes = _cost(submission), len(submission.payload)
        if i > start and (jobs + more > _SLICE_JOBS or size + more_bytes > _SLICE_BYTES):
            yield submissions[start:i]
            start, jobs, size = i, 0.0, 0
        jobs, size = jobs + more, size + more_bytes
    if start < len(submissions):
        yield submissions[start:]


def _cost(submission: Submission) -> float:
    """Return how many plain jobs cost the server as much time."""
    spec = submission.spec
    return 1 + bool(spec.limits) + len(spec.needs) / 10
