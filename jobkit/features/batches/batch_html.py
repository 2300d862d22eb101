"""The card of many jobs as static HTML, see `card_html`.

Where the page runs scripts (JupyterLab does for notebooks that you ran yourself, and so does an export) the table
sorts, filters and saves itself as CSV.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from jobkit.features.batches.batch_model import BatchModel
from jobkit.features.batches.batch_plot import SAVED_POINTS, evenly, sample_note
from jobkit.model import ENDS
from jobkit.model.format import FACES, GLYPHS, duration, local_time, number, percent
from jobkit.model.plain import is_number
from jobkit.ui.card.card_html import brief, charts_html, headline, saved_card, svg_element, table
from jobkit.ui.words import assets

#: Rows of a saved batch.
BATCH_ROWS = 200

#: Width of its plot without the margin at the right (px).
_WIDE = 704

#: Colours of the parts of its bar; "fill" for the others.
_BARS = {**dict.fromkeys((*ENDS, "pruned"), "line-strong"), "succeeded": "good", "failed": "failed"}


def batch_html(model: BatchModel, now: datetime | None = None) -> str:
    """Return a batch as a self-contained piece of HTML; it speaks of `now`, the present unless given."""
    now = now or datetime.now(UTC)
    name = f"jkb-{secrets.token_hex(4)}"
    source = assets.source("batch_static.js").replace("/* csv.js */", assets.source("csv.js")).replace("NAME", name)
    head = model.head(now)
    charts = charts_html(model.charts(), "batch.metrics()")
    views = [_plot(model), _importance(head.get("importance", ()))]
    parts = [_batch_head(model, head, now), *views, charts, _batch_table(model, name), f"<script>{source}</script>"]
    return saved_card("jkb", model.face, parts, "table_static.css", "batch_static.css")


def _batch_head(model: BatchModel, head: Mapping[str, Any], now: datetime) -> str:
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
        notes.append(f"ended {local_time(finished)}")
    if head["failed"] and not model.is_list and not model.led:
        notes.append("<code>batch.retry_failed()</code> runs the failed ones again")
    if not model.is_terminal:
        call = model.led.get("call") or f'batch("{model.spec.id}")'
        again = "run this cell again" if model.is_list else f"<code>jobkit.connect().{escape(call, quote=False)}</code>"
        again = again if model.is_list or model.spec.id else "<code>batch</code> in a cell, while this kernel lives,"
        notes.append(f"as of {local_time(now, seconds=True)}; {again} shows it live")
    if (best := head["best"]) is not None:
        name, *ends = best
        words = [f"{word} {number(value)} at {point}".lstrip() for word, value, point in ends]
        notes.insert(0, escape(f"{name}: {', '.join(words)}"))
    if waits := (head["alert"] or {}).get("text") or head["waits"]:
        notes.insert(0, escape(waits))
    notes += [escape(f"{n} × {type}: {message}") for type, message, n in head["errors"] if not model.is_list]
    if model.spec.id:
        notes.append(f'<code title="{escape(model.spec.id)}">{escape(model.spec.id[:8])}</code>')
    note = f'<p class="m">{" · ".join(notes)}</p>' if notes else ""
    if model.is_list:
        return f'<div><p class="t"><b>{escape(model.title)}</b> <span class="m">{told}</span></p>{note}</div>'
    headed = headline(model.face, model.title, head["fixed"], took)
    return (
        f"<div>{headed}"
        f'<div class="g">{bar}</div><p>{number(head["ended"])} / {number(head["size"])} · {told}</p>{note}</div>'
    )


def _plot(model: BatchModel) -> str:
    plot = model.plot()
    if plot is None:
        return ""
    marks = plot.get("marks") or [None] * len(plot["series"])
    keys = "".join(
        (_key(mark) if mark else f'<span class="k" style="background:{colour}"></span>') + escape(text)
        for text, colour, mark in zip(plot["series"], plot["colours"], marks, strict=False)
    )
    legend = f'<p class="m">{escape(plot["by"])}{keys}</p>' if keys else ""
    shown = evenly(plot["dots"], SAVED_POINTS)
    note = f" ({note})" if (note := sample_note(len(shown), plot["size"])) else ""
    label = f"{plot['y']} over {plot['x']}"
    dots = []
    for x, y, series, _ in shown:
        left, top, mark = f"{100 * x:.2f}%", f"{100 - 100 * y:.2f}%", marks[series] if marks else None
        if mark:
            dots.append(["svg", {"x": left, "y": top, "overflow": "visible"}, mark])
        else:
            dots.append(["circle", {"cx": left, "cy": top, "r": plot["radius"], "fill": plot["colours"][series]}])
    left = plot["left"]
    style = f"margin-left:{left}px;width:min(100% - {left + 16}px,{_WIDE - left}px)"
    named = {"class": "p", "style": style, "role": "img", "aria-label": label}
    picture = svg_element("svg", named, *plot["shapes"], *dots)
    return f'<div><p class="m">{escape(label)}{note}</p>{picture}{legend}</div>'


def _key(mark: Any) -> str:
    named = {"width": 14, "height": 10, "viewBox": "-7 -5 14 10", "style": "margin:0 5px 0 12px"}
    return svg_element("svg", named, mark)


def _importance(shares: Sequence[tuple[str, float]]) -> str:
    """Return a bar for each parameter: its share in what makes the values differ."""
    if not shares:
        return ""
    fill = assets.tokens()[0]["fill"]
    rows = [
        [f'<div class="g h"><i style="width:{100 * share:.1f}%;background:{fill}"></i></div>', percent(share)]
        for _, share in shares
    ]
    names = [f"<code>{brief(name, 40)}</code>" for name, _ in shares]
    return f'<div><p class="m">Importance</p>{table(rows, numeric=(1,), names=names)}</div>'


def _batch_table(model: BatchModel, name: str) -> str:
    size = len(model.snapshots)
    rows = [model.row(i) for i in range(min(size, BATCH_ROWS))]
    # The cell before the id is the note. A list has this column only if it has reasons.
    has_notes = model.is_list or any(face in ("failed", "retrying") and cells[-2] for _, face, cells, *_ in rows)
    columns = [(c, name, kind) for c, (name, kind) in enumerate(model.columns()) if kind != "note" or has_notes]
    numeric = [
        i
        for i, (c, _, kind) in enumerate(columns)
        if kind == "duration" or all(cells[c] is None or is_number(cells[c]) for _, _, cells, *_ in rows)
    ]
    best = model.best_value()

    def cell(face: str, value: Any, name: str, kind: str) -> str:
        text = _batch_cell(kind, face, value)
        return f'★ <b class="y">{text}</b>' if kind == "value" and (name, value) == best else text

    cells = [[cell(face, cells[c], name, kind) for c, name, kind in columns] for _, face, cells, *_ in rows]
    kept = f"{number(BATCH_ROWS)} of {number(size)} rows; <code>batch.results()</code> has all"
    return table(cells, [escape(name) for _, name, _ in columns], numeric, id=name) + (
        f'<p class="m">{kept}</p>' if size > BATCH_ROWS else ""
    )


def _batch_cell(kind: str, face: str, value: Any) -> str:
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
