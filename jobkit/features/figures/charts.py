"""Charts of Bokeh, HoloViews, Plotly and Altair in previews: what draws them, and a picture for where nothing does.

Nothing is imported for a value: a chart can only exist if its library is loaded.

- Plotly and Altair: the specification (`spec`), which front ends with a renderer for its media type (`mime`) draw
  live. The exact picture (`png`) needs kaleido, which starts a browser, or vl-convert; see `render_chart`.
- A Bokeh figure (also of HoloViews and hvPlot) is the JSON of its document (`bokeh`), some 10 kB, and not standalone
  HTML: the page's own BokehJS draws it, while HTML that loads nothing from anywhere must hold BokehJS itself, 1 MB for
  every job in a table. A PNG would need a browser on the worker. An artifact is a file to keep: there it is the whole
  HTML.
- `picture` is a simple drawing (SVG) of figures of Plotly and Bokeh that have only lines, points and bars.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.util
import io
import json
import re
import sys
from typing import Any

from jobkit.features.figures.drawing import drawing_of
from jobkit.run.inside.lines import cut
from jobkit.run.inside.shown_values import PLOTLY, VEGA

#: JSON of a figure above this is not put into a preview; the figure can still be saved as an artifact.
SPEC_LIMIT = 400_000

#: What draws exactly, by media type: the module and its package.
_HELPERS = {PLOTLY: ("kaleido", "kaleido"), VEGA: ("vl_convert", "vl-convert-python")}

#: Characters of the reason why a library could not draw a figure.
_SAID_MOST = 200

#: The version in the name of a schema of Vega-Lite.
_SCHEMA = re.compile(r"/vega-lite/v[5-9][\d.]*\.json$")


def add_chart(value: Any, drawn: Any, preview: dict[str, Any]) -> str | None:
    """Put what draws a chart into its preview, and return its summary; None for other values.

    Args:
        drawn: the figure that HoloViews made of it, or None.
    """
    found = _specified(value)
    if found is None:
        return _add_bokeh(value, drawn, preview)
    spec, preview["mime"], summary = found
    if len(json.dumps(spec)) <= SPEC_LIMIT:
        preview["spec"] = spec
    preview["text"] = summary
    helper, package = _HELPERS[preview["mime"]]
    has_helper = importlib.util.find_spec(helper) is not None
    _add_drawing(value, preview)
    if "picture" in preview:
        preview["note"] = "A simple drawing of its data" + (
            "" if has_helper else f"; pip install {package} draws it whole"
        )
    elif not has_helper:
        preview["text"] += f"\nTo see it here: pip install {package}"
    return summary


def render_chart(value: Any, preview: dict[str, Any], limit: int) -> None:
    """Replace the simple drawing of a chart by the exact picture, of at most `limit` bytes, which may take seconds."""
    helper, _ = _HELPERS.get(preview.get("mime", ""), ("", ""))
    if not helper or importlib.util.find_spec(helper) is None:
        return
    try:
        content = value.to_image(format="png", scale=1) if helper == "kaleido" else _altair_png(value)
    except Exception as error:  # no browser for kaleido, a specification that it cannot draw
        name = "note" if "picture" in preview else "text"
        preview[name] = f"{preview[name]}\n{_why_not_drawn(helper, error)}"
        return
    if len(content) <= limit:
        preview["png"] = base64.b64encode(content).decode("ascii")
        for name in ("picture", "note"):
            preview.pop(name, None)


def _specified(value: Any) -> tuple[dict[str, Any], str, str] | None:
    """Return `(specification, media type, summary)` of a figure of Plotly or Altair, None for others."""
    library = type(value).__module__.partition(".")[0]
    if library == "plotly" and hasattr(value, "to_plotly_json"):
        count = len(value.data)
        return json.loads(value.to_json()), PLOTLY, f"Plotly figure, {count} trace{'s' if count != 1 else ''}"
    if library == "altair" and hasattr(value, "to_dict"):
        spec = value.to_dict()
        # JupyterLab draws version 5; version 6 has no other marks and channels.
        spec["$schema"] = _SCHEMA.sub("/vega-lite/v5.json", str(spec.get("$schema")))
        return spec, VEGA, f"Altair {type(value).__name__}"
    return None


def _altair_png(chart: Any) -> bytes:
    target = io.BytesIO()
    chart.save(target, format="png")
    return target.getvalue()


def _why_not_drawn(helper: str, error: Exception) -> str:
    """Return one sentence; libraries write several, and instructions on separate lines."""
    text = " ".join(str(error).split()) or type(error).__name__
    if helper == "kaleido" and "chrome" in text.lower():
        return "To see it here: kaleido needs Chrome or Chromium on this machine; plotly_get_chrome installs it"
    return cut(f"{helper} could not draw it: {text.split('. ', 1)[0]}", _SAID_MOST)


def _add_drawing(figure: Any, preview: dict[str, Any]) -> None:
    with contextlib.suppress(Exception):  # of the user's object, or of a kind that is not known
        if svg := drawing_of(figure):
            preview["picture"] = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


# -- Bokeh and HoloViews -----------------------------------------------------------------------------------------------


def _add_bokeh(value: Any, drawn: Any, preview: dict[str, Any]) -> str | None:
    figure = value if drawn is None else drawn
    if not is_bokeh(figure):
        return None
    summary = _bokeh_summary(value) if drawn is None else repr(value)
    preview["text"] = summary
    with contextlib.suppress(Exception):  # it stands in a document already; then only its name can be shown
        found = _bokeh_json(figure)
        if found is not None:
            preview["bokeh"] = found
        else:
            preview["text"] += "\n(too large to be shown here; save it with jobkit.current().save)"
    _add_drawing(figure, preview)
    return summary


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


def matplotlib_figure(value: Any) -> Any:
    """Return the matplotlib figure of a HoloViews object that was made for Bokeh. Raises if it cannot be drawn."""
    importlib.import_module("holoviews.plotting.mpl")
    return sys.modules["holoviews"].render(value, backend="matplotlib")


def is_bokeh(value: Any) -> bool:
    """Return whether the value is a figure or layout of Bokeh, which a page can show."""
    kind = getattr(sys.modules.get("bokeh.models.layouts"), "LayoutDOM", None)
    return kind is not None and isinstance(value, kind)


def _bokeh_json(value: Any) -> dict[str, Any] | None:
    """`{"version": of BokehJS, "item": what `Bokeh.embed.embed_item` takes}` of a figure, None if it is too large."""
    item = importlib.import_module("bokeh.embed").json_item(value)
    text = json.dumps(item, allow_nan=False)
    if len(text) > SPEC_LIMIT:
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


def _bokeh_summary(value: Any) -> str:
    """`Bokeh figure "title": 2 glyphs`, as far as they are known."""
    title = getattr(getattr(value, "title", None), "text", "") or ""
    renderers = getattr(value, "renderers", None)
    glyphs = len(renderers) if isinstance(renderers, list) else 0
    text = f"Bokeh {type(value).__name__}" + (f' "{title}"' if isinstance(title, str) and title else "")
    return f"{text}: {glyphs} glyph{'s' if glyphs != 1 else ''}" if glyphs else text
