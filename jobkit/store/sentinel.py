"""`redis+sentinel://` and `rediss+sentinel://`: a client that asks Sentinels for the primary at each connect."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis.asyncio.sentinel
import redis.sentinel
from redis.connection import parse_url
from redis.exceptions import RedisError, ResponseError

#: redis-py's two errors for a primary that no Sentinel can name just now.
NO_PRIMARY = (redis.sentinel.MasterNotFoundError, redis.asyncio.sentinel.MasterNotFoundError)

#: Errors of a Sentinel that cannot be asked; the next one is.
_AWAY = (redis.ConnectionError, redis.TimeoutError)

#: Seconds that a Sentinel may take for its answer.
_ANSWER_TIMEOUT_S = 3.0

#: Seconds between two questions for the primary while a client is in use.
_FOLLOW_S = 3.0


class UnknownPrimary(RedisError):
    """The Sentinels know no primary of this name. The message is a clause that names those which they know."""


class NotSentinel(RedisError):
    """The server that was asked for the primary is no Sentinel."""


def open_by_sentinel(url: str, options: dict[str, Any], *, is_async: bool) -> Any:
    """Return a client of redis-py for the primary.

    Args:
        url: `redis+sentinel://[user:password@]host:port[,host:port...]/name[/db][?sentinel_password=...]`; with
            `rediss+sentinel://` Sentinels and servers speak TLS, and the query has `ssl_ca_certs` and the like.
        options: of each connection.

    Raises:
        ValueError: the URL cannot be understood.
    """
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    name, _, db = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError("a sentinel URL names the master: redis+sentinel://host:26379/mymaster/0")
    query = dict(parse_qsl(parts.query))
    login = {key: query.pop(f"sentinel_{key}", None) for key in ("username", "password")}
    transport: dict[str, Any] = parse_url(  # type: ignore[no-untyped-call]
        f"redis://localhost/0?{urlencode(query)}"
    )
    for part in ("host", "db"):
        transport.pop(part, None)
    if parts.scheme.startswith("rediss"):
        transport |= {"ssl": True, "ssl_check_hostname": True}
    asked = {**options, **transport, **login, "socket_timeout": _ANSWER_TIMEOUT_S}
    kind: Any = _AsyncSentinel if is_async else _Sentinel
    followed = {"connection_pool_class": _FollowingPool} if is_async else {}
    return kind([_address(host) for host in hosts.split(",")], sentinel_kwargs=asked).master_for(
        name,
        **followed,
        db=database_of(db),
        username=unquote(user) or None,
        password=unquote(password) or None,
        **{**options, **transport},
    )


def database_of(text: str) -> int:
    """Return the number of a database. Raises ValueError for another text."""
    if text and not text.isdecimal():
        raise ValueError(f"the database must be a whole number, as in redis://host:6379/0, not {text!r}")
    return int(text or 0)


def _address(host: str) -> tuple[str, int]:
    address, _, port = host.rpartition(":")
    return (address.strip("[]") or host, int(port) if address else 26379)


class _Sentinel(redis.sentinel.Sentinel):
    """Tells a name that no Sentinel knows from a primary that is away."""

    def discover_master(self, service_name: str) -> Any:
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except redis.sentinel.MasterNotFoundError:
            for one in _sentinels(self):
                try:
                    _check_known(service_name, one.sentinel_masters())
                except _AWAY:
                    continue
            raise
        except ResponseError as error:
            raise _explained(error) from error


class _AsyncSentinel(redis.asyncio.sentinel.Sentinel):
    """The same for an event loop."""

    async def discover_master(self, service_name: str) -> Any:
        try:
            return await super().discover_master(service_name)
        except redis.asyncio.sentinel.MasterNotFoundError:
            for one in _sentinels(self):
                try:
                    _check_known(service_name, await one.sentinel_masters())
                except _AWAY:
                    continue
            raise
        except ResponseError as error:
            raise _explained(error) from error


def _sentinels(manager: Any) -> list[Any]:
    """Return the clients of the Sentinels, whose commands have no types."""
    found: list[Any] = manager.sentinels
    return found


def _check_known(name: str, known: Any) -> None:
    if name not in known:
        names = ", ".join(map(repr, sorted(known)))
        raise UnknownPrimary(f"know no primary {name!r}" + (f", but {names}" if names else ""))


def _explained(error: ResponseError) -> RedisError:
    return NotSentinel() if "unknown command" in str(error) else error


class _FollowingPool(redis.asyncio.sentinel.SentinelConnectionPool):
    """Cuts what is connected to a server that is the primary no longer.

    A server that ends closes its connections, and Sentinels close those of a primary that they demote. A frozen server
    does neither, and its callers would wait until it thaws.
    """

    _follower: asyncio.Task[None] | None = None

    async def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        if self._follower is None:
            self._follower = asyncio.get_running_loop().create_task(self._follow(), name="jobkit-primary")
        return await super().get_connection(*args, **kwargs)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        if inuse_connections:  # the client is closed
            if self._follower is not None:
                self._follower.cancel()
                self._follower = None
            for one in self.sentinel_manager.sentinels:
                await one.connection_pool.disconnect()
        await super().disconnect(inuse_connections)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_FOLLOW_S)
            with contextlib.suppress(RedisError, OSError):
                primary = await self.sentinel_manager.discover_master(self.service_name)
                connections: list[Any] = [*self._in_use_connections]
                for connection in connections:
                    if connection.is_connected and (connection.host, connection.port) != primary:
                        await connection.disconnect(nowait=True)
