"""Told of each change of some keys, with no configuration of the server: by client tracking.

arq's client only adds to a sorted set and publishes nothing. Redis, however, notifies a connection when a key that it
has read is changed (made for caches in clients). If a server or an access list refuses this, changes are found by
polling, as arq does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

logger = logging.getLogger("jobkit.worker")

_AGAIN_S = 0.5


class KeyWatch:
    """Sets `changed` when one of the keys has changed since `arm`; `run` it in a task."""

    def __init__(self, redis: Redis, keys: Sequence[str]) -> None:
        self._pool: Any = redis.connection_pool
        self._keys = keys
        self._asking: Any = None
        self._hearing: Any = None
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled, through every cut of the connection."""
        while True:
            try:
                await self._listen()
            except ResponseError as error:
                logger.info("this Redis does not tell of changes (%s): arq's queue is polled", error)
                return
            except (RedisError, OSError):
                await asyncio.sleep(_AGAIN_S)

    async def arm(self) -> None:
        """From now on, the next change sets `changed`."""
        self.changed.clear()
        asking = self._asking
        if asking is not None:
            try:
                await asking.send_command("EXISTS", *self._keys)
                await asking.read_response()
            except (RedisError, OSError):
                if self._hearing is not None:
                    await self._hearing.disconnect(nowait=True)

    async def _listen(self) -> None:
        # Two connections, since one that is subscribed may not ask anything (in the protocol that all servers speak).
        hearing = await self._pool.get_connection()
        try:
            asking = await self._pool.get_connection()
            try:
                await hearing.send_command("CLIENT", "ID")
                me = await hearing.read_response()
                await hearing.send_command("SUBSCRIBE", "__redis__:invalidate")
                await hearing.read_response()
                await asking.send_command("CLIENT", "TRACKING", "ON", "REDIRECT", me)
                await asking.read_response()
                self._asking, self._hearing = asking, hearing
                while True:
                    self.changed.set()
                    await hearing.read_response()
            finally:
                self._asking = self._hearing = None
                await self._drop(asking)
        finally:
            await self._drop(hearing)

    async def _drop(self, connection: Any) -> None:
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)
