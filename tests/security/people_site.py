"""The dashboard and the API on one server of this process, as `jobkit dashboard --login FILE` serves them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import jobkit
from jobkit.cli.serve import guard
from jobkit.client.kit import Kit
from jobkit.settings import Settings
from tests.ui.page_server import PageServer

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


class PeopleSite(PageServer):
    """Server of `make` at /page and of the API of `kit`, with `options` for Bokeh's server, until `close`."""

    def __init__(self, kit: Kit, make: Callable[[], Any], **options: Any) -> None:
        from jobkit.http import tornado_routes
        from jobkit.http.core.handling import Limits

        routes = tornado_routes(kit, limits=Limits(heartbeat_s=0.2))
        super().__init__(make, extra_patterns=routes, **options)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

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
