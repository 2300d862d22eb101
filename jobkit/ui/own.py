"""`SelfContained`: a component that brings all of its style with it.

Panel gives every component links to its own style sheets: on its server's address inside `panel serve`, on a CDN
everywhere else, also for a window whose session is made anew after a long absence. jobkit's components need none.
"""

from __future__ import annotations

from typing import Any, ClassVar

import panel as pn
from bokeh.models import ImportedStyleSheet


class SelfContained:
    """Mixed into a component of `panel.custom`; drops the style sheets that nobody but Panel asked for.

    Attributes:
        fills_page: a dashboard gives it the whole page; it has its own margins and scrolls by itself.
    """

    fills_page: ClassVar[bool] = True

    def _process_param_change(self, params: dict[str, Any]) -> dict[str, Any]:
        properties: dict[str, Any] = super()._process_param_change(params)  # type: ignore[misc]  # the component's
        if "stylesheets" in properties:
            asked = {*pn.config.css_files, *map(str, self.stylesheets)}  # type: ignore[attr-defined]  # as above
            properties["stylesheets"] = [
                sheet
                for sheet in properties["stylesheets"]
                if not isinstance(sheet, ImportedStyleSheet) or str(sheet.url) in asked
            ]
        return properties

    @classmethod
    def _process_importmap(cls) -> dict[str, Any]:
        return {}  # panel would map React to a CDN here
