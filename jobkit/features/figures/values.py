"""Figures of matplotlib, Bokeh, HoloViews, Plotly and Altair, and images: how pages show them, and as files to keep."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import math
import mimetypes
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jobkit.features.figures.charts import (
    add_chart,
    bokeh_html,
    holoviews_figure,
    is_bokeh,
    matplotlib_figure,
    render_chart,
)
from jobkit.run.inside.shown_values import PNG_LIMIT, TIMES, Preview, block, safe_repr

#: See `jobkit/feature.py`.
render = render_chart


def preview(value: Any, preview: Preview, png_limit: int) -> str | None:
    """Put what shows a figure or image into its preview; see `jobkit/feature.py`."""
    return _figure(value, preview) or _picture(value, preview, png_limit)


def file(name: str, obj: Any) -> tuple[str, bytes] | None:
    """Pictures in full size, as the suffix of the name says, else PNG; what is interactive as one HTML file."""
    obj = holoviews_figure(obj) or obj
    html = bokeh_html(obj)
    if html is not None:
        return "text/html", html.encode("utf-8", "backslashreplace")
    media, is_packed = mimetypes.guess_type(name)
    kind, figure, images = Path(name).suffix.lower(), _matplotlib_of(obj), sys.modules.get("PIL.Image")
    if media and not is_packed:
        if figure is not None and kind[1:] in figure.canvas.get_supported_filetypes():
            return media, _drawn(figure, kind[1:], 150)
        if images is not None and isinstance(obj, images.Image):
            with contextlib.suppress(KeyError, OSError, ValueError):  # a format that PIL only reads, or without alpha
                obj.save(target := io.BytesIO(), format=images.registered_extensions()[kind])
                return media, target.getvalue()
    png = png_of(obj, dpis=(150,))
    return None if png is None else ("image/png", png)


def png_of(value: Any, dpis: Sequence[int], sides: Sequence[int] = (0,), limit: float = math.inf) -> bytes | None:
    """The picture of a matplotlib figure (or axes), a PIL image, or whatever draws itself for notebooks.

    Args:
        dpis, sides: resolutions of figures, and sizes of images in pixels (0: as it is), tried in turn.
        limit: of the picture's size (bytes).
    """
    return next((png for png in _pngs(value, dpis, sides) if len(png) <= limit), None)


def _pngs(value: Any, dpis: Sequence[int], sides: Sequence[int]) -> Iterator[bytes]:
    images = sys.modules.get("PIL.Image")
    if (figure := _matplotlib_of(value)) is not None:
        yield from (_drawn(figure, "png", dpi) for dpi in dpis)
    elif images is not None and isinstance(value, images.Image):
        for side in sides:
            image = value
            if side:
                image = value.copy()
                image.thumbnail((side, side))
            if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA") and (side or image.mode != "I;16"):
                image = image.convert("RGB")
            target = io.BytesIO()
            image.save(target, format="PNG")
            yield target.getvalue()
    else:
        draw = getattr(type(value), "_repr_png_", None)
        if callable(draw) and isinstance(png := draw(value), (bytes, bytearray)):
            yield bytes(png)


def _matplotlib_of(value: Any) -> Any:
    """Return a figure of matplotlib, also that of axes; None for other values."""
    figures = sys.modules.get("matplotlib.figure")
    if figures is None:
        return None
    figure = value if isinstance(value, figures.Figure) else getattr(value, "figure", None)
    return figure if isinstance(figure, figures.Figure) else None


def _drawn(figure: Any, kind: str, dpi: int) -> bytes:
    figure.savefig(target := io.BytesIO(), format=kind, dpi=dpi, bbox_inches="tight")
    return target.getvalue()


def _figure(value: Any, preview: Preview) -> str | None:
    """Charts: of HoloViews also as figures of matplotlib."""
    drawn = holoviews_figure(value)
    if drawn is not None and not is_bokeh(drawn):
        preview["text"] = block(safe_repr(value))
        _picture(drawn, preview)
        return str(preview["text"])
    if summary := add_chart(value, drawn, preview):
        preview["text"] = block(preview["text"])
        if drawn is not None and "picture" not in preview and importlib.util.find_spec("matplotlib") is not None:
            with contextlib.suppress(Exception):  # an option of Bokeh's, a kind that matplotlib does not draw
                png = png_of(matplotlib_figure(value), dpis=(80, 50), limit=PNG_LIMIT)
                preview["picture"] = f"data:image/png;base64,{base64.b64encode(png or b'').decode()}"
    return summary


def _picture(value: Any, preview: Preview, limit: int = PNG_LIMIT) -> str | None:
    png = png_of(value, dpis=(100, 60, 30), sides=(1200, 600, 300), limit=limit)
    if not png:
        return None
    preview["png"] = base64.b64encode(png).decode("ascii")
    size = getattr(value, "size", None)
    if isinstance(size, tuple) and len(size) == 2:
        return f"{type(value).__name__} {size[0]} {TIMES} {size[1]}"
    return type(value).__name__
