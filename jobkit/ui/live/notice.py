"""Pages with one message: `Notice` inside a dashboard, `away_page` in place of it while the store does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import ClassVar

import panel as pn
import param
from panel.custom import JSComponent

from jobkit.ui.live.component import Component
from jobkit.ui.words import assets

_AWAY = """
<main style="font:15px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem">
<h1 style="font-size:1.25rem">The jobs cannot be shown</h1>
<p role="status">{sentence}</p>
<p style="opacity:.7">This page reloads every few seconds.</p>
</main>
<script>setTimeout(() => location.reload(), 3000)</script>
"""


class Notice(Component, JSComponent):
    """One thing to say.

    Attributes:
        said: in a few words. more: in a sentence. lines: commands to type.
    """

    said = param.String(default="")
    more = param.String(default="")
    lines = param.List(default=[], item_type=str)

    _esm = assets.esm("notice")
    _stylesheets: ClassVar[list[str]] = [assets.css("notice")]

    def __init__(self, said: str, more: str, lines: Sequence[str] = ()) -> None:
        super().__init__(said=said, more=more, lines=list(lines), sizing_mode="stretch_both", margin=0)


def away_page(sentence: str) -> pn.pane.HTML:
    """Return a page that says why there is nothing to see; it comes back as the dashboard by itself."""
    text = _AWAY.format(sentence=escape(sentence))
    return pn.pane.HTML(text, sizing_mode="stretch_both")  # type: ignore[no-untyped-call]  # panel's
