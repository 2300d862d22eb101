"""Calls to the server without redis-py's pool and pipeline, whose bookkeeping costs more than the command itself.

Connections are redis-py's own, from the client's pool, so URL, login, TLS, Sentinel and closing stay its business. What
is sent is in the socket's buffer before the coroutine first waits: the server works while the loop goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, ResponseError


class Line:
    """Sends commands of one client; calls that meet take a connection each. Belongs to one event loop."""

    def __init__(self, redis: Redis) -> None:
        self._pool: Any = redis.connection_pool
        self._idle: list[Any] = []

    async def call(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Replies of commands that are sent together; an error that the server answered stands in its place.

        Raises:
            RedisError, OSError: the server does not answer; what was executed is not known.
        """
        connection = await self._idle_one() or await self._pool.get_connection()
        replies: list[Any] = []
        is_whole = False
        try:
            await connection.send_packed_command([hiredis.pack_command(c) for c in commands], check_health=False)
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
            # A server that became a replica must be looked for again.
            is_whole = not any(isinstance(reply, ReadOnlyError) for reply in replies)
        finally:
            if is_whole:
                self._idle.append(connection)
            else:  # a reply may still be on its way
                await self._drop(connection)
        return replies

    async def cut(self) -> None:
        """Close what is not in use; the next call opens another."""
        while self._idle:
            await self._drop(self._idle.pop())

    async def _idle_one(self) -> Any:
        """A connection that was not cut since its last use, or None. Does not wait if there is one."""
        while self._idle:
            connection = self._idle.pop()
            reader = connection._reader
            if reader is not None and not reader.at_eof() and reader.exception() is None:
                return connection
            await self._drop(connection)
        return None

    async def _drop(self, connection: Any) -> None:
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)
