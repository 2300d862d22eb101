"""Figures of Bokeh and HoloViews (hvPlot makes those): recognised if these are loaded, never imported for it.

A preview carries a Bokeh figure as the JSON of its document, some 10 kB, and not as standalone HTML: the page's own
BokehJS draws it, while HTML that loads nothing from anywhere must hold BokehJS itself, 1 MB for every job in a table.
A PNG would serve every page, but needs a browser on the worker. An artifact is a file to keep: there it is the whole
HTML, with everything in it.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from typing import Any

#: JSON of a figure above this is not put into a preview; the figure can still be saved as an artifact.
BOKEH_LIMIT = 400_000


def holoviews_figure(value: Any) -> Any:
    """Return the matplotlib or Bokeh figure of a HoloViews object, None for other objects or if it cannot be drawn."""
    holoviews = sys.modules.get("holoviews")
    kind = getattr(holoviews, "Dimensioned", None) or getattr(getattr(holoviews, "core", None), "Dimensioned", None)
    if holoviews is None or kind is None or not isinstance(value, kind):
        return None
    # The backend that the job itself chose first, then whatever draws.
    current = str(getattr(holoviews.Store, "current_backend", ""))
    for backend in dict.fromkeys((current, "bokeh", "matplotlib")):
        if backend not in ("bokeh", "matplotlib") or backend not in holoviews.Store.renderers:
            continue
        try:
            return holoviews.render(value, backend=backend)
        except Exception:  # an option of the other backend, a missing dependency
            continue
    return None


def is_bokeh(value: Any) -> bool:
    """Return whether the value is a figure or layout of Bokeh, which a page can show."""
    models = sys.modules.get("bokeh.models.layouts"), sys.modules.get("bokeh.models.plots")
    kinds = tuple(
        kind
        for module, name in zip(models, ("LayoutDOM", "Plot"), strict=True)
        if (kind := getattr(module, name, None)) is not None
    )
    return bool(kinds) and isinstance(value, kinds)


def bokeh_json(value: Any) -> dict[str, Any] | None:
    """`{"version": of BokehJS, "item": what `Bokeh.embed.embed_item` takes}`, or None."""
    if not is_bokeh(value):
        return None
    item = importlib.import_module("bokeh.embed").json_item(value)
    text = json.dumps(item, allow_nan=False)
    if len(text) > BOKEH_LIMIT:
        return None
    return {"version": str(sys.modules["bokeh"].__version__), "item": json.loads(text)}


_LINKED = re.compile(r"""<script[^>]*\ssrc=["'][^"']*["'][^>]*></script>|<link\s[^>]*>""")


def bokeh_html(value: Any) -> str | None:
    """One HTML file that draws a Bokeh figure and loads nothing, or None."""
    if not is_bokeh(value):
        return None
    inline = importlib.import_module("bokeh.resources").INLINE
    html: str = importlib.import_module("bokeh.embed").file_html(value, inline, "")
    # Where the job has imported panel, Bokeh also links files of panel's components, which no file can reach.
    return _LINKED.sub("", html)


def bokeh_summary(value: Any) -> str:
    """`Bokeh figure "title": 2 glyphs`, as far as they are known."""
    title = getattr(getattr(value, "title", None), "text", "") or ""
    renderers = getattr(value, "renderers", None)
    glyphs = len(renderers) if isinstance(renderers, list) else 0
    text = f"Bokeh {type(value).__name__}" + (f' "{title}"' if isinstance(title, str) and title else "")
    return f"{text}: {glyphs} glyph{'s' if glyphs != 1 else ''}" if glyphs else text
