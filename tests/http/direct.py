"""The API without a socket: requests are passed to `Api.handle`, in an event loop of this thread."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jobkit.access.own_machine import ClientConnection
from jobkit.client.kit import Kit
from jobkit.http.auth.access import Tokens
from jobkit.http.core.handling import Api
from jobkit.http.messages import Request
from jobkit.http.routes import ROUTES

T = TypeVar("T")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    stream: Any = None

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Direct:
    """Client of an `Api` of this kit, as a user on another machine; `is_own`: as the user who runs the server."""

    kit: Kit | None
    is_own: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    source: Callable[[], Kit] | None = None

    def __post_init__(self) -> None:
        self.api = Api(self.source or (lambda: self.kit), ROUTES, **self.options)
        self.runner = asyncio.Runner()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def ask(self, method: str, path: str, query: str = "", **options: Any) -> Answer:
        return self.run(self.asked(method, path, query, **options))

    async def asked(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        token: str = "",
        body: Any = None,
        form: str | None = None,
        headers: dict[str, str] | None = None,
        peer: str = "10.0.0.1",
        is_own: bool | None = None,
    ) -> Answer:
        named = {"host": "localhost", **(headers or {})}
        if token:
            named["authorization"] = f"Bearer {token}"
        content = b""
        if body is not None:
            content, named["content-type"] = json.dumps(body).encode(), "application/json"
        if form is not None:
            content, named["content-type"] = form.encode(), "application/x-www-form-urlencoded"
        is_own = self.is_own if is_own is None else is_own
        connection = ClientConnection(is_unix=True, unix_uid=os.geteuid()) if is_own else ClientConnection()
        found = await self.api.handle(Request(method, path, named, query, content, peer, connection))
        return Answer(found.status, found.headers, found.body, found.stream)

    def token(self, *scopes: str, **options: Any) -> str:
        assert self.kit is not None
        settings = self.kit.settings
        return Tokens(settings.login_secret, settings.namespace).make(scopes, **{"lifetime_s": 3600, **options})[0]

    def close(self) -> None:
        self.runner.close()
