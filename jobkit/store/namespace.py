"""One namespace on one Redis server: its client, the prefix of its keys, and calls of commands and verbs in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis

from jobkit.model import StoreUnavailable
from jobkit.settings import Settings
from jobkit.store.connect import Reaching, open_redis
from jobkit.store.library import Functions

T = TypeVar("T")


#: Number of jobs that one call changes, or reads, at most, so that it does not hold up others.
_CHANGED, _READ = 50, 500


def in_slices(items: Sequence[T], size: int = _CHANGED) -> Iterator[Sequence[T]]:
    """Yield parts that one call of a verb may name."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class RedisNamespace:
    """Connection of the store's parts to the server; raises `StoreUnavailable` if the server does not answer.

    Args:
        settings: namespace and times.
        redis: client to use; by default one for `settings.url` is opened. `close` closes it.
    """

    def __init__(self, settings: Settings, redis: Redis | None = None) -> None:
        self.settings = settings
        self.prefix = f"jk:{settings.namespace}:"
        self.redis: Redis = open_redis(settings) if redis is None else redis
        self.functions = Functions(self.redis, self.prefix)
        self.ttl_ms = max(1, int(settings.result_ttl * 1000))
        self._reaching = Reaching(settings)
        self._is_closed = False

    def channel(self, kind: str, name: str = "") -> str:
        """Return the channel of "all", of a job ("ch"), of a process ("client") or of a worker ("inbox")."""
        return f"{self.prefix}{kind}:{name}" if name else f"{self.prefix}{kind}"

    def reaching(self) -> Reaching:
        """Raise `StoreUnavailable` for errors of the server or of the connection inside the block."""
        if self._is_closed:  # redis-py would open another connection and leak it
            raise StoreUnavailable(f"the connection to Redis at {self.settings.masked_url} was closed: connect again")
        return self._reaching

    async def run(self, verb: str, args: Sequence[Any] = ()) -> Any:
        """Return the reply of a verb."""
        with self.reaching():
            (reply,) = await self.functions.run_many([(verb, args)])
            return reply

    async def run_each(self, verb: str, items: Sequence[Any], *options: Any, size: int = _CHANGED) -> list[Any]:
        """Return the replies of a verb to each item, in as many calls as it takes: each is atomic, the whole is not."""
        return [reply for some in in_slices(items, size) for reply in await self.run(verb, [*options, *some])]

    async def ask(self, command: str, key: str, *args: Any) -> Any:
        """Return the reply of a command for a key, which is given without the prefix."""
        (reply,) = await self.many([(command, key, *args)])
        return reply

    async def many(
        self, commands: Iterable[tuple[Any, ...]], *, raises: bool = True, is_atomic: bool = False
    ) -> list[Any]:
        """Return the replies of commands as for `ask` that are sent together.

        Args:
            raises: False returns an error of the server in its position.
            is_atomic: no other client's command comes between them.
        """
        with self.reaching():
            pipe = self.redis.pipeline(transaction=is_atomic)
            for command, key, *args in commands:
                scored = {"withscores": True} if "WITHSCORES" in args else {}  # the reply becomes pairs
                pipe.execute_command(command, self.prefix + key, *args, **scored)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
            for reply in replies:
                if raises and isinstance(reply, Exception):
                    raise reply
            return replies

    async def fields(
        self,
        names: Sequence[str],
        job_ids: Sequence[str],
        words: Sequence[str] = (),
        first_words: Sequence[str] = (),
    ) -> list[list[Any] | None]:
        """Return fields of the records of jobs; None for a job without the first of them.

        Empty for a job whose fields do not contain all `words`, which are in lower case (A to Z), or whose first field
        does not contain all `first_words`.
        """
        options = msgspec.json.encode({"names": names, "words": words, "first_words": first_words})
        return await self.run_each("fields", job_ids, options, size=_READ)

    async def now_ms(self) -> int:
        """Return the server's clock in milliseconds since the epoch."""
        with self.reaching():
            seconds, us = await self.redis.time()
            return int(seconds) * 1000 + int(us) // 1000

    async def ping(self) -> None:
        """Return when the server answers. Not by PING, which a server with a full disk rejects like a write."""
        await self.ask("EXISTS", "place")

    def open(self) -> None:
        """Allow requests again after `close`; a new namespace is open."""
        self._is_closed = False

    async def close(self) -> None:
        self._is_closed = True
        await self.redis.aclose()
        # A call that ends now, cancelled or cut, returns its connection to the pool; it may have opened it just now.
        for _ in range(3):
            await asyncio.sleep(0)
        await self.redis.connection_pool.disconnect()
