"""`PageFrame`: the document of a dashboard, and the scripts that it asks for.

Panel's own documents ask for all of Bokeh and for what every loaded model could need: 2.5 MB of scripts, of which
jobkit's pages use Bokeh's core and Panel's models. So a document with nothing else asks for these two alone, see
`patch.lean_scripts`; one that shows more, as a page by a user may, gets what Panel finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import panel as pn

import jobkit.ui.panel_server as panel_server
import jobkit.ui.patch as patch
from jobkit.model.plain import dumps
from jobkit.ui.words import assets
from jobkit.ui.words.theme import Theme, page_style

#: Of Jinja; Panel puts it into its own.
_TEMPLATE = Path(__file__).with_name("frame.html").read_text("utf-8")


class PageFrame(patch.PlainSheets, pn.Column):
    """The whole window: `parts` below each other, of which the last takes the height that is left.

    Args:
        theme: colours and fonts of all that is in it.
        is_lean: whether nothing but components of jobkit will ever be shown in it.
        early: returns the values of the components of `assets.HOME`, which are drawn with them before Panel is loaded;
            {} if others are shown.
    """

    def __init__(self, *parts: Any, theme: Theme, is_lean: bool, early: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(*parts, sizing_mode="stretch_both", margin=0, styles={"gap": "0", "height": "100dvh"})
        self._theme, self._is_lean, self._early = theme, is_lean, early

    def server_doc(self, doc: Any = None, title: str | None = None, location: Any = True) -> Any:
        document = super().server_doc(doc, title, location)
        document.template = _TEMPLATE  # type: ignore[assignment]  # Bokeh takes both
        document.template_variables.update(
            style=page_style(self._theme),
            lean=lambda: self._lean(document),
        )
        return document

    def _lean(self, document: Any) -> dict[str, Any]:
        """Return the addresses of the few scripts that the document needs; {} if it needs more."""
        prefix = panel_server.modules_prefix()
        if not self._is_lean or prefix is None or not patch.is_lean(document):
            panel_server.set_policy(panel_server.FRAMES, document)  # others' parts may bring scripts of other hosts
            return {}
        panel_server.set_policy(panel_server.CLOSED, document)
        scripts, early = patch.lean_scripts(), self._early()
        return {
            "scripts": [f"{prefix}{script}" for script in scripts.urls],
            "stand_ins": scripts.stand_ins,
            "module": prefix + assets.module_url(assets.HOME[0]),
            "early": dumps(early).replace("<", "\\u003c") if early else "",
        }
