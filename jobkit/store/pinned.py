"""Connections of redis-py that accept a single certificate.

Those of redis-py itself accept the certificates of all authorities that the system trusts, beside the given ones.
"""

from __future__ import annotations

import ssl
from typing import Any

import redis
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection


class PinnedConnection(redis.SSLConnection):
    """A blocking connection with the TLS of its caller."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._tls = tls

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        return self._tls.wrap_socket(sock, server_hostname=self.host)


class AsyncPinnedConnection(AsyncSSLConnection):
    """A connection of asyncio with the TLS of its caller."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = tls
