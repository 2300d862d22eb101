"""From a URL to a Redis client, and from its errors to one sentence."""

from __future__ import annotations

import re
import socket
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
import redis.sentinel
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError as NoMaster
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from jobkit.model import InvalidParams, StoreUnavailable
from jobkit.settings import Settings

#: Seconds to open a connection before saying so.
CONNECT_TIMEOUT_S = 3.0

#: Seconds to wait for the answer to a submit, or to any other call of a thread.
REPLY_TIMEOUT_S = 5.0

#: A connection whose other end is gone without a word (a cut cable, a machine without power) is given up after 20 s of
#: silence. The kernel sees to it, so that who only listens learns of it too.
_KEEPALIVE = {
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 20_000,  # what was sent and is not acknowledged, in ms
}


#: Errors of redis-py after which the server cannot have read the request: no connection, or (EPIPE) one that it had
#: closed before.
_UNSENT = re.compile("^(Error .*|Timeout )connecting to |^Error 32 while writing ")


def open_redis(settings: Settings) -> Redis:
    """An asyncio client for `settings.url`; nothing is sent yet. Replies are bytes.

    Raises:
        InvalidParams: the URL cannot be understood.
    """
    client: Redis = _open(settings, Redis, Sentinel)
    return client


def open_blocking(settings: Settings, reply_timeout_s: float | None = None) -> redis.Redis:
    """A blocking client for `settings.url`, for threads that must not depend on an event loop.

    A server that is frozen does not keep them for longer than `reply_timeout_s` (by default `REPLY_TIMEOUT_S`) seconds.
    """
    timeout_s = REPLY_TIMEOUT_S if reply_timeout_s is None else reply_timeout_s
    client: redis.Redis = _open(settings, redis.Redis, redis.sentinel.Sentinel, socket_timeout=timeout_s)
    return client


def _open(settings: Settings, client: Any, sentinel: Any, **more: Any) -> Any:
    # Two defaults of redis-py 8 are new: it gives up replies after 5 s, and it uses RESP 3, in which a server may send
    # messages between replies. `library._Replies` would take them for replies.
    options: dict[str, Any] = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": None, "protocol": 2}
    options |= more
    if settings.scheme != "unix":
        options["socket_keepalive"] = True
        options["socket_keepalive_options"] = {
            getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)
        }
    try:
        if settings.scheme == "redis+sentinel":
            return _from_sentinel(settings.url, sentinel, options)
        if (member := settings.membership) is not None:
            return client.from_url(member.redis_url, **options, **member.redis_options())
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
    is_joined = settings.scheme == "joined"
    if is_joined and ("WRONGPASS" in text or isinstance(error, AuthenticationError)):
        return StoreUnavailable(
            f"{where} refuses this machine, which was revoked: join again with a new word of `jobkit share` there",
            is_refusal=True,
        )
    if isinstance(error, AuthenticationError | AuthorizationError) or "NOAUTH" in text or "WRONGPASS" in text:
        return StoreUnavailable(f"{where} refused the login: check user and password in JOBKIT_URL", is_refusal=True)
    if is_joined and ("NOPERM" in text or "ACL failure" in text or isinstance(error, NoPermissionError)):
        return StoreUnavailable(
            f"{where} does not let this machine do that ({_first(text)}): a viewer may only read", is_refusal=True
        )
    if isinstance(error, NoPermissionError) or "NOPERM" in text:
        return StoreUnavailable(
            f"{where} does not let this user do that ({_first(text)}): docs/reliability.md lists the rights it needs",
            is_refusal=True,
        )
    if text.startswith("OLDSERVER ") or ("unknown command" in text and ("FCALL" in text or "FUNCTION" in text)):
        version = _first(text).removeprefix("OLDSERVER ") if text.startswith("OLDSERVER ") else "it has no functions"
        return StoreUnavailable(f"{where} is too old ({version}): use Redis or Valkey 7.2 or newer", is_refusal=True)
    if isinstance(error, BusyLoadingError):
        return StoreUnavailable(f"{where} is still loading its data: try again in a moment")
    if isinstance(error, OutOfMemoryError) and text.startswith("FUNCTION LOAD: "):
        return StoreUnavailable(
            f"{where} has reached its memory limit (maxmemory) and cannot load jobkit's functions: raise it",
            only_reads=True,
        )
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM "):
        return StoreUnavailable(
            f"{where} has reached its memory limit (maxmemory): raise it, or remove ended jobs with "
            "`jobkit prune --keep 1000`",
            only_reads=True,
        )
    if isinstance(error, ReadOnlyError) or "READONLY " in text:
        return StoreUnavailable(f"{where} is a read-only replica: point JOBKIT_URL at the primary", only_reads=True)
    if "MISCONF" in text:
        return StoreUnavailable(
            f"{where} cannot write to its disk and refuses changes: free space, see its log", only_reads=True
        )
    if "NOREPLICAS" in text:
        return StoreUnavailable(
            f"{where} has too few replicas in reach and refuses changes (min-replicas-to-write): bring them back",
            only_reads=True,
        )
    if "MASTERDOWN" in text:
        return StoreUnavailable(f"{where} is a replica that has lost its primary: try again in a moment")
    if text.startswith("BUSY "):
        return StoreUnavailable(f"{where} is busy with a function or script: try again in a moment")
    if text.startswith(("MOVED ", "CROSSSLOT", "CLUSTERDOWN")) or "cluster" in text:
        return StoreUnavailable(
            f"{where} is a cluster, and a namespace lives on one server: use one without cluster mode"
        )
    if isinstance(error, ResponseError):
        return StoreUnavailable(f"{where} refused a command: {_first(text)}")
    hint = (
        "start it again with any jobkit command, or see `jobkit doctor`"
        if settings.is_embedded
        else "the machine that shares it may be asleep, away or stopped, and its jobs go on when it is back"
        if is_joined
        else "check that it runs and that JOBKIT_URL is right, or see `jobkit doctor`"
    )
    reason = _first(text) if isinstance(error, RedisError | OSError) and text else type(error).__name__
    is_unsent = isinstance(error, NoMaster | redis.sentinel.MasterNotFoundError) or _UNSENT.search(text)
    return StoreUnavailable(f"{where} does not answer ({reason}): {hint}", is_sent=not is_unsent)


class Reaching:
    """A block out of which every error of the server or of the connection comes as `StoreUnavailable`; see `explain`.

    Entered with each call, so it is no generator, which takes longer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (RedisError, OSError)):
            raise explain(error, self._settings) from error


def _first(text: str) -> str:
    """The first line of what a server said, not more than fits into a sentence."""
    return (text.splitlines() or [""])[0][:200]
