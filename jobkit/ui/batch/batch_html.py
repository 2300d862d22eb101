"""The card of many jobs as static HTML: for saved notebooks, exports, GitHub and print.

A few kilobytes and everything of a user's escaped. Where the page runs scripts (JupyterLab does for notebooks that you
ran yourself, and so does an export) its table sorts, filters and saves itself as CSV; elsewhere it is simply a table.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from jobkit.model.format import FACES, duration, number
from jobkit.ui.batch.batch_model import BatchModel
from jobkit.ui.batch.batch_plot import COLOURS, is_number
from jobkit.ui.card.card_html import GLYPHS, headline, saved_card, table
from jobkit.ui.words import assets

#: Colours of the bar's parts; "fill" for the others.
_BARS = {"succeeded": "good", "failed": "failed", "cancelled": "line-strong"}

#: Rows that a saved card keeps.
ROWS = 200

#: Width of its plot without the margin at the right (px).
_WIDE = 704


def batch_html(model: BatchModel, now: datetime | None = None) -> str:
    """Return the batch as a self-contained piece of HTML.

    Args:
        model: its jobs.
        now: the moment that it speaks of; the present unless given.
    """
    now = now or datetime.now(UTC)
    name = f"jkb-{secrets.token_hex(4)}"
    source = assets.source("batch_static.js").replace("/* csv.js */", assets.source("csv.js")).replace("NAME", name)
    parts = [_head(model, now), _plot(model), _table(model, name), f"<script>{source}</script>"]
    return saved_card("jkb", model.face, parts, "batch_static.css")


def _head(model: BatchModel, now: datetime) -> str:
    head = model.head(now)
    started, finished = model.span()
    took = duration(((finished or now) - started).total_seconds()) if started and not model.is_list else ""
    colours, _ = assets.tokens()
    bar = "".join(
        f'<i style="width:{100 * n / head["size"]:.2f}%;background:{colours[_BARS.get(name, "fill")]}"></i>'
        for name, _, n in head["counts"]
        if name not in ("queued", "scheduled")
    )
    told = " · ".join(f"{GLYPHS[name]} {number(n)} {word.lower()}" for name, word, n in head["counts"])
    notes = []
    if model.stopped_by:
        notes.append(f"stopped by the rule at job <code>{escape(model.stopped_by)}</code>")
    if finished and not model.is_list:
        notes.append(f"ended {finished:%Y-%m-%d %H:%M} UTC")
    if head["failed"] and not model.is_list:
        notes.append("<code>batch.retry_failed()</code> runs the failed ones again")
    if not model.is_terminal:
        again = "run this cell again" if model.is_list else "<code>batch</code> in a cell, while this kernel lives,"
        notes.append(f"as of {now:%Y-%m-%d %H:%M:%S} UTC; {again} shows it live")
    note = f'<p class="m">{" · ".join(notes)}</p>' if notes else ""
    if model.is_list:
        return f'<div><p class="t"><b>{escape(model.title)}</b> <span class="m">{told}</span></p>{note}</div>'
    return (
        f"<div>{headline(model.face, model.title, model.fixed, took)}"
        f'<div class="g">{bar}</div><p>{number(head["ended"])} / {number(head["size"])} · {told}</p>{note}</div>'
    )


def _plot(model: BatchModel) -> str:
    plot = model.plot()
    if plot is None:
        return ""
    keys = "".join(
        f'<span class="k" style="background:{colour}"></span>{escape(text)}'
        for text, colour in zip(plot["series"], COLOURS, strict=False)
    )
    legend = f'<p class="m">{escape(plot["by"])}{keys}</p>' if keys else ""
    note = f" ({plot['note']})" if plot["note"] else ""
    label = f"{plot['y']} over {plot['x']}"
    dots = []
    for x, y, series, _ in plot["dots"][:500]:
        place = {"cx": f"{100 * x:.2f}%", "cy": f"{100 - 100 * y:.2f}%"}
        dots.append(["circle", {**place, "r": plot["radius"], "fill": COLOURS[series]}])
    left = plot["left"]
    style = f"margin-left:{left}px;width:min(100% - {left + 16}px,{_WIDE - left}px)"
    named = {"class": "p", "style": style, "role": "img", "aria-label": label}
    picture = _element("svg", named, *plot["shapes"], *dots)
    return f'<div><p class="m">{escape(label)}{note}</p>{picture}{legend}</div>'


def _element(tag: str, attributes: Mapping[str, Any], *children: Any) -> str:
    inner = "".join(escape(child) if isinstance(child, str) else _element(*child) for child in children)
    named = "".join(f' {name}="{escape(str(value))}"' for name, value in attributes.items())
    return f"<{tag}{named}>{inner}</{tag}>"


def _table(model: BatchModel, name: str) -> str:
    size = len(model.snapshots)
    rows = [model.row(i) for i in range(min(size, ROWS))]
    # The cell before the id is the note, which a list does not have.
    has_notes = not model.is_list and any(face in ("failed", "retrying") and cells[-2] for _, face, cells, *_ in rows)
    columns = [(c, name, kind) for c, (name, kind) in enumerate(model.columns()) if kind != "note" or has_notes]
    numeric = [
        i
        for i, (c, _, kind) in enumerate(columns)
        if kind == "duration" or all(cells[c] is None or is_number(cells[c]) for _, _, cells, *_ in rows)
    ]
    cells = [[_cell(kind, face, cells[c]) for c, _, kind in columns] for _, face, cells, *_ in rows]
    kept = f"{number(ROWS)} of {number(size)} rows; <code>batch.results()</code> has all"
    return table(cells, [escape(name) for _, name, _ in columns], numeric, id=name) + (
        f'<p class="m">{kept}</p>' if size > ROWS else ""
    )


def _cell(kind: str, face: str, value: Any) -> str:
    """Return a cell as HTML; <data> has the value for the script, if its text is another."""
    if kind == "state":
        return f"{GLYPHS[face]} {FACES[face]}"
    if value is None or (kind == "note" and face == "succeeded"):
        return ""
    if kind == "id":
        return f'<data value="{escape(value)}"><code>{escape(value[:8])}</code></data>'
    if is_number(value):
        return f'<data value="{value!r}">{duration(value) if kind == "duration" else number(value)}</data>'
    return escape(str(value)[:160])
