"""One sentence: `Notice` as a page or above all pages, `away_page` in place of a dashboard while the store is away."""

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
        said: in a few words, "" for nothing. more: in a sentence. lines: commands to type.
        is_banner: whether it is a line above other content, and also says when the server does not answer.
    """

    said = param.String(default="")
    more = param.String(default="")
    lines = param.List(default=[], item_type=str)
    is_banner = param.Boolean(default=False)

    _esm = assets.esm("notice")
    _stylesheets: ClassVar[list[str]] = [assets.css("notice")]

    def __init__(self, said: str = "", more: str = "", lines: Sequence[str] = (), *, is_banner: bool = False) -> None:
        look = {"sizing_mode": "stretch_width", "styles": {"flex": "none"}} if is_banner else {}
        shown = {"sizing_mode": "stretch_both", **look, "said": said, "more": more, "lines": list(lines)}
        super().__init__(margin=0, is_banner=is_banner, **shown)


def away_page(sentence: str) -> pn.pane.HTML:
    """Return a page that says why there is nothing to see. It reloads until the dashboard is back."""
    text = _AWAY.format(sentence=escape(sentence))
    return pn.pane.HTML(text, sizing_mode="stretch_both")  # type: ignore[no-untyped-call]  # panel's
