"""A folder with a web page of the user's beside the API: `jobkit dashboard --web DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import tornado.web

from jobkit.http.api import Api
from jobkit.http.messages import Problem
from jobkit.http.tornado_app import AskingHandler


class WebFolder(tornado.web.StaticFileHandler, AskingHandler):
    """Serves files to those who may see jobs: on an open server its own person, else who is logged in.

    Hidden files (`.env`, `.git/config`) and links that lead out of the folder are not there.
    """

    def initialize(self, path: str, default_filename: str | None = None, *, api: Api) -> None:  # type: ignore[override]  # the folder's API
        super().initialize(path, default_filename)
        self._api = api

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "frame-ancestors 'self'")

    async def prepare(self) -> None:
        try:
            request = self._request("")
            await self._api.kit()
            grant = await self._api.grant(request)
        except Problem as problem:
            self._say(problem.status, problem.message)
            return
        if grant is not None and grant.may("view"):
            return
        if grant is None and request.server.has_login:
            self.redirect(f"{self._url_of_login()}?{urlencode({'next': self.request.uri or ''})}")
            return
        self._say(403, self._api.why_refused(request))

    def _url_of_login(self) -> str:
        provider: Any = self.application.auth_provider  # type: ignore[attr-defined]  # Bokeh's
        prefix = getattr(self.application, "prefix", "") or ""
        return f"{prefix}{provider.get_login_url(self) if provider.get_login_url else provider.login_url}"

    def _say(self, status: int, sentence: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{sentence}\n")

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        found = super().validate_absolute_path(root, absolute_path)
        if found is None:
            return None
        folder, real = Path(root).resolve(), Path(found).resolve()
        asked = Path(found).relative_to(Path(root).absolute())
        if not real.is_relative_to(folder) or any(part.startswith(".") for part in asked.parts):
            raise tornado.web.HTTPError(404)
        return found
