"""One namespace on one Redis server: its client, the prefix of its keys, and calls of commands and verbs in it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobkit.model import StoreUnavailable
from jobkit.settings import Settings
from jobkit.store import library
from jobkit.store.connect import Reaching, explain, open_redis
from jobkit.store.library import Functions
from jobkit.store.wire import UNREADABLE

T = TypeVar("T")

logger = logging.getLogger("jobkit.store")

#: Maximum number of damaged records that are logged and noted.
_TOLD_LIMIT = 1_000

#: Type of the key that a command needs, by its first letter, unless it is a string's.
_TYPES = {"H": "hash", "Z": "zset", "X": "stream", "L": "list", "S": "set"}

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
        self._refusal: StoreUnavailable | None = None
        self._told: set[bytes] = set()
        self._unreported: dict[bytes, str] = {}

    def channel(self, kind: str, name: str = "") -> str:
        """Return the channel of "all", of a job ("ch"), of a process ("client") or of a worker ("inbox")."""
        return f"{self.prefix}{kind}:{name}" if name else f"{self.prefix}{kind}"

    def reaching(self) -> Reaching:
        """Raise `StoreUnavailable` for errors of the server or of the connection inside the block."""
        if self._is_closed:  # redis-py would open another connection and leak it
            raise StoreUnavailable(f"the connection to Redis at {self.settings.masked_url} was closed: connect again")
        if self._refusal is not None:
            raise self._refusal
        return self._reaching

    async def run(self, verb: str, args: Sequence[Any] = ()) -> Any:
        """Return the reply of a verb."""
        with self.reaching():
            (reply,) = await self.functions.run_many([(verb, args)])
            return reply

    async def run_each(self, verb: str, items: Sequence[Any], *options: Any, size: int = _CHANGED) -> list[Any]:
        """Return the replies of a verb to each item, in as many calls as it takes: each is atomic, the whole is not."""
        return [reply for some in in_slices(items, size) for reply in await self.run(verb, [*options, *some])]

    async def settle(self, left: int) -> None:
        """Go on with what a call has left over, until nothing is. If that fails, the next heartbeat does it."""
        with contextlib.suppress(StoreUnavailable):
            while left:
                left = await self.run("settle", [self.ttl_ms])

    async def ask(self, command: str, key: str, *args: Any) -> Any:
        """Return the reply of a command for a key, which is given without the prefix."""
        (reply,) = await self.many([(command, key, *args)])
        return reply

    async def many(self, commands: Iterable[tuple[Any, ...]], *, is_atomic: bool = False) -> list[Any]:
        """Return the replies of commands as for `ask` that are sent together.

        A key of another type than a command needs is put aside first, see `lua/lib/damage.lua`.

        Args:
            is_atomic: no other client's command comes between them.
        """
        commands = list(commands)
        with self.reaching():
            await self.report()
            replies = await self._send(commands, is_atomic)
            damaged = [i for i, reply in enumerate(replies) if _is_of_another_type(reply)]
            if damaged:
                keys = {commands[i][1]: _type_for(commands[i][0]) for i in damaged}
                await self.run("mend", [part for pair in keys.items() for part in pair])
                for i, reply in zip(damaged, await self._send([commands[i] for i in damaged], is_atomic), strict=True):
                    replies[i] = reply
            for reply, command in zip(replies, commands, strict=True):
                if _is_of_another_type(reply):
                    raise ResponseError(f"{self.prefix}{command[1]} is damaged: {reply}")
                if isinstance(reply, Exception):
                    raise reply
            return replies

    async def _send(self, commands: Iterable[tuple[Any, ...]], is_atomic: bool) -> list[Any]:
        pipe = self.redis.pipeline(transaction=is_atomic)
        for command, key, *args in commands:
            scored = {"withscores": True} if "WITHSCORES" in args else {}  # the reply becomes pairs
            pipe.execute_command(command, self.prefix + key, *args, **scored)
        return list(await pipe.execute(raise_on_error=False))

    # -- what cannot be read ------------------------------------------------------------------------------------------

    def readable(self, key: str, read: Callable[[Any], T], raw: Any, member: str | bytes = b"") -> T | None:
        """Return `read(raw)`; None if `raw` is empty or cannot be read: one damaged record must not hide all others.

        That is logged once, and noted for `jobkit doctor`.

        Args:
            key: the key, without the prefix. member: its field, member or entry.
        """
        if not raw:
            return None
        try:
            return read(raw)
        except UNREADABLE as error:
            self.left_out(key, member, f"{type(error).__name__}: {error}"[:200])
            return None

    def all_readable(self, key: str, read: Callable[[str, Any], T], raws: Iterable[tuple[bytes, Any]]) -> list[T]:
        """Return `read(member, raw)` of each member of a key that can be read."""
        found = []
        for member, raw in raws:
            name = self.readable(key, bytes.decode, member, member)
            one = self.readable(key, partial(read, name), raw, member) if name is not None else None
            if one is not None:
                found.append(one)
        return found

    async def records(self, kind: str, names: Sequence[str], read: Callable[[str, Any], T]) -> list[T | None]:
        """Return `read(name, hash)` of the hash `{kind}:{name}` of each name; None if there is no readable one."""
        found = await self.many([("HGETALL", f"{kind}:{name}") for name in names])
        return [
            self.readable(f"{kind}:{name}", partial(read, name), record)
            for name, record in zip(names, found, strict=True)
        ]

    def names(self, key: str, members: Iterable[bytes]) -> list[str]:
        """Return the members of a key as text, without those that are not UTF-8."""
        return self.all_readable(key, lambda name, _: name, ((member, member) for member in members))

    def left_out(self, key: str, member: str | bytes, why: str) -> None:
        """Log and note that something cannot be read."""
        member = member.encode("utf-8", "surrogateescape") if isinstance(member, str) else member
        name = key.encode("utf-8", "surrogateescape") + (b"\n" + member if member else b"")
        if name not in self._told and len(self._told) < _TOLD_LIMIT:
            self._told.add(name)
            logger.warning("%s cannot be read and is left out: %s", shown(name), why)
            self._unreported[name] = why

    async def report(self) -> None:
        """Note what could not be read so far, unless the server takes no changes."""
        found, self._unreported = self._unreported, {}
        if found:
            with contextlib.suppress(StoreUnavailable):
                await self.run("report", [part for pair in found.items() for part in pair])

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
        """Return when the server answers. Not by PING, which a server with a full disk rejects like a write.

        Two keys, which no server in cluster mode accepts. Raises StoreUnavailable if the keys have another format, as
        do all later calls.
        """
        _, found = await self.many([("EXISTS", "place", f"{self.prefix}workers"), ("GET", "format")])
        if found not in (None, library.FORMAT):
            self._refusal = explain(ResponseError(f"FORMAT {found.decode('utf-8', 'replace')}"), self.settings)
            raise self._refusal

    async def lacks(self) -> list[str]:
        """Return the rights that this user lacks, as phrases: "the command HSET", "writing the keys jk:default:*".

        Raises:
            StoreUnavailable: it may not even call functions.
        """
        return [lack.decode() for lack in await self.run("rights", library.needed())]

    def open(self) -> None:
        """Allow requests again after `close`; a new namespace is open."""
        self._is_closed, self.functions.connection.is_kept = False, True
        vars(self.redis.connection_pool).pop("release", None)

    async def close(self) -> None:
        if not self._is_closed:
            await self.report()
        self._is_closed, self.functions.connection.is_kept = True, False
        pool: Any = self.redis.connection_pool  # calls on their way may open theirs only now
        pool.release = partial(_close, type(pool).release, pool)
        await self.redis.aclose()


class StorePart:
    """Base of the parts of a store, which have verbs for one kind of records; each verb raises as `RedisNamespace`."""

    def __init__(self, namespace: RedisNamespace) -> None:
        self._ns = namespace


async def _close(release: Callable[..., Awaitable[None]], pool: Any, connection: Any) -> None:
    """Release a connection without keeping it open."""
    await connection.disconnect(nowait=True)
    await release(pool, connection)


def shown(name: bytes) -> str:
    """Return the name of something damaged for people: `key`, or `member in key`."""
    key, _, member = name.decode("utf-8", "replace").partition("\n")
    return f"{member!r} in {key}" if member else key


def _is_of_another_type(reply: object) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")


def _type_for(command: str) -> str:
    return "string" if command in ("GET", "GETRANGE", "SET") else _TYPES[command[0]]
