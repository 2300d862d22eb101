"""Responses of a server with jobkit, compressed: scripts and sheets once in a process, pages one by one.

Bokeh's and Panel's static files keep their addresses; scripts of jobkit's components have the route `MODULES`, with the
hash of their text in the name, so that a browser keeps them for a year.
"""

from __future__ import annotations

import asyncio
import gzip
import re
from datetime import datetime
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tornado.web import HTTPError, RequestHandler

from jobkit.ui.words import assets

#: Ends of the names of files that get smaller.
_TEXTS = (".js", ".mjs", ".css", ".svg", ".json", ".map", ".html")

#: Bytes below which compressing saves no packet.
_SMALL = 1400

#: Set in the settings of a Tornado application that has the route of the modules.
_MARK = "jobkit_modules"

#: Program that imports every component, and so makes every module known.
_ALL = "jobkit.ui.app.dashboard"

_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")


def add_routes(application: Any) -> None:
    """Serve the modules of components, and compress what this Tornado application serves."""
    application.settings[_MARK] = True
    application.add_handlers(".*", [(rf"{application.prefix}/{assets.MODULES}(\w+)-(\w+)\.js", ModuleHandler)])


def is_served(handler: Any) -> bool:
    """Return whether the server of a request was given `add_routes`."""
    return bool(handler.application.settings.get(_MARK))


class ModuleHandler(RequestHandler):
    """Script of one or several components; public, as Bokeh's own."""

    async def get(self, name: str, version: str) -> None:
        try:
            text, current = await find(name)
        except KeyError:
            raise HTTPError(404) from None
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.set_header("X-Content-Type-Options", "nosniff")
        # A page that is older than this server gets a module, too, but must not keep it under the old name.
        self.set_header("Cache-Control", "public, max-age=31536000, immutable" if version == current else "no-cache")
        self.set_header("Etag", f'W/"{current}"')
        if self.check_etag_header():
            self.set_status(304)
            return
        self.finish(await _smaller(self, text))

    head = get


async def find(name: str) -> tuple[bytes, str]:
    """Return the text of a module and its hash. Raises KeyError: no such module."""
    try:
        return assets.module(name)
    except KeyError:  # one of several processes, before its first page
        await asyncio.to_thread(import_module, _ALL)
        return assets.module(name)


async def _smaller(handler: RequestHandler, text: bytes) -> bytes:
    """Return what to send for `text`, the same at each call, and set the headers for it."""
    handler.set_header("Vary", "Accept-Encoding")
    if not _takes_gzip(handler):
        return text
    handler.set_header("Content-Encoding", "gzip")
    return await asyncio.to_thread(_compressed, text)


def _takes_gzip(handler: RequestHandler) -> bool:
    return bool(_GZIP.search(handler.request.headers.get("Accept-Encoding", "")))


@lru_cache(maxsize=64)
def _compressed(text: bytes) -> bytes:
    return gzip.compress(text, 9, mtime=0)


@lru_cache(maxsize=256)
def _compressed_file(path: str, _changed: datetime) -> bytes:
    return gzip.compress(Path(path).read_bytes(), 9, mtime=0)


# -- hooks of Tornado's handlers, see `panel_server.HOOKS` -------------------------------------------------------------


async def get_file(old: Any, self: Any, path: str, include_body: bool = True) -> None:
    """Send a static file compressed, if it is a text, the server has jobkit and the browser can read it."""
    if not (is_served(self) and path.endswith(_TEXTS)):
        await old(self, path, include_body)
        return
    self.set_header("Vary", "Accept-Encoding")
    if not _takes_gzip(self) or "Range" in self.request.headers:
        await old(self, path, include_body)
        return
    # As Tornado's own `get`, with the parts that it documents.
    self.path = self.parse_url_path(path)
    self.absolute_path = self.validate_absolute_path(self.root, self.get_absolute_path(self.root, self.path))
    if self.absolute_path is None:
        return
    self.modified = self.get_modified_time()
    self.set_headers()
    if "Etag" in self._headers:
        self.set_header("Etag", f"W/{self._headers['Etag']}")  # other bytes than those of the file
    if self.should_return_304():
        self.set_status(304)
        return
    body = await asyncio.to_thread(_compressed_file, self.absolute_path, self.modified)
    self.set_header("Content-Encoding", "gzip")
    self.set_header("Content-Length", str(len(body)))
    if include_body:
        self.write(body)


def write_page(old: Any, self: Any, page: Any) -> None:
    """Send a page compressed. It has nothing that another request could guess: its token is new each time."""
    if isinstance(page, str) and len(page) > _SMALL and is_served(self):
        self.set_header("Vary", "Accept-Encoding")
        if _takes_gzip(self):
            self.set_header("Content-Encoding", "gzip")
            page = gzip.compress(page.encode(), 6)
    old(self, page)
