"""The card of many jobs as static HTML: for saved notebooks, exports, GitHub and print.

A few kilobytes and everything of a user's escaped. Where the page runs scripts (JupyterLab does for notebooks that you
ran yourself, and so does an export) its table sorts, filters and saves itself as CSV; elsewhere it is simply a table.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from html import escape
from typing import Any

from jobkit.model.format import FACES, duration, number
from jobkit.ui.batch.batch_model import BatchModel
from jobkit.ui.batch.batch_plot import COLOURS
from jobkit.ui.card.card_html import GLYPHS, chip, saved_card
from jobkit.ui.words import assets

#: Colours of the bar's parts; "fill" for the others.
_BARS = {"succeeded": "good", "failed": "failed", "cancelled": "line-strong"}

#: Rows that a saved card keeps.
ROWS = 200

#: Width of its plot (px).
_WIDE = 720

#: Height of its plot (px).
_TALL = 280


def batch_html(model: BatchModel, *, now: datetime | None = None, is_saved_live: bool = False) -> str:
    """Return the batch as a self-contained piece of HTML.

    Args:
        model: its jobs.
        now: the moment that it speaks of; the present unless given.
        is_saved_live: the batch goes on, and what is made here is what a page without widgets will show of it.
    """
    now = now or datetime.now(UTC)
    name = f"jkb-{secrets.token_hex(4)}"
    source = assets.source("batch_static.js").replace("/* csv.js */", assets.source("csv.js")).replace("NAME", name)
    parts = [_head(model, now, is_saved_live), _plot(model), _table(model, name), f"<script>{source}</script>"]
    return saved_card("jkb", model.whole(), parts, "batch_static.css")


def _head(model: BatchModel, now: datetime, is_saved_live: bool) -> str:
    head = model.head(now)
    started, finished = model.span()
    took = duration(((finished or now) - started).total_seconds()) if started and not model.is_list else ""
    fixed = f"<code>{escape(model.fixed)}</code> " if model.fixed else ""
    elapsed = f'<span class="x">{took}</span>' if took else ""
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
    if is_saved_live:
        again = "run this cell again" if model.is_list else "<code>batch</code> in a cell, while this kernel lives,"
        notes.append(f"as of {now:%Y-%m-%d %H:%M:%S} UTC; {again} shows it live")
    note = f'<p class="m">{" · ".join(notes)}</p>' if notes else ""
    if model.is_list:
        return f'<div><p class="t"><b>{escape(model.title)}</b> <span class="m">{told}</span></p>{note}</div>'
    return (
        f'<div><p class="t">{chip(model.whole())}<b>{escape(model.title)}</b> {fixed}{elapsed}</p>'
        f'<div class="g">{bar}</div><p>{number(head["ended"])} / {number(head["size"])} · {told}</p>{note}</div>'
    )


def _plot(model: BatchModel) -> str:
    plot = model.plot()
    if plot is None:
        return ""
    legend = ""
    if plot["series"]:
        keys = "".join(
            f'<span class="k" style="background:{COLOURS[i]}"></span>{escape(text)}'
            for i, text in enumerate(plot["series"])
        )
        legend = f'<p class="m">{escape(plot["by"])}{keys}</p>'
    note = f" ({plot['note']})" if plot["note"] else ""
    title = f'<p class="m">{escape(plot["y"])} over {escape(plot["x"])}{note}</p>'
    return f"<div>{title}{_picture(plot)}{legend}</div>"


def _picture(plot: dict[str, Any]) -> str:
    """Return a layout of `batch_plot` as SVG; the twin of `shapesOf` in batch.js."""
    longest = max([len(text) for _, text in plot["yticks"]] or [1])
    left, right, top, bottom = 12 + longest * 7, 16, 10, 40

    def x(v: float) -> str:
        return f"{left + v * (_WIDE - left - right):.1f}"

    def y(v: float) -> str:
        return f"{top + (1 - v) * (_TALL - top - bottom):.1f}"

    out = []
    for v, text in plot["yticks"]:
        out.append(f'<line class="r" x1="{left}" x2="{_WIDE - right}" y1="{y(v)}" y2="{y(v)}"/>')
        out.append(f'<text x="{left - 8}" y="{y(v)}" dy=".32em" text-anchor="end">{escape(text)}</text>')
    for v, text in plot["xticks"]:
        out.append(f'<text x="{x(v)}" y="{_TALL - bottom + 18}" text-anchor="middle">{escape(text)}</text>')
    out.append(f'<text x="{x(0.5)}" y="{_TALL - 6}" text-anchor="middle">{escape(plot["x"])}</text>')
    for series, points in plot["lines"]:
        path = " ".join(f"{x(px)},{y(py)}" for px, py in points)
        out.append(f'<polyline stroke="{COLOURS[series]}" points="{path}"/>')
    radius = 2.2 if len(plot["dots"]) > 400 else 3 if len(plot["dots"]) > 100 else 4
    for px, py, series, _ in plot["dots"][:500]:
        out.append(f'<circle cx="{x(px)}" cy="{y(py)}" r="{radius}" fill="{COLOURS[series]}"/>')
    label = escape(f"{plot['y']} over {plot['x']}")
    return f'<svg width="{_WIDE}" height="{_TALL}" viewBox="0 0 {_WIDE} {_TALL}" role="img" aria-label="{label}">' + (
        "".join(out) + "</svg>"
    )


def _table(model: BatchModel, name: str) -> str:
    size = len(model.snapshots)
    rows = [model.row(i) for i in range(min(size, ROWS))]
    has_notes = not model.is_list and any(row[5] and row[1] in ("failed", "retrying") for row in rows)
    names = [*model.args, "state", *model.values, "duration", *(["note"] if has_notes else []), "id"]
    cells = [_cells(row, has_notes) for row in rows]
    classes = [' class="n"' if all(row[c][1] for row in cells) else "" for c in range(len(names))]
    head = "".join(f"<th{css}>{escape(name)}</th>" for name, css in zip(names, classes, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{css}{raw}>{text}</td>" for (text, _, raw), css in zip(row, classes, strict=True))
        + "</tr>"
        for row in cells
    )
    more = (
        f'<p class="m">{number(ROWS)} of {number(size)} rows; <code>batch.results()</code> has all</p>'
        if size > ROWS
        else ""
    )
    table = f'<table id="{name}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="w">{table}</div>{more}'


#: Text of a cell as HTML, whether it may stand in a column of numbers, and its value for the script.
_Cell = tuple[str, bool, str]


def _cells(row: list[Any], has_notes: bool) -> list[_Cell]:
    _, face, args, values, took, note, _, job_id, _ = row
    return [
        *map(_plain, args),
        (f"{GLYPHS[face]} {FACES[face]}", False, ""),
        *map(_plain, values),
        (duration(took), True, _raw(took)),
        *([_plain(note if face != "succeeded" else "")] if has_notes else []),
        (f"<code>{escape(job_id[:8])}</code>", False, f' data-v="{escape(job_id)}"'),
    ]


def _plain(value: Any) -> _Cell:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value), True, _raw(value)
    return "" if value is None else escape(str(value)[:160]), value is None or isinstance(value, bool), ""


def _raw(value: Any) -> str:
    return "" if value is None else f' data-v="{value!r}"'
