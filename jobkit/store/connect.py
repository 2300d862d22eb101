"""From a URL to a Redis client, and from its errors to one sentence."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
import redis.sentinel
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from jobkit.model import InvalidParams, StoreUnavailable
from jobkit.settings import Settings

#: Seconds to open a connection before saying so.
CONNECT_TIMEOUT_S = 3.0


def open_redis(settings: Settings) -> Redis:
    """An asyncio client for `settings.url`; nothing is sent yet. Replies are bytes.

    Raises:
        InvalidParams: the URL cannot be understood.
    """
    client: Redis = _open(settings, Redis, Sentinel)
    return client


def open_blocking(settings: Settings) -> redis.Redis:
    """A blocking client for `settings.url`, for threads that must not depend on an event loop."""
    client: redis.Redis = _open(settings, redis.Redis, redis.sentinel.Sentinel)
    return client


def _open(settings: Settings, client: Any, sentinel: Any) -> Any:
    options: dict[str, Any] = {"socket_connect_timeout": CONNECT_TIMEOUT_S}
    try:
        if settings.scheme == "redis+sentinel":
            return _from_sentinel(settings.url, sentinel, options)
        if settings.scheme == "rediss":
            options["ssl_check_hostname"] = True
        return client.from_url(settings.url, **options)
    except (ValueError, TypeError) as error:
        raise InvalidParams(f"url {settings.masked_url!r} is not understood: {error}", "url") from None


def _from_sentinel(url: str, sentinel: Any, options: dict[str, Any]) -> Any:
    """`redis+sentinel://[user:password@]host:port[,host:port...]/name[/db][?sentinel_password=...]`."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    name, _, db = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError("a sentinel URL names the master: redis+sentinel://host:26379/mymaster/0")
    addresses = []
    for host in hosts.split(","):
        address, _, port = host.rpartition(":")
        addresses.append((address or host, int(port) if address else 26379))
    sentinel_password = parse_qs(parts.query).get("sentinel_password", [None])[0]
    found = sentinel(addresses, sentinel_kwargs={"password": sentinel_password} if sentinel_password else {})
    return found.master_for(
        name, db=int(db or 0), username=unquote(user) or None, password=unquote(password) or None, **options
    )


def explain(error: Exception, settings: Settings) -> StoreUnavailable:
    """The sentence for an error of redis-py: which URL, what is wrong, what to try."""
    where = f"Redis at {settings.masked_url}"
    text = str(error)
    if isinstance(error, AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text:
        return StoreUnavailable(f"{where} refused the login: check user and password in JOBKIT_URL")
    if isinstance(error, BusyLoadingError):
        return StoreUnavailable(f"{where} is still loading its data: try again in a moment")
    if isinstance(error, OutOfMemoryError) or "OOM command" in text:
        return StoreUnavailable(
            f"{where} has reached its memory limit (maxmemory): raise it, or remove ended jobs with `jobkit prune`"
        )
    if isinstance(error, ReadOnlyError):
        return StoreUnavailable(f"{where} is a read-only replica: point JOBKIT_URL at the primary")
    if "MISCONF" in text:
        return StoreUnavailable(f"{where} cannot write to its disk and refuses changes: free space, see its log")
    if isinstance(error, ResponseError):
        return StoreUnavailable(f"{where} refused a command: {text}")
    hint = (
        "start it again with any jobkit command, or see `jobkit doctor`"
        if settings.is_embedded
        else "check that it runs and that JOBKIT_URL is right, or see `jobkit doctor`"
    )
    reason = text.splitlines()[0] if isinstance(error, RedisError | OSError) and text else type(error).__name__
    return StoreUnavailable(f"{where} does not answer ({reason}): {hint}")
