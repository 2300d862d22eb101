"""From a URL to a Redis client, and from its errors to one sentence."""

from __future__ import annotations

import re
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
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
from jobkit.store.library import FORMAT, RIGHTS
from jobkit.store.sentinel import NO_PRIMARY, NotSentinel, UnknownPrimary, database_of, open_by_sentinel
from jobkit.store.silence import watched

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

_LOGIN = re.compile("NOAUTH|WRONGPASS|Authentication required|AuthenticationError")

#: What a TLS error means, by a part of its text.
_TLS_FAULTS = (
    ("WRONG_VERSION_NUMBER", "does not speak TLS: give its TLS port, or use redis:// in a network that you trust"),
    ("ismatch", "has a certificate for another name: use the name in the certificate, or renew it for this one"),
    ("has expired", "has a certificate that has expired: renew it"),
    ("CERTIFICATE_REQUIRED", "asks for a client certificate: add ?ssl_certfile=PATH&ssl_keyfile=PATH"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "has a certificate of an unknown authority: add ?ssl_ca_certs=PATH of its CA to JOBKIT_URL",
    ),
)


def open_redis(settings: Settings) -> Redis:
    """An asyncio client for `settings.url`; nothing is sent yet. Replies are bytes.

    A server that is silent for `settings.reply_timeout` seconds while a reply is awaited is given up.

    Raises:
        InvalidParams: the URL cannot be understood.
    """
    client: Redis = _open(settings, Redis)
    pool: Any = client.connection_pool
    pool.connection_class = watched(pool.connection_class, settings.reply_timeout)
    return client


def open_blocking(settings: Settings, reply_timeout_s: float | None = None) -> redis.Redis:
    """A blocking client for `settings.url`, for threads that must not depend on an event loop.

    A server that is frozen does not keep them for longer than `reply_timeout_s` (by default `REPLY_TIMEOUT_S`) seconds.
    """
    timeout_s = min(REPLY_TIMEOUT_S, settings.reply_timeout) if reply_timeout_s is None else reply_timeout_s
    client: redis.Redis = _open(settings, redis.Redis, socket_timeout=timeout_s)
    return client


def _open(settings: Settings, client: Any, **more: Any) -> Any:
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
        if settings.is_by_sentinel:
            return open_by_sentinel(settings.url, options, is_async=client is Redis)
        if (member := settings.membership) is not None:
            options["connection_class"] = AsyncPinnedConnection if client is Redis else PinnedConnection
            return client.from_url(member.redis_url, tls=member.tls(), **options, **member.redis_options())
        if settings.scheme == "rediss":
            options["ssl_check_hostname"] = True
        if settings.scheme != "unix":
            database_of(urlsplit(settings.url).path.strip("/"))  # redis-py would take another one
        opened = client.from_url(settings.url, **options)
        opened.connection_pool.connection_class(**opened.connection_pool.connection_kwargs)  # connects to nothing yet
        return opened
    except (ValueError, TypeError) as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        why = f"{settings.scheme}:// has no option {unknown[1]!r}" if unknown else error
        raise InvalidParams(f"url {settings.masked_url!r} is not understood: {why}", "url") from None


def explain(error: Exception, settings: Settings) -> StoreUnavailable:
    """The sentence for an error of redis-py: which URL, what is wrong, what to try."""
    where = f"Redis at {settings.masked_url}"
    text = str(error)
    is_joined = settings.scheme == "joined"
    if is_joined and "was revoked" in text:  # the gateway says so
        return StoreUnavailable(
            f"{where} refuses this machine, which was revoked: join again with a new word of `jobkit share` there",
            is_refusal=True,
            is_revoked=True,
        )
    if isinstance(error, UnknownPrimary):
        return StoreUnavailable(f"the Sentinels of {where} {error}: correct the name in JOBKIT_URL", is_refusal=True)
    if isinstance(error, NotSentinel):
        why = "is no Sentinel: give the address of one (usually port 26379), or a redis:// URL"
        return StoreUnavailable(f"{where} {why}", is_refusal=True)
    if isinstance(error, NO_PRIMARY) and _LOGIN.search(text):
        why = "refused the login: add ?sentinel_password= to JOBKIT_URL, or correct it"
        return StoreUnavailable(f"the Sentinels of {where} {why}", is_refusal=True)
    if not is_joined and (isinstance(error, AuthenticationError | AuthorizationError) or _LOGIN.search(text)):
        return StoreUnavailable(f"{where} refused the login: check user and password in JOBKIT_URL", is_refusal=True)
    if is_joined and ("NOPERM" in text or "ACL failure" in text or isinstance(error, NoPermissionError)):
        return StoreUnavailable(
            f"{where} does not let this machine {_not_permitted(text, settings)}: a viewer may only read",
            is_refusal=True,
        )
    if isinstance(error, NoPermissionError) or "NOPERM" in text or "ACL failure" in text:
        return StoreUnavailable(
            f"{where} does not let this user {_not_permitted(text, settings)}: it needs the rights `{RIGHTS}`, see "
            "docs/reliability.md",
            is_refusal=True,
        )
    if not is_joined and "SSL" in text and (fault := next((fault for sign, fault in _TLS_FAULTS if sign in text), "")):
        return StoreUnavailable(f"{where} {fault}", is_refusal=True)
    if text.startswith("OLDSERVER ") or ("unknown command" in text and ("FCALL" in text or "FUNCTION" in text)):
        version = _first(text).removeprefix("OLDSERVER ") if text.startswith("OLDSERVER ") else "it has no functions"
        return StoreUnavailable(f"{where} is too old ({version}): use Redis or Valkey 7.2 or newer", is_refusal=True)
    if text.startswith("FORMAT "):
        return StoreUnavailable(
            f"the namespace {settings.namespace} of {where} is of format {_first(text)[7:57]}, and this version of "
            f"jobkit has format {FORMAT.decode()}: use the version that has made it, or another JOBKIT_NAMESPACE",
            is_refusal=True,
        )
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
    is_reply = isinstance(error, ResponseError)  # other errors name the host: redis.default.svc.cluster.local
    if text.startswith(("MOVED ", "CROSSSLOT", "CLUSTERDOWN")) or (is_reply and "cluster" in text):
        return StoreUnavailable(
            f"{where} runs in cluster mode, which cannot change several keys of a namespace at once: use servers "
            "without it, each with whole namespaces (docs/how-to/sizing.md)",
            is_refusal=True,
        )
    if isinstance(error, ResponseError):
        return StoreUnavailable(f"{where} refused a command: {_first(text)}")
    runs = "runs"
    if settings.scheme.startswith("rediss"):
        runs = (
            "runs, speaks TLS there and asks for no client certificate (else add ?ssl_certfile=PATH&ssl_keyfile=PATH)"
        )
    hint = (
        "start it again with any jobkit command, or see `jobkit doctor`"
        if settings.is_embedded
        else "the machine that shares it may be asleep, away or stopped, and its jobs go on when it is back"
        if is_joined
        else f"check that it {runs} and that JOBKIT_URL is right, or see `jobkit doctor`"
    )
    reason = _first(text) if isinstance(error, RedisError | OSError) and text else type(error).__name__
    if isinstance(error, NO_PRIMARY):
        is_away = " : " in text  # the errors of the Sentinels follow
        reason = "nor do its Sentinels" if is_away else "its Sentinels know no primary that does"
        hint = hint if is_away else "try again in a moment, a fail-over takes some seconds"
    is_unsent = isinstance(error, NO_PRIMARY) or _UNSENT.search(text)
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


def _not_permitted(text: str, settings: Settings) -> str:
    """Return what the server did not permit, by the text of its error."""
    if command := re.search(r"run the '([^']+)' command", text):
        return f"run {command[1].replace('|', ' ').upper()}"
    if found := re.search(r"access .*\b(key|channel)", text):
        return f"use the {found[1]}s jk:{settings.namespace}:*"
    return f"do that ({_first(text)})"


def _first(text: str) -> str:
    """The first line of what a server said, not more than fits into a sentence."""
    return (text.splitlines() or [""])[0][:200]


class PinnedConnection(redis.SSLConnection):
    """A blocking connection with the TLS of its caller, which accepts a single certificate.

    Those of redis-py accept the certificates of all authorities that the system trusts, beside the given ones.
    """

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._tls = tls

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        return self._tls.wrap_socket(sock, server_hostname=self.host)


class AsyncPinnedConnection(AsyncSSLConnection):
    """The same for an event loop."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = tls
