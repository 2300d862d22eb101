"""The dashboard and the API on one server of this process, as `jobkit dashboard --login FILE` serves them."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import jobkit
from jobkit.cli.dashboard import guard
from jobkit.client.kit import Kit
from jobkit.settings import Settings
from tests.support import wait_until

AUTH = Path(jobkit.__file__).parent / "http" / "login.py"


def login_options(settings: Settings, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of Bokeh's server as `jobkit dashboard --login FILE` sets them; sets its environment, too."""
    from bokeh.server.auth_provider import AuthModule

    options, environ = guard(settings)
    for name, value in environ.items():
        patch.setenv(name, value)
    given = dict(itertools.pairwise([*options, ""]))
    return {
        "auth_provider": AuthModule(given["--auth-module"]),
        "cookie_secret": environ["PANEL_COOKIE_SECRET"],
        "secret_key": environ["BOKEH_SECRET_KEY"].encode(),
        "xsrf_cookies": "--enable-xsrf-cookies" in given,
        "sign_sessions": given.get("--session-ids") == "signed",
    }


class PeopleSite:
    """Server of `make` at /page and of the API of `kit`, with `options` for Bokeh's server, until `close`."""

    def __init__(self, kit: Kit, make: Callable[[], Any], *, address: str = "127.0.0.1", **options: Any) -> None:
        self._kit, self._make, self._address, self._options = kit, make, address, options
        self._running: Any = None
        self._thread = threading.Thread(target=self._run, name="people site", daemon=True)
        self._thread.start()
        wait_until(lambda: self._running is not None, what="the site")

    @property
    def url(self) -> str:
        return f"http://localhost:{self._running[0].port}"

    def _run(self) -> None:
        import panel as pn
        from tornado.ioloop import IOLoop

        from jobkit.http import tornado_routes
        from jobkit.http.core.handling import Limits
        from tests.ui.conftest import _SHORT, _end_rest

        asyncio.set_event_loop(asyncio.new_event_loop())
        server = pn.serve(
            {"page": self._make}, port=0, address=self._address, show=False, start=False, threaded=False,
            extra_patterns=tornado_routes(self._kit, limits=Limits(heartbeat_s=0.2)), **{**_SHORT, **self._options},
        )  # fmt: skip
        server.start()
        loop = IOLoop.current()
        self._running = server, loop
        loop.start()
        server.stop()
        loop.run_sync(_end_rest)
        loop.close(all_fds=True)

    def close(self) -> None:
        _, loop = self._running
        loop.add_callback(loop.stop)
        self._thread.join(60)
        assert not self._thread.is_alive()

    @contextmanager
    def client(self, name: str = "", password: str = "a long password") -> Iterator[httpx.Client]:
        """Return a client that has logged in and has an XSRF token."""
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as http:
            if name:
                http.get("/login")
                form = {"username": name, "password": password, "_xsrf": http.cookies["_xsrf"]}
                assert http.post("/login", data=form).status_code == 302
                http.headers["X-XSRFToken"] = http.cookies["_xsrf"]
            yield http
