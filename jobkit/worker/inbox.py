"""A worker's own channel: jobs handed over by a submit, wake-ups, requests to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from jobkit.model import StoreUnavailable
from jobkit.store.redis import RedisStore

logger = logging.getLogger("jobkit.worker")

_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class Inbox:
    """Reads the channel until cancelled, through every cut of the connection.

    Args:
        before: called before each (new) subscription, so that no job is handed over while the worker is not subscribed.
        on_message: called with each message, `b"J..."` job, `b"W"` wake, `b"C..."` cancel.
        on_live: called when the subscription is confirmed: from now on jobs may be handed over.
    """

    def __init__(
        self,
        store: RedisStore,
        worker_id: str,
        *,
        before: Callable[[], Awaitable[None]],
        on_message: Callable[[bytes], None],
        on_live: Callable[[], None],
    ) -> None:
        self._store, self._worker_id = store, worker_id
        self._before, self._on_message, self._on_live = before, on_message, on_live
        self.is_live = False

    async def read(self) -> None:
        failures = 0
        channel = self._store.channel("inbox", self._worker_id)
        while True:
            pubsub = self._store.redis.pubsub()
            try:
                await self._before()
                await pubsub.subscribe(channel)
                async for message in pubsub.listen():
                    if message["type"] == "message":
                        self._on_message(message["data"])
                    elif message["type"] == "subscribe":
                        self.is_live, failures = True, 0
                        self._on_live()
            except (RedisError, OSError, StoreUnavailable) as error:
                if failures == 0:
                    logger.warning("the worker's channel was cut (%s); coming back", type(error).__name__)
                self.is_live = False
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
            finally:
                self.is_live = False
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
