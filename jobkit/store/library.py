"""The store's transitions as one library of Redis Functions: put together from `lua/`, loaded if a server lacks it.

Its name and those of its functions carry a hash of its text, so processes of different versions share a server. A verb
is called by FCALL. A server that answers "Function not found" (a new one, or after FUNCTION FLUSH) is given the
library, and the call is repeated. A worker that starts deletes the libraries of other versions that no worker has used
for a day. Workers note with each heartbeat that theirs is in use; if one in use is deleted nevertheless, the next call
loads it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from operator import attrgetter
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, InvalidResponse, OutOfMemoryError, ReadOnlyError, ResponseError

from jobkit.features import DOORS, FEATURES

Command = tuple[Any, ...]

#: What a reader returns until a reply is whole.
_MORE: Any = object()

#: The format of a namespace's keys; verbs and clients refuse others. It is written in `lua/lib/call.lua`.
FORMAT = b"1"

#: Of the names of all versions' libraries.
_PREFIX = "jobkit_"

#: Hash: library name to the Unix time (s) of the last heartbeat of a worker that uses it, or of the first worker of
#: another version that found it. In no namespace.
_USED = "jk:libraries"

#: Seconds after which a library that no process has used is deleted.
_UNUSED_S = 86_400


class Library:
    """One version of the library.

    Args:
        sources: the texts of the files in `lua/` of the store and of the features, in their order and by path without
            suffix ("lib/queue", "verbs/claim"). Each is a block with local names; `lib/call` comes first, and its
            locals are known to all.

    Attributes:
        name: of the library. text: what FUNCTION LOAD takes.
        functions: name of the function by name of the verb.
    """

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.sources = sources
        blocks = {path: text for path, text in sources.items() if path != "lib/call"}
        modules = [path[4:].capitalize() for path in blocks if path.startswith("lib/")]
        body = f"local {', '.join(modules)} = {', '.join('{}' for _ in modules)}\n{sources['lib/call']}" + "".join(
            f"do -- {path}\n{text}end\n" for path, text in blocks.items()
        )
        self.name = _PREFIX + hashlib.sha256(body.encode()).hexdigest()[:12]
        self.text = f"#!lua name={self.name}\nlocal LIBRARY = '{self.name}'\n{body}"
        self.functions = {path[6:]: f"{self.name}_{path[6:]}" for path in blocks if path.startswith("verbs/")}

    @classmethod
    def read(cls) -> Library:
        """The library of this version, from its files."""
        places = [files("jobkit.store"), *(files(f"jobkit.features.{feature.name}") for feature in FEATURES)]
        return cls(
            {
                f"{folder}/{file.name.removesuffix('.lua')}": file.read_text("utf-8")
                for folder in ("lib", "verbs")
                for place in places
                if (lua := place / "lua" / folder).is_dir()
                for file in sorted(lua.iterdir(), key=attrgetter("name"))
                if file.name.endswith(".lua")
            }
        )


#: The library that this process calls; tests put another one in its place.
current = Library.read()


def call(prefix: str, verb: str, args: Sequence[Any], library: Library | None = None) -> Command:
    """The command that runs a verb in the namespace of `prefix`; of another library than the current one if given."""
    return ("FCALL", (library or current).functions[verb], 1, prefix, *args)


def is_missing(reply: object) -> bool:
    """Return True if a call was not executed since the server does not have the library."""
    return isinstance(reply, ResponseError) and str(reply).startswith("Function not found")


def check_loaded(reply: object) -> None:
    """Check the reply to FUNCTION LOAD; another process may have loaded the library meanwhile.

    Raises:
        ResponseError: the server does not take the library.
    """
    if isinstance(reply, OutOfMemoryError):
        raise OutOfMemoryError(f"FUNCTION LOAD: {reply}")
    if isinstance(reply, Exception) and "already exists" not in str(reply):
        raise reply


def run_blocking(execute: Callable[..., Any], prefix: str, verb: str, args: Sequence[Any]) -> Any:
    """The reply of a verb, in a thread. `execute` sends one command and returns its reply, or raises.

    Raises:
        RedisError, OSError: the server refuses it, or does not answer.
    """
    try:
        return execute(*call(prefix, verb, args))
    except ResponseError as error:
        if not is_missing(error):
            raise
    try:
        execute("FUNCTION", "LOAD", current.text)
    except ResponseError as error:
        check_loaded(error)
    return execute(*call(prefix, verb, args))


async def delete_unused(redis: Redis) -> None:
    """Delete libraries of other versions that were not used for a day; a user without the right to it goes without."""
    execute: Any = redis.execute_command
    with contextlib.suppress(ResponseError):
        now_s, _ = await execute("TIME")
        listed = await execute("FUNCTION", "LIST", "LIBRARYNAME", f"{_PREFIX}*")
        for name in {_name_of(entry) for entry in listed} - {current.name}:
            last = await execute("HGET", _USED, name)
            if last is None:
                await execute("HSET", _USED, name, now_s)
            elif now_s - int(last) > _UNUSED_S:
                await execute("FUNCTION", "DELETE", name)
                await execute("HDEL", _USED, name)


def _name_of(listed: Any) -> str:
    """The library's name in an entry of FUNCTION LIST: a flat list, or a map for a client of RESP 3."""
    entry = listed if isinstance(listed, Mapping) else dict(zip(listed[::2], listed[1::2], strict=True))
    name = next(value for key, value in entry.items() if key in (b"library_name", "library_name"))
    return name.decode() if isinstance(name, bytes) else str(name)


class _Replies(asyncio.Protocol):
    """A connection of redis-py whose replies are read without its streams, which cost more than a command."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=connection._parser.parse_error, notEnoughData=_MORE
        )
        self._replies: list[Any] = []
        self._wanted = 0
        self._whole: asyncio.Future[list[Any]] | None = None  # of the last call
        self._transport = connection._writer.transport
        self._stream = self._transport.get_protocol()
        # The stream alone has been told if the server has closed the connection since its greeting.
        self.is_lost = connection._reader.at_eof() or self._transport.is_closing()
        self._transport.set_protocol(self)

    async def of(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands and return their replies; one call at a time."""
        if self.is_lost:
            raise ConnectionError("Connection closed by server.")
        self._wanted = len(commands)
        self._whole = asyncio.get_running_loop().create_future()
        self._transport.write(b"".join([hiredis.pack_command(command) for command in commands]))
        try:
            async with asyncio.timeout(self.connection.socket_timeout):
                with self.connection:
                    return await self._whole
        finally:
            self._replies, self._whole = [], None  # an idle connection keeps no payloads

    def data_received(self, data: bytes) -> None:
        self.connection.received += len(data)
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not _MORE:
            self._replies.append(reply)
        if len(self._replies) == self._wanted and self._whole is not None and not self._whole.done():
            self._whole.set_result(self._replies)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        if self._whole is not None and not self._whole.done():
            self._whole.set_exception(ConnectionError(str(error or "Connection closed by server.")))
        self._stream.connection_lost(error)


class RedisConnection:
    """Sends commands of one client; concurrent calls take a connection each. Belongs to one event loop.

    Without redis-py's pool, pipeline and streams, whose bookkeeping costs more than the command itself. The connections
    are redis-py's own, from the client's pool, so URL, login, TLS, Sentinel and closing stay its business. Commands are
    in the socket's buffer before the coroutine first waits: the server works while the loop goes on.
    """

    def __init__(self, redis: Redis) -> None:
        self._pool: Any = redis.connection_pool
        self._idle: list[_Replies] = []
        self.is_kept = True
        """A connection stays open after its call."""

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Return replies of commands that are sent together; an error of the server stands in its position.

        Raises:
            RedisError, OSError: the server does not answer; what was executed is not known.
        """
        if not commands:
            return []
        connection = await self._idle_one() or _Replies(await self._pool.get_connection())
        replies: list[Any] = [ReadOnlyError()]
        try:
            replies = await connection.of(commands)
        finally:
            # A server that became a replica must be looked for again. Without replies, some may still be on their way.
            if not self.is_kept or any(isinstance(reply, ReadOnlyError | ConnectionError) for reply in replies):
                await self._drop(connection)
            else:
                self._idle.append(connection)
        for reply in replies:
            if isinstance(reply, ConnectionError):  # it is loading its data, for instance
                raise reply
        return replies

    async def _idle_one(self) -> _Replies | None:
        """Return a connection that was not cut since its last use, or None. Does not wait if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_lost:
                return connection
            await self._drop(connection)
        return None

    async def _drop(self, connection: _Replies) -> None:
        await connection.connection.disconnect(nowait=True)
        await self._pool.release(connection.connection)


class Functions:
    """Calls verbs on one client, for one namespace; those of another library than the current one if given."""

    def __init__(self, redis: Redis, prefix: str, library: Library | None = None) -> None:
        self.connection = RedisConnection(redis)
        self._prefix, self._library = prefix, library

    async def run_many(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Replies of several verbs, sent together: one round trip. Each is atomic, the group is not."""
        replies = await self.connection.call([call(self._prefix, verb, args, self._library) for verb, args in calls])
        missing = [i for i, reply in enumerate(replies) if is_missing(reply)]
        if missing:  # not executed: safe to send again, in their order
            library = self._library or current
            check_loaded(*await self.connection.call([("FUNCTION", "LOAD", library.text)]))
            again = await self.connection.call([call(self._prefix, *calls[i], self._library) for i in missing])
            for i, reply in zip(missing, again, strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies


#: Rights that the user of a server needs, as ACL SETUSER takes them; docs/reliability.md says why.
RIGHTS = " ".join(["~jk:*", *(f"~{door.keys}*" for door in DOORS.values()), "&jk:* +@all -@dangerous -@admin +info"])

#: Commands that clients send themselves. Those of the verbs are found in the library's text.
_SENT = (
    "FUNCTION LOAD",
    "GET",
    "HGETALL",
    "HVALS",
    "MULTI",
    "PING",
    "SCARD",
    "SET",
    "SISMEMBER",
    "SMISMEMBER",
    "SRANDMEMBER",
    "SUBSCRIBE",
    "TIME",
    "UNSUBSCRIBE",
    "XINFO STREAM",
    "XREAD",
    "XREVRANGE",
    "XTRIM",
    "ZRANGE",
    "ZREMRANGEBYRANK",
    "ZREVRANGEBYSCORE",
)

_CALLED = re.compile(r"\b(?:call|try)\('([A-Z]+)'(?:, '([A-Z]+)')?")


def needed() -> list[str]:
    """Return the commands that jobkit uses: "HSET", "FUNCTION LOAD"."""
    called = {" ".join(filter(None, names)) for names in _CALLED.findall(current.text)}
    return sorted(called.union(_SENT))
