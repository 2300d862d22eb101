"""An executed notebook as a single HTML file, light and dark, that loads nothing from anywhere."""

from __future__ import annotations

import html
import importlib
import logging
from typing import Any

#: Scripts of outputs run (figures draw themselves), but what they would load from another host is not loaded.
_POLICY = (
    "default-src 'none'; img-src data: blob:; font-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'"
)

#: Tags of cells that are left out, as in Jupyter Book: the whole cell, its code, its outputs.
_HIDDEN = {
    "enabled": True,
    "remove_cell_tags": {"remove-cell"},
    "remove_input_tags": {"remove-input"},
    "remove_all_outputs_tags": {"remove-output"},
}

_STYLE = """
:root { color-scheme: light dark; --ink: #1e293b; --soft: #64748b; --line: #e2e8f0; --wash: #f8fafc; --bad: #b91c1c }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e2e8f0; --soft: #94a3b8; --line: #334155; --wash: #1a202b; --bad: #fca5a5 }
  body { background: #0f1216 }
  .output_png img, .output_svg svg { background: #fff }
  .output_error span { color: inherit !important }
}
body { color: var(--ink); font: 14px/1.55 system-ui, sans-serif; margin: 0 auto; max-width: 960px; padding: 24px 16px }
h1 { font-size: 24px } h2 { font-size: 18px } h3 { font-size: 15px }
a { color: inherit } .anchor-link { display: none }
.prompt { color: var(--soft); font: 11px ui-monospace, monospace; margin-top: 12px }
pre { font: 12px/1.5 ui-monospace, monospace; margin: 0; overflow-x: auto; white-space: pre-wrap }
.input_area { background: var(--wash); border: 1px solid var(--line); border-radius: 6px; padding: 8px 12px }
.output_subarea { overflow-x: auto; padding: 6px 12px }
.output_stderr { color: var(--soft) } .output_error { border-left: 3px solid var(--bad) }
table { border: 0; border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums }
th, td { border: 0; border-bottom: 1px solid var(--line); padding: 4px 8px; text-align: right }
img, svg { max-width: 100% }
.highlight .c1, .highlight .sd { color: var(--soft) } .highlight .kn, .highlight .k { font-weight: 600 }
.ansi-red-fg, .ansi-red-intense-fg { color: var(--bad) } .ansi-bold { font-weight: 600 }
@media print { .input_area { break-inside: avoid } }
"""


def as_html(node: Any, title: str) -> bytes:
    """Return the page of a notebook, without what the tags of its cells take out: see `_HIDDEN`.

    Formulas stay as they are written, because MathJax would come from a CDN.
    """
    exporter: Any = importlib.import_module("nbconvert.exporters").HTMLExporter
    logging.getLogger("traitlets").setLevel(logging.ERROR)  # it warns of pictures without a description
    settings = importlib.import_module("traitlets.config").Config(TagRemovePreprocessor=_HIDDEN)
    body, _ = exporter(config=settings, template_name="basic", embed_images=True).from_notebook_node(node)
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
    )
    return f"{head}{body}</body></html>".encode("utf-8", "replace")
