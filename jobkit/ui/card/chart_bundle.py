"""A chart as an output of a notebook: front ends with a renderer for its specification draw it live."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from jobkit.run.inside.charts import PLOTLY, VEGA

#: Larger specifications and pictures (characters) stay in the store: a notebook that is kept in git should be small.
_MOST = 250_000

_SVG = "data:image/svg+xml;base64,"

#: A tag that `jobkit.run.inside.drawing` writes, and what refers to another file. Exports of notebooks contain drawings
#: as markup, and a job can say anything, so nothing else is let through.
_TAG = re.compile(
    r"</(?:svg|text|tspan)>|<(?:svg|rect|path|polyline|circle|text|tspan)(?: (?:"
    r"(?:xmlns|width|height|viewBox|fill|fill-opacity|stroke|stroke-width|x|y|d|points|cx|cy|r|text-anchor"
    r'|transform)="[\w #.,%:/()+-]*"|style="font[\w-]*:[\w ,-]+(?:;font[\w-]*:[\w ,-]+)*"))*/?>'
)
_REFERENCE = re.compile(r'="[^"]*url\(', re.IGNORECASE)


def chart_bundle(preview: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return representations of a result by MIME type: specification, picture, text. None if it has no specification.

    Nothing of it is HTML, which JupyterLab would prefer.
    """
    mime = preview.get("mime") if preview else None
    spec = preview.get("spec") if preview else None
    if preview is None or mime not in (PLOTLY, VEGA) or not isinstance(spec, dict) or len(json.dumps(spec)) > _MOST:
        return None
    png, picture = preview.get("png"), str(preview.get("picture"))
    bundle = {mime: spec, "text/plain": str(preview.get("text"))}
    if isinstance(png, str) and len(png) <= _MOST:
        bundle["image/png"] = png
    elif picture.startswith(_SVG):
        drawing = base64.b64decode(picture.removeprefix(_SVG)).decode("utf-8", "replace")
        if "<" not in _TAG.sub("", drawing) and not _REFERENCE.search(drawing):
            bundle["image/svg+xml"] = drawing
    return bundle
