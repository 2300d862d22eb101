"""The page in place of the dashboard while the store has not answered yet: one sentence, and another look soon."""

from __future__ import annotations

from html import escape

import panel as pn

_PAGE = """
<main style="font:15px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem">
<h1 style="font-size:1.25rem">The jobs cannot be shown</h1>
<p role="status">{sentence}</p>
<p style="opacity:.7">This page looks again every few seconds.</p>
</main>
<script>setTimeout(() => location.reload(), 3000)</script>
"""


def away_page(sentence: str) -> pn.pane.HTML:
    """A page that says why there is nothing to see; it comes back as the dashboard by itself."""
    text = _PAGE.format(sentence=escape(sentence))
    return pn.pane.HTML(text, sizing_mode="stretch_both")  # type: ignore[no-untyped-call]  # panel's
