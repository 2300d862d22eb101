"""Base of the parts of the store on Redis: the client, and the functions."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AbstractContextManager
from typing import TypeVar

from redis.asyncio import Redis

from jobkit.model import StoreUnavailable
from jobkit.settings import Settings
from jobkit.store.connect import open_redis, reaching
from jobkit.store.library import Functions

T = TypeVar("T")


class RedisPart:
    """A part of `RedisStore`, with the verbs for one subject.

    Args:
        settings: namespace and times.
        redis: client to use; by default one for `settings.url` is opened, which this object closes.
    """

    def __init__(self, settings: Settings, redis: Redis | None = None) -> None:
        self.settings = settings
        self.prefix = f"jk:{settings.namespace}:"
        self.redis: Redis = open_redis(settings) if redis is None else redis
        self.functions = Functions(self.redis, self.prefix)
        self._ttl_ms = max(1, int(settings.result_ttl * 1000))
        self._is_closed = False

    def _reaching(self) -> AbstractContextManager[None]:
        if self._is_closed:  # redis-py would open another connection and leak it
            raise StoreUnavailable(f"the connection to Redis at {self.settings.masked_url} was closed: connect again")
        return reaching(self.settings)


async def awaited(value: Awaitable[T] | T) -> T:
    """redis-py types its asyncio commands as "awaitable or value"."""
    return await value  # type: ignore[misc,no-any-return]
