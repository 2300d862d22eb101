"""`Answers`: replies of the worker to requests of an attempt, for threads and coroutines of the job."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec

#: A thread that waits for an answer notices a request to stop within so many seconds.
_SLICE_S = 1.0


class Reply(NamedTuple):
    """The worker's reply to a request.

    Attributes:
        kind: "wait" (there is no answer yet), "leave" (the same, and the attempt is to end), "answer", "late",
            "alone" (no person can answer), "many" (the job has asked too much) or "refused"; "stored" if the key is of
            a sync.
        body: the answer as JSON, or the sentence of a refusal.
    """

    key: str
    kind: str
    body: bytes = b""


class JobRequest(msgspec.Struct, frozen=True):
    """A request of a running attempt, which a feature of its worker serves; see `Sink.request`."""

    feature: str
    key: str
    body: bytes
    reply: Callable[[Reply], None]
    may_end: Callable[[], bool] = bool
    """The attempt may end while it waits: its next one goes on from a checkpoint."""


class WaitsWithoutSlot(BaseException):
    """Ends an attempt that waits for an answer; the job runs again when there is one."""


class Answers:
    """Replies to the requests of one attempt. Safe to use from several threads.

    Args:
        receive: returns the next reply, blocking; None if replies come by `put`.
    """

    def __init__(self, receive: Callable[[], Reply] | None = None) -> None:
        self._receive = receive
        self._is_receiving = False
        self._changed = threading.Condition()
        self._replies: list[Reply] = []
        self._counts: Counter[str] = Counter()
        self._callbacks: list[Callable[[], None]] = []

    def key_of(self, text: str) -> str:
        """Return the key of the next request with this text: the same in each attempt."""
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
        self._counts[digest] += 1
        return f"{digest}.{self._counts[digest]}"

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of requests so far, by the begin of their keys. A job that resumes goes on with those of its
        checkpoint."""
        return dict(self._counts)

    @counts.setter
    def counts(self, counts: Mapping[str, int]) -> None:
        self._counts = Counter(counts)

    def put(self, reply: Reply) -> None:
        with self._changed:
            self._replies.append(reply)
            self._changed.notify_all()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def _take(self, key: str) -> Reply | None:
        found = next((reply for reply in self._replies if reply.key == key), None)
        if found is not None:
            self._replies.remove(found)
        return found

    def wait(self, key: str) -> Reply:
        """Return the next reply to a request. One of several waiting threads receives for all."""
        with self._changed:
            while (found := self._take(key)) is None:
                if self._receive is None or self._is_receiving:
                    self._changed.wait(_SLICE_S)
                    continue
                self._is_receiving = True
                self._changed.release()
                try:
                    received = self._receive()
                finally:
                    self._changed.acquire()
                    self._is_receiving = False
                    self._changed.notify_all()
                self._replies.append(received)
            return found

    async def wait_async(self, key: str) -> Reply:
        """`wait` for a coroutine."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()

        def look() -> None:
            with self._changed:
                if (found := self._take(key)) is None:
                    self._callbacks.append(partial(_soon, loop, look))
            if found is not None and not reply.done():
                reply.set_result(found)

        if self._receive is None:
            look()
            return await reply

        def give(found: Reply) -> None:
            if not reply.done():
                reply.set_result(found)

        def receive() -> None:
            _soon(loop, partial(give, self.wait(key)))

        # A daemon: a cancelled coroutine leaves it behind, and the process with it when the job has ended.
        threading.Thread(target=receive, name="jobkit-answer", daemon=True).start()
        return await reply


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(call)
