"""`Nav`: what stands in the header of the dashboard."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.ui import assets
from jobkit.ui.own import SelfContained


class Nav(SelfContained, JSComponent):
    """Name, pages and the state of the connection.

    Attributes:
        pages: `[name, word]` of each page. `page`: the one that is shown.
        status: "live" or "reconnecting". `place`: where the jobs are, password masked.
        request: what the browser asks for.
    """

    pages = param.List(default=[["jobs", "Jobs"], ["submit", "Submit"]])
    page = param.String(default="jobs")
    status = param.String(default="live")
    place = param.String(default="")
    request = param.String(default="")

    _esm = assets.esm("nav")
    _stylesheets: ClassVar[list[str]] = [assets.css("nav")]

    def __init__(self, *, on_page: Callable[[str], object], on_theme: Callable[[bool], object], **params: Any) -> None:
        super().__init__(**params)  # type: ignore[no-untyped-call]  # panel's
        self._on_page = on_page
        self._on_theme = on_theme
        self.param.watch(self._asked, "request")

    def _asked(self, event: Any) -> None:
        try:
            asked = json.loads(event.new)
            action = asked["action"]
        except (ValueError, KeyError, TypeError):
            return
        if action == "page" and asked.get("page") in [name for name, _ in self.pages]:
            self._on_page(asked["page"])
        elif action == "theme":
            self._on_theme(bool(asked.get("dark")))
