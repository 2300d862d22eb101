"""`Nav`: the header of the dashboard."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.ui.live.browser_requests import Requests
from jobkit.ui.live.component import Component
from jobkit.ui.words import assets


class Nav(Component, JSComponent):
    """Name, pages and the state of the connection.

    Attributes:
        pages: `[slug, word]` of each page. `page`: slug of the shown page. `home`: slug of the page whose URL has none.
        keys: `[key, what]` of the pages' own keys. `title`: of the browser's tab.
        url: what the browser is to show in its address, see `go`.
        status: "live" or "reconnecting". `place`: where the jobs are, password masked.
        ended: jobs that have ended, for a notification, see `bell.words`; `bell` is whether there is one at all.
        who: name of the person, if logged in. `logout`: URL to log out.
        again: the browser must reload the page, since the person's role has changed.
        request: the browser's newest request.
    """

    pages = param.List(default=[])
    page = param.String(default="")
    home = param.String(default="")
    keys = param.List(default=[])
    title = param.String(default="jobkit")
    url = param.String(default="")
    status = param.String(default="live")
    place = param.String(default="")
    ended = param.String(default="")
    bell = param.Boolean(default=False)
    who = param.String(default="")
    logout = param.String(default="")
    again = param.Boolean(default=False)
    request = param.String(default="")

    _esm = assets.esm("nav")
    _stylesheets: ClassVar[list[str]] = [assets.css("nav")]

    def __init__(
        self,
        *,
        on_page: Callable[[str], object],
        on_url: Callable[[str], object],
        on_theme: Callable[[bool], object],
        on_bell: Callable[[bool], object],
        on_open: Callable[[str], object],
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self._on_page = on_page
        self._on_url = on_url
        self._on_theme = on_theme
        self._on_bell = on_bell
        self._on_open = on_open
        self._requests = Requests()
        self.param.watch(self._asked, "request")

    def go(self, search: str, replace: bool, n: int) -> None:
        """Have the browser show `search` (`?page=...`) in its address, as the `n`-th such request."""
        self.url = json.dumps({"search": search, "replace": replace, "n": n})

    def _asked(self, event: Any) -> None:
        for asked in self._requests.of(event.new):
            action = asked["action"]
            if action == "page" and asked.get("page") in [slug for slug, _ in self.pages]:
                self._on_page(asked["page"])
            elif action == "url":  # the back button, or a window that outlived its session
                self._on_url(str(asked.get("search", "")))
            elif action == "bell" and self.bell:
                self._on_bell(asked.get("on") is True)
            elif action == "open":
                self._on_open(str(asked.get("id", ""))[:200])
            elif action == "theme":
                self._on_theme(bool(asked.get("dark")))
