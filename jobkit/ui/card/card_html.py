"""The card of a job, and tables of a kit, as static HTML for saved notebooks, exports and print. Times are local.

A few kilobytes, no style sheet from elsewhere, and every text of a user is escaped. GitHub drops the styles and keeps
the structure, so the order of the elements alone must read well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from jobkit.client.tables import Table
from jobkit.features import modules
from jobkit.model import JobSnapshot, JobState, LogLine, attempts_of
from jobkit.model.cells import Cell, written
from jobkit.model.format import (
    FACES,
    GLYPHS,
    ago,
    duration,
    local_time,
    many,
    number,
    params_brief,
    percent,
    progress_line,
    shortened,
    size,
)  # fmt: skip
from jobkit.model.metrics import Point
from jobkit.model.result import ended_text
from jobkit.model.trace import Frame, Raised, frame_count, line_of, picture_of, rows_of
from jobkit.run.inside.pictures import PICTURE
from jobkit.ui.card.card_model import CardModel
from jobkit.ui.card.curves import COLOURS, charts_of, paths_of, thinned
from jobkit.ui.card.log_lines import line_html
from jobkit.ui.words import assets

#: Log lines that a saved card keeps.
LINES = 12

#: Rows of a table of a result.
_ROWS = 10

#: Rows of a table of a kit, and characters of its cells.
_KEPT_ROWS, _CELL_CHARS = 200, 160

#: Columns of a table.
_COLUMNS = 12

#: Charts of metrics, and points of each line.
_CHARTS, _CHART_POINTS = 6, 150

#: Characters of a text.
_CHARS = 2_000

#: Exceptions of a chain or group, and frames of each (rows of those of libraries count as one).
_CHAIN, _FRAMES = 8, 10

_NUMERIC = re.compile(r"|nan|none|null|<na>|[-+]?(inf|\d[\d_,]*\.?\d*(e[-+]?\d+)?)", re.IGNORECASE)

#: A figure larger than this is left out: a notebook that is kept in git should stay small.
_FIGURE_BYTES = 200_000

_DATA_URL = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,([A-Za-z0-9+/=]+)")


def card_html(
    model: CardModel, now: datetime | None = None, *, most_lines: int = LINES, before: str = "", after: str = ""
) -> str:
    """Return a job, the end of its log, the preview of its result and its artifacts as a self-contained piece of HTML.

    Args:
        now: the moment that a running job's times refer to, the present unless given.
        most_lines: of the log. before, after: HTML around the result.
    """
    snapshot, preview, curves = model.snapshot, model.preview, model.curves.curves.curves
    figure = preview and preview.get("png")  # a job may have shown the figure that it returns
    pictures = {name: shown for name, shown in model.pictures.items() if not figure or shown.get("png") != figure}
    parts = [
        _head(snapshot, now or datetime.now(UTC)),
        before,
        _error(snapshot),
        _result(preview) if preview and not (pictures and preview.get("type") == "NoneType") else "",
        *(_shown(name, preview) for name, preview in pictures.items()),
        charts_html(charts_of({name: curve.points for name, curve in curves.items()}), "job.metrics()"),
        after and f"<div>{after}</div>",
        _saved(model.artifacts),
        _log(list(model.lines)[-most_lines:], model.total),
        _made(model.made),
        _told(snapshot),
        _attempts(snapshot),
    ]
    return saved_card("jks", snapshot.face, parts, "card_static.css")


#: Selectors of a page's theme: of JupyterLab, marimo and VS Code.
_IS = "[data-jp-theme-light={0}],[data-theme={1}],.vscode-{1}"


def saved_card(kind: str, face: str, parts: Sequence[str], *sheets: str) -> str:
    """Return the parts of a card with the styles of all saved cards and its own `sheets`, in the colours of `face`."""
    names = {"t": "text", "m": "muted", "l": "line", "b": "bg", "c": face, "k": f"{face}-bg"}
    light, dark = (";".join(f"--{short}:{values[name]}" for short, name in names.items()) for values in assets.tokens())
    light, dark = f"{light};color-scheme:light", f"{dark};color-scheme:dark"
    themes = (
        f".jks{{{light}}}@media(prefers-color-scheme:dark){{body:not({_IS.format('true', 'light')}) .jks{{{dark}}}}}"
        f"body:is({_IS.format('false', 'dark')}) .jks{{{dark}}}"
    )
    # A page may hold many cards, and each brings its own colours. Twice: stronger than the page's rules.
    own = f"{kind}-{face}"
    style = (assets.packed("static.css") + themes + "".join(map(assets.packed, sheets))).replace(
        ".jks", f".{own}.{own}"
    )
    return f'<div class="{own}">{"".join(parts)}<style>{style}</style></div>'


def headline(face: str, title: str, brief: str, elapsed: str, word: str = "") -> str:
    """Return the first line of a card: the state as glyph and word, title, arguments in brief and elapsed time."""
    args = f"<code>{escape(brief)}</code> " if brief else ""
    time = f'<span class="x">{elapsed}</span>' if elapsed else ""
    state = f'<span class="i">{GLYPHS[face]} {word or FACES[face]}</span>'
    return f'<p class="t">{state} <b>{escape(title)}</b> {args}{time}</p>'


def folded(summary: str, body: str) -> str:
    """Return a part that opens with a click on its summary; both are HTML."""
    return f"<details><summary>{summary}</summary>{body}</details>"


def table(
    rows: Sequence[Sequence[object]],
    heads: Sequence[str] = (),
    numeric: Collection[int] = (),
    names: Sequence[str] = (),
    id: str = "",
) -> str:
    """Return a table of cells that are HTML: `heads` of columns, which have numbers (`numeric`), `names` of rows."""

    def line(tag: str, cells: Sequence[object], name: str = "") -> str:
        css = (' class="n"' if i in numeric else "" for i in range(len(cells)))
        return f"<tr>{name}{''.join(f'<{tag}{c}>{cell}</{tag}>' for c, cell in zip(css, cells, strict=True))}</tr>"

    body = "".join(line("td", row, f"<th>{names[i]}</th>" if names else "") for i, row in enumerate(rows))
    head = f"<thead>{line('th', heads)}</thead>" if heads else ""
    mark = f' id="{id}"' if id else ""
    return f'<div class="w"><table{mark}>{head}<tbody>{body}</tbody></table></div>'


def _head(snapshot: JobSnapshot, now: datetime) -> str:
    spec, word, fraction = snapshot.spec, "Cancelling" if snapshot.is_cancelling else "", snapshot.progress
    elapsed = duration(snapshot.elapsed_s(now))
    parts = [headline(snapshot.face, spec.title or spec.task, params_brief(spec.params), elapsed, word)]
    if fraction is not None and snapshot.state != "succeeded":
        parts.append(f'<div class="g"><i style="width:{fraction * 100:.1f}%"></i></div>')
        told = (percent(fraction), progress_line(snapshot.completed, snapshot.total), snapshot.shown_message)
        parts.append(f"<p>{escape(' · '.join(p for p in told if p))}</p>")
    facts = (
        ended_text(snapshot) if snapshot.state == "cancelled" else "",
        snapshot.finished_at and f"ended {local_time(snapshot.finished_at)}",
        snapshot.worker and f"worker {snapshot.worker}",
        snapshot.attempt > 1 and f"attempt {snapshot.attempt}",
    )
    known = "".join(f"{escape(fact)} · " for fact in facts if fact)
    parts.append(f'<p class="m">{known}<code title="{escape(snapshot.id)}">{escape(snapshot.id[:8])}</code></p>')
    parts += [
        f'<p><b>Question</b> {escape(asked.text)} <span class="m">asked {ago(asked.at, now)}</span></p>'
        for asked in snapshot.asking
    ]
    if not snapshot.is_terminal:
        if spec.needs and snapshot.state == "scheduled":
            shown_ids = ", ".join(f"<code>{escape(need[:8])}</code>" for need in spec.needs[:6])
            more = f" and {len(spec.needs) - 6} more" if len(spec.needs) > 6 else ""
            parts.append(f'<p class="m">waits for the results of {shown_ids}{more}</p>')
        parts.append(
            f'<p class="m">{snapshot.state} at {local_time(now, seconds=True)}, when this was saved; '
            f"<code>jobkit.connect().get({escape(repr(snapshot.id))})</code> shows it live</p>"
        )
    return f"<div>{''.join(parts)}</div>"


def _error(snapshot: JobSnapshot) -> str:
    error = snapshot.error
    if error is None or snapshot.state == "succeeded" or not snapshot.is_terminal:
        return ""
    chain = picture_of(error)
    text = error.traceback
    if len(text) > _CHARS:  # its last lines say what happened
        text = "…\n" + text[-_CHARS:].split("\n", 1)[-1]
    trace = folded("Traceback", f"<pre>{escape(text)}</pre>") if text else ""
    headline = f"<p><b><code>{escape(error.type)}</code></b> {brief(error.message, 600)}</p>"
    more = f'<p class="m">{len(chain) - _CHAIN} more exceptions</p>' if len(chain) > _CHAIN else ""
    told = "".join(map(_raised, chain[:_CHAIN])) + more
    return f'<div class="e">{headline}{told}{trace}</div>'


def _raised(raised: Raised) -> str:
    """Return one exception of a chain: own frames with their code, those of libraries counted."""
    lead = f'<p class="m">{raised.lead} <code>{brief(raised.headline, 300)}</code></p>' if raised.lead else ""
    notes = f'<pre class="m">{brief(raised.notes, _CHARS)}</pre>' if raised.notes else ""
    rows = list(rows_of(raised.frames))
    more = f'<p class="m">{len(rows) - _FRAMES} more frames</p>' if len(rows) > _FRAMES else ""
    return lead + notes + more + "".join(map(_frame, rows[-_FRAMES:]))


def _frame(frame: Frame | Sequence[Frame]) -> str:
    """Return one own frame, or how many of libraries there are in a row."""
    if not isinstance(frame, Frame):
        return f'<p class="m">{frame_count(frame)}</p>'
    times = f" · {number(frame.count)} times" if frame.count > 1 else ""
    code = _source(frame.source, line_of(frame.place)) if frame.source else brief(f"  {frame.code}", 300)
    body = f'<pre class="s">{code}</pre>' if code.strip() else ""
    return f'<p class="m"><code>{escape(frame.place)}{times}</code></p>{body}'


def _source(source: str, at: str) -> str:
    """Return the lines around the failing one, which is marked also where styles are dropped."""
    lines = [line.partition("\t") for line in source.split("\n")]
    width = max(len(number) for number, _, _ in lines)
    texts = [(number == at, escape(f"{number:>{width}}  {text}")) for number, _, text in lines]
    return "\n".join(f"<b>&gt; {text}</b>" if is_failing else f"  {text}" for is_failing, text in texts)


def _shown(name: str, preview: Mapping[str, Any]) -> str:
    """Return a picture that the job has shown."""
    return f'<div><p class="m">{brief(name, 80)}</p>{_result({**preview, "bokeh": None})}</div>'


def _saved(artifacts: Sequence[Mapping[str, Any]]) -> str:
    artifacts = [each for each in artifacts if each.get("media_type") != PICTURE]
    if not artifacts:
        return ""
    total = size(sum(int(each["size_bytes"]) for each in artifacts))
    rows = [[f"<code>{brief(each['name'], 80)}</code>", size(each["size_bytes"])] for each in artifacts[:_ROWS]]
    more = " and more" if len(artifacts) > _ROWS else ""
    note = f'<p class="m"><code>job.artifacts()</code> reads and saves them{more}</p>'
    return folded(f"{many(len(artifacts), 'artifact')}, {total}", table(rows, numeric=(1,)) + note)


def _made(lines: Sequence[tuple[str, str]]) -> str:
    rows = [[f"<code>{brief(text, 300)}</code>"] for _, text in lines]
    return folded("What made it", table(rows, names=[escape(label) for label, _ in lines])) if lines else ""


def _log(last: Sequence[LogLine], total: int) -> str:
    if not last:
        return ""
    lines = "1 line" if total == 1 else f"{total} lines"
    word = f"last {len(last)} of {number(total)} lines" if total > len(last) else lines
    return folded(f"Log, {word}", f"<pre>{chr(10).join(line_html(line, 240) for line in last)}</pre>")


def _told(snapshot: JobSnapshot) -> str:
    parts = []
    for each in modules("history"):
        if lines := each.lines(snapshot):
            shown = "".join(f"<p>{brief(line, 500)}</p>" for line in lines[-_ROWS:])
            parts.append(folded(many(len(lines), each.NOUN), shown))
    return "".join(parts)


def _attempts(snapshot: JobSnapshot) -> str:
    attempts = attempts_of(snapshot.history)
    if len(attempts) < 2:
        return ""
    rows = []
    for a in attempts[-8:]:
        cells = [a.number, escape(a.outcome), f"{a.started_at.astimezone():%H:%M:%S}", duration(a.duration_s)]
        rows.append([*cells, escape(a.worker), brief(a.reason, 120)])
    return folded(f"{len(attempts)} attempts", table(rows))


def _result(preview: Mapping[str, Any]) -> str:
    notes = (preview[name] for name in ("note", "unavailable") if preview.get(name))
    note = "".join(f'<p class="m">{escape(str(said))}</p>' for said in notes)
    rich, plain, text = preview.get("table"), preview.get("json"), str(preview.get("text") or "")
    is_nested = isinstance(plain, dict) and any(isinstance(value, (dict, list)) for value in plain.values())
    picture = _DATA_URL.fullmatch(str(preview.get("picture") or ""))
    if isinstance(rich, Mapping):
        body = _data(rich)
    elif picture:
        body = _figure(picture[2], picture[1])
    elif preview.get("png"):
        body = _figure(str(preview["png"]))
    elif isinstance(plain, dict) and 0 < len(plain) <= _ROWS and not is_nested:
        body = table([[brief(value, 200)] for value in plain.values()], names=[brief(name, 60) for name in plain])
    else:
        if isinstance(plain, (dict, list)):
            text = json.dumps(plain, indent=1, ensure_ascii=False, default=str)
        # Markup of a result (`html`) is never put into a page that others open; its text says what it is.
        body = f"<pre>{brief(text, _CHARS)}</pre>" if text else ""
    if preview.get("bokeh") and not (picture or preview.get("png")):
        body += '<p class="m"><code>bokeh.io.show(job.result())</code> draws it; the dashboard shows it</p>'
    return f"<div>{body}{note}</div>" if body or note else ""


def charts_html(charts: Mapping[str, Sequence[tuple[str, Sequence[Point]]]], all_of_them: str) -> str:
    """Return small charts of the first metrics, as in chart.js, and the code that gives `all_of_them`."""
    if not charts:
        return ""
    parts = [_chart(title, lines) for title, lines in list(charts.items())[:_CHARTS]]
    more = f'<p class="m">{len(charts) - _CHARTS} more: <code>{all_of_them}</code></p>' if len(charts) > _CHARTS else ""
    return f'<div><p class="m">Metrics</p>{"".join(parts)}{more}</div>'


def _chart(title: str, lines: Sequence[tuple[str, Sequence[Point]]]) -> str:
    shown = [thinned(list(points), _CHART_POINTS) for _, points in lines[: len(COLOURS)]]
    paths, (x0, x1, y0, y1) = paths_of(shown)
    strokes = [
        ["path", {"d": path, "fill": "none", "stroke": colour, "stroke-width": 1.5, "stroke-linecap": "round",
                  "vector-effect": "non-scaling-stroke"}]
        for path, colour in zip(paths, COLOURS, strict=False)
    ]  # fmt: skip
    said = " · ".join(
        f'<span style="color:{colour}">●</span> {f"{escape(label)} " if len(lines) > 1 else ""}{points[-1][2]:.4g}'
        for (label, points), colour in zip(lines, COLOURS, strict=False)
    )
    named = {"viewBox": "0 0 1000 100", "preserveAspectRatio": "none", "role": "img", "aria-label": title}
    style = {"style": "display:block;width:100%;height:90px;overflow:visible"}
    spans = f"{y0:.4g} to {y1:.4g}, steps {x0:g} to {x1:g}"
    return (
        f"<p><code>{brief(title, 60)}</code> {said} "
        f'<span class="m">{spans}</span></p>{svg_element("svg", {**named, **style}, *strokes)}'
    )


def _data(data: Mapping[str, Any]) -> str:
    columns = [str(name) for name in data.get("columns") or ()][:_COLUMNS]
    all_rows = list(data.get("rows") or ())
    rows = [list(row)[: len(columns)] for row in all_rows[:_ROWS]]
    tall, _ = data.get("shape") or (len(all_rows), len(columns))
    numeric = [
        i for i in range(len(columns)) if rows and all(_NUMERIC.fullmatch(str(r[i])) for r in rows if i < len(r))
    ]
    cells = [[brief(value, 80) for value in row] for row in rows]
    more = f'<p class="m">{number(len(rows))} of {number(tall)} rows</p>' if tall > len(rows) else ""
    return table(cells, [brief(name, 40) for name in columns], numeric) + more


def _figure(png: str, kind: str = "png") -> str:
    data = re.sub(r"\s", "", png)
    if not re.fullmatch(r"[A-Za-z0-9+/=]+", data):
        return ""
    if len(data) > _FIGURE_BYTES * 4 / 3:
        return f'<p class="m">figure of {size(len(data) * 0.75)}, too large to keep here; open the job to see it</p>'
    return f'<img alt="figure" src="data:image/{kind};base64,{data}">'


def table_html(shown: Table) -> str:
    """Return a table as a self-contained piece of HTML; all cells are text."""
    heads, rows, left = shown.cells(_KEPT_ROWS)
    numeric = [i for i, _ in enumerate(heads) if rows and all(isinstance(row[i], int) for row in rows)]
    notes = "".join(f"<p>{escape(written(note))}</p>" for note in shown.notes())
    parts = [f"<div>{notes}</div>"] if notes else []
    if rows:
        parts.append(table([list(map(_cell, row)) for row in rows], list(map(escape, heads)), numeric))
    elif not notes:
        parts.append(f'<p class="m">{escape(shown.EMPTY)}</p>')
    if left > 0:
        parts.append(f'<p class="m">{number(_KEPT_ROWS)} of {many(_KEPT_ROWS + left, "row")}</p>')
    return saved_card("jkt", "queued", parts, "table_static.css")


def _cell(cell: Cell) -> str:
    if isinstance(cell, JobState):
        return f"{GLYPHS[cell]} {FACES[cell]}"
    return brief(written(cell), _CELL_CHARS)


def svg_element(tag: str, attributes: Mapping[str, Any], *children: Any) -> str:
    """Return an element with its children: texts, or elements `[tag, attributes, *children]`."""
    inner = "".join(escape(child) if isinstance(child, str) else svg_element(*child) for child in children)
    named = "".join(f' {name}="{escape(str(value))}"' for name, value in attributes.items())
    return f"<{tag}{named}>{inner}</{tag}>"


def brief(value: object, limit: int) -> str:
    """Return a value as HTML of at most `limit` characters."""
    return escape(shortened(str(value), limit))
