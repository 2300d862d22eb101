"""Connections of redis-py for event loops that notice a silent server: it is frozen, or cut off without a word."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from functools import lru_cache
from typing import Any

from redis.exceptions import RedisError

with contextlib.suppress(ModuleNotFoundError):  # Windows does not say what its sockets have not sent
    import fcntl
    import termios

#: So often a connection on which a reply is awaited is looked at within the time that its server may be silent.
_LOOKS = 5


class Silent(RedisError):
    """No byte went in or out for too long while a reply was awaited. redis-py does not repeat the command."""


class _Watched:
    """Part of a class of connections; see `watched`. A slow transfer is not cut as long as it moves."""

    reply_timeout_s: float
    _timer: asyncio.TimerHandle | None = None
    _sign: tuple[int, ...] = ()
    _began = _waits = _still = received = 0
    is_silent = False

    async def _connect(self) -> None:
        self.is_silent = False
        await super()._connect()  # type: ignore[misc]
        reader: Any = self._reader  # type: ignore[attr-defined]
        feed = reader.feed_data

        def fed(data: bytes) -> None:
            self.received += len(data)
            feed(data)

        reader.feed_data = fed

    async def send_packed_command(self, *args: Any, **more: Any) -> None:
        if not self.is_connected:  # type: ignore[attr-defined]
            await self.connect()  # type: ignore[attr-defined]
        with self:
            await super().send_packed_command(*args, **more)  # type: ignore[misc]

    async def read_response(self, *args: Any, **more: Any) -> Any:
        if not more.get("disconnect_on_error", True):  # a subscriber, which may hear nothing for long
            return await super().read_response(*args, **more)  # type: ignore[misc]
        with self:
            return await super().read_response(*args, **more)  # type: ignore[misc]

    def __enter__(self) -> None:
        """Begin to wait for the server."""
        self._began += 1
        self._waits += 1
        if self._timer is None:
            self._look_later()

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        self._waits -= 1
        if self.is_silent and isinstance(error, (RedisError, OSError)):
            raise Silent(f"silent for {self.reply_timeout_s:g} s") from error

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.reply_timeout_s / _LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        writer: Any = self._writer  # type: ignore[attr-defined]
        if not self._waits or writer is None:
            return
        sign = (self._began, self.received, writer.transport.get_write_buffer_size(), _unsent(writer))
        self._still = self._still + 1 if sign == self._sign else 0
        self._sign = sign
        if self._still < _LOOKS - 1:
            self._look_later()
        else:
            self.is_silent = True
            abort(self)  # the caller gets the error of a cut connection


def abort(connection: Any) -> None:
    """Cut a connection; no-op if it is not open."""
    if connection._writer is not None:
        connection._writer.transport.abort()


def _unsent(writer: asyncio.StreamWriter) -> int:
    """Return how many bytes the system has taken and the server has not; 0 if that is not known."""
    try:
        found = fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, NameError):
        return 0
    return int.from_bytes(found, sys.byteorder)


@lru_cache(maxsize=32)
def watched(kind: type, reply_timeout_s: float) -> type:
    """Return a class of connections like `kind` that raise `Silent` if nothing moves for `reply_timeout_s` seconds."""
    return type(kind.__name__, (_Watched, kind), {"reply_timeout_s": reply_timeout_s})
