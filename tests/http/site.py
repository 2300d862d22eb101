"""A server with the API, with Tornado or ASGI, in a thread of this process, for real clients."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import httpx

from jobkit.client.kit import Kit
from jobkit.http import asgi_app, tornado_routes
from jobkit.http.auth.access import Tokens
from jobkit.http.core.handling import Limits
from tests.support import wait_until

#: Settings of streams in tests, with short pauses.
QUICK = Limits(heartbeat_s=0.2, slow_s=1.0)


class Site:
    """Server of `kit` on a free port of 127.0.0.1 until `close`."""

    def __init__(self, kind: str, kit: Kit, *, port: int = 0, **options: Any) -> None:
        self.kind, self.kit = kind, kit
        options.setdefault("limits", QUICK)
        self._web = options.pop("web", "")
        self._is_logging = options.pop("is_logging", False)
        self.port = port
        self.api: Any = None
        self._options = options
        self._stop: Any = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=f"{kind} site", daemon=True)
        self._thread.start()
        wait_until(lambda: self._stop is not None, what="the site")

    async def _run(self) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        await (self._tornado(stop, loop) if self.kind == "tornado" else self._asgi(stop, loop))
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for each in rest:
            each.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _tornado(self, stop: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        from tornado.httpserver import HTTPServer
        from tornado.netutil import bind_sockets
        from tornado.web import Application

        from jobkit.http.tornado_app import WebFolder

        routes = tornado_routes(self.kit, **self._options)
        self.api = routes[0][2]["api"]
        if self._web:
            options = {"path": self._web, "default_filename": "index.html", "api": self.api}
            routes.append((r"/examples/web/(.*)", WebFolder, options))
        (listening,) = bind_sockets(self.port, "127.0.0.1")
        silent = {} if self._is_logging else {"log_function": lambda handler: None}
        server = HTTPServer(Application(routes, **silent))
        server.add_socket(listening)
        self.port = listening.getsockname()[1]
        self._stop = lambda: loop.call_soon_threadsafe(stop.set)
        await stop.wait()
        server.stop()
        await server.close_all_connections()

    async def _asgi(self, stop: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        import uvicorn

        app = asgi_app(self.kit, **self._options)
        self.api = app.api
        level = "info" if self._is_logging else "error"
        config = uvicorn.Config(
            app, host="127.0.0.1", port=self.port, log_level=level, timeout_graceful_shutdown=0, lifespan="off",
            server_header=False, timeout_keep_alive=30, ws="none",
        )  # fmt: skip
        server = uvicorn.Server(config)
        running = asyncio.create_task(server._serve())
        while not server.started:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0.01)
        self.port = server.servers[0].sockets[0].getsockname()[1]
        self._stop = lambda: loop.call_soon_threadsafe(stop.set)
        await stop.wait()
        logging.getLogger("uvicorn.error").disabled = True  # it logs the streams that it cuts
        server.should_exit = server.force_exit = True
        await running
        logging.getLogger("uvicorn.error").disabled = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, token: str = "", **options: Any) -> httpx.Client:
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **options.pop("headers", {})}
        return httpx.Client(base_url=self.url, timeout=20, headers=headers, trust_env=False, **options)

    def token(self, *scopes: str, lifetime_s: float = 3600, **options: Any) -> str:
        settings = self.kit.settings
        return Tokens(settings.login_secret, settings.namespace).make(scopes, lifetime_s=lifetime_s, **options)[0]

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        self._stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
