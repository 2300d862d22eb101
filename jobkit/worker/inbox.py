"""The worker's channel: jobs that a submit hands over, requests about jobs and the worker, and wake-ups."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import RedisError

from jobkit.model import StoreUnavailable
from jobkit.store.redis import RedisStore
from jobkit.store.values import WorkerInfo
from jobkit.store.wire import read_claimed
from jobkit.worker.about import RetryPause
from jobkit.worker.running import RunningJobs

logger = logging.getLogger("jobkit.worker")


class WorkerInbox:
    """Reads the worker's channel.

    Args:
        beside: what runs beside the worker; it may have something to do earlier than known.
        on_stop: called with one of `STOPS` when the worker is asked to stop. on_cut: awaited after each cut.

    Attributes:
        received: number of jobs that were handed over since the last subscription.
        is_listening: whether jobs may be handed over.
    """

    def __init__(
        self,
        store: RedisStore,
        info: WorkerInfo,
        running: RunningJobs,
        beside: Sequence[Any],
        pause: RetryPause,
        *,
        on_stop: Callable[[str], None],
        on_cut: Callable[[], Awaitable[None]],
    ) -> None:
        self._store, self._info, self._running, self._beside = store, info, running, beside
        self._pause, self._on_stop, self._on_cut = pause, on_stop, on_cut
        self.received, self.is_listening = 0, False

    async def read(self) -> None:
        """Read until cancelled, through every cut of the connection."""
        failures = 0
        while True:
            pubsub = self._store.redis.pubsub()
            try:
                # Let no job be handed over before the subscription; the next claim offers the free slots again.
                self.received = 0
                await self._store.claim(self._info, 0, -1)
                await pubsub.subscribe(self._store.channel("inbox", self._info.id))
                async for message in pubsub.listen():
                    if message["type"] == "message":
                        self.take(message["data"])
                    elif message["type"] == "subscribe":
                        self.is_listening, failures = True, 0
                        self._running.wake.set()
                        self._wake_beside()
                        self._running.requests.look()
            except (RedisError, OSError, StoreUnavailable) as error:
                if failures == 0:
                    logger.warning("the worker's channel was cut (%s); coming back", type(error).__name__)
                self.is_listening = False
                await self._on_cut()
                await self._pause.wait(failures)
                failures += 1
            finally:
                self.is_listening = False
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _wake_beside(self) -> None:
        for each in self._beside:
            each.wake()

    def take(self, message: bytes) -> None:
        """Obey a message; one that cannot be read, of another program that writes to this Redis, is left out."""
        try:
            self.obey(message)
        except Exception as error:
            logger.warning("a message to this worker is left out: %s: %.300s", type(error).__name__, error)

    def obey(self, message: bytes) -> None:
        """`J...`: a job that a submit hands over; `C...`: cancel; `A...`: the same, gently; `S...`: stop;
        `T`: news for what runs beside; `Q...`: an answer; else a wake-up."""
        kind = message[:1]
        if kind == b"J":
            claimed = read_claimed(message[1:])
            self.received += 1
            self._running.launch(claimed)
        elif kind == b"C":
            self._running.cancel(_text(message))
        elif kind == b"A":
            self._running.ask(_text(message))
        elif kind == b"Q":
            self._running.requests.look(_text(message))
        elif kind == b"S":
            self._on_stop(_text(message))
        elif kind == b"T":
            self._wake_beside()
        else:
            self._running.wake.set()


def _text(message: bytes) -> str:
    return message[1:].decode("utf-8", "replace")
