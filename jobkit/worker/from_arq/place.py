"""The server of arq's settings, as a URL of ours."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from arq.connections import ArqRedis, RedisSettings

from jobkit.model import InvalidParams

#: What a URL's query may say of TLS: name in `RedisSettings` and in redis-py alike.
_TLS = ("ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data", "ssl_check_hostname")


def url_of(settings: RedisSettings) -> str:
    """The URL of what `RedisSettings` describe."""
    known = {name: getattr(settings, name) for name in (*_TLS, "username", "password")}
    if settings.sentinel:
        if isinstance(settings.host, str):
            raise InvalidParams("redis_settings: sentinel=True needs a list of (host, port) as host", "redis_settings")
        return _sentinel(settings.host, settings.sentinel_master, {**known, "db": settings.database})
    if not isinstance(settings.host, str):
        raise InvalidParams("redis_settings: a list of hosts needs sentinel=True", "redis_settings")
    place = {"host": settings.host, "port": settings.port, "path": settings.unix_socket_path, "db": settings.database}
    return _url({**known, **place}, is_tls=settings.ssl)


def url_of_pool(pool: ArqRedis) -> str:
    """The URL of what a pool is connected to."""
    connections: Any = pool.connection_pool
    options = connections.connection_kwargs
    if hasattr(connections, "sentinel_manager"):
        kinds = [client.connection_pool.connection_kwargs for client in connections.sentinel_manager.sentinels]
        return _sentinel([(kind["host"], kind["port"]) for kind in kinds], connections.service_name, options)
    return _url(options, is_tls="SSL" in connections.connection_class.__name__)


def queue_of(key: str) -> str:
    """Return the name of arq's queue here: its key, if that may name a queue."""
    if re.fullmatch(r"[A-Za-z0-9_.:-]{1,200}", key):
        return key
    return f"{re.sub(r'[^A-Za-z0-9_.:-]', '-', key)[:100]}-{zlib.crc32(key.encode()):08x}"


def _url(options: Mapping[str, Any], *, is_tls: bool) -> str:
    login = _login(options)
    database = options.get("db") or 0
    if path := options.get("path"):
        return f"unix://{login}{quote(str(path))}?db={database}"
    host = str(options.get("host") or "localhost")
    host = f"[{host}]" if ":" in host else host
    url = f"redis{'s' if is_tls else ''}://{login}{host}:{options.get('port') or 6379}/{database}"
    if not is_tls:
        return url
    tls = {name: options[name] for name in _TLS if options.get(name) is not None}
    return f"{url}?{urlencode(tls)}" if tls else url


def _sentinel(hosts: Any, master: str, options: Mapping[str, Any]) -> str:
    places = ",".join(f"{host}:{port}" for host, port in hosts)
    return f"redis+sentinel://{_login(options)}{places}/{quote(master)}/{options.get('db') or 0}"


def _login(options: Mapping[str, Any]) -> str:
    user, password = options.get("username") or "", options.get("password") or ""
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
