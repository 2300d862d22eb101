"""The job card as static HTML: for saved notebooks, exports, GitHub and print.

No script, no style sheet from elsewhere, a few kilobytes; every text of a user is escaped. GitHub drops the styles and
keeps the structure, so the order of the elements alone must read well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from jobkit.model import JobSnapshot, LogLine, attempts_of
from jobkit.model.format import FACES, duration, number, params_brief, percent, progress_line, size
from jobkit.ui.card.card_model import CardModel
from jobkit.ui.words import assets
from jobkit.ui.words.trace import chain_of

#: Log lines that a saved card keeps.
_LINES = 12

#: Rows of a table.
_ROWS = 10

#: Columns of a table.
_COLUMNS = 12

#: Characters of a text.
_CHARS = 2_000

#: The line in "train.py:28 in evaluate".
_NUMBER = re.compile(r"\d+(?= in |$)")

_NUMERIC = re.compile(r"|nan|none|null|<na>|[-+]?(inf|\d[\d_,]*\.?\d*(e[-+]?\d+)?)", re.IGNORECASE)

#: A figure larger than this is left out: a notebook that is kept in git should stay small.
_FIGURE_BYTES = 200_000

GLYPHS = {
    "queued": "○", "scheduled": "◷", "running": "◔", "retrying": "↻",
    "succeeded": "✓", "failed": "✗", "cancelled": "⊘",
}  # fmt: skip


def card_html(model: CardModel, now: datetime | None = None) -> str:
    """Return a job, the end of its log, the preview of its result and its artifacts as a self-contained piece of HTML.

    `now` is the moment that a running job's times refer to; the present unless given.
    """
    snapshot, preview = model.snapshot, model.preview
    parts = [
        _head(snapshot, now or datetime.now(UTC)),
        *_error(snapshot),
        *(_result(preview) if preview else ()),
        *_saved(model.artifacts),
        *_log(list(model.lines)[-_LINES:], model.total),
        *_attempts(snapshot),
    ]
    return saved_card("jks", snapshot.face, parts, "card_static.css")


def saved_card(kind: str, face: str, parts: Sequence[str], sheet: str) -> str:
    """Return the parts of a card with the styles of all saved cards and its own `sheet`, in the colours of `face`."""
    names = {"t": "text", "m": "muted", "l": "line", "b": "bg", "c": face, "k": f"{face}-bg"}
    light, dark = (";".join(f"--{short}:{values[name]}" for short, name in names.items()) for values in assets.tokens())
    themes = (
        f".jks{{{light}}}@media(prefers-color-scheme:dark){{body:not([data-jp-theme-light=true]) .jks{{{dark}}}}}"
        f"body[data-jp-theme-light=false] .jks{{{dark}}}"
    )
    # A page may hold many cards, and each brings its own colours. Twice: stronger than the page's rules.
    own = f"{kind}-{face}"
    style = (assets.packed("static.css") + themes + assets.packed(sheet)).replace(".jks", f".{own}.{own}")
    return f'<div class="{own}">{"".join(parts)}<style>{style}</style></div>'


def headline(face: str, title: str, brief: str, elapsed: str, word: str = "") -> str:
    """Return the first line of a card: the state as glyph and word, title, arguments in brief and elapsed time."""
    args = f"<code>{escape(brief)}</code> " if brief else ""
    time = f'<span class="x">{elapsed}</span>' if elapsed else ""
    state = f'<span class="i">{GLYPHS[face]} {word or FACES[face]}</span>'
    return f'<p class="t">{state} <b>{escape(title)}</b> {args}{time}</p>'


def folded(summary: str, body: str) -> str:
    """Return HTML that a click on its summary shows."""
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
    spec, word = snapshot.spec, "Cancelling" if snapshot.is_cancelling else ""
    elapsed = duration(snapshot.elapsed_s(now))
    parts = [headline(snapshot.face, spec.title or spec.task, params_brief(spec.params), elapsed, word)]
    fraction = snapshot.progress
    if fraction is not None and snapshot.state != "succeeded":
        count = progress_line(snapshot.done, snapshot.total)
        parts.append(f'<div class="g"><i style="width:{fraction * 100:.1f}%"></i></div>')
        told = (percent(fraction), count, snapshot.shown_message)
        parts.append(f"<p>{escape(' · '.join(p for p in told if p))}</p>")
    facts = []
    if snapshot.finished_at is not None:
        facts.append(f"ended {snapshot.finished_at:%Y-%m-%d %H:%M} UTC")
    if snapshot.worker:
        facts.append(f"worker {snapshot.worker}")
    if snapshot.attempt > 1:
        facts.append(f"attempt {snapshot.attempt}")
    facts_text = escape(" · ".join(facts)) + (" · " if facts else "")
    parts.append(f'<p class="m">{facts_text}<code title="{escape(snapshot.id)}">{escape(snapshot.id[:8])}</code></p>')
    if not snapshot.is_terminal:
        if spec.needs and snapshot.state == "scheduled":
            shown_ids = ", ".join(f"<code>{escape(need[:8])}</code>" for need in spec.needs[:6])
            more = f" and {len(spec.needs) - 6} more" if len(spec.needs) > 6 else ""
            parts.append(f'<p class="m">waits for the results of {shown_ids}{more}</p>')
        parts.append(
            f'<p class="m">{snapshot.state} at {now:%H:%M:%S} UTC, when this was saved; '
            f"<code>kit.get({escape(repr(snapshot.id))})</code> shows it live</p>"
        )
    return f"<div>{''.join(parts)}</div>"


def _error(snapshot: JobSnapshot) -> list[str]:
    error = snapshot.error
    if error is None or snapshot.state == "succeeded" or not snapshot.is_terminal:
        return []
    chain = chain_of(error.traceback)
    cause = f'<p class="m">Root cause <code>{_brief(chain[0].headline, 300)}</code></p>' if len(chain) > 1 else ""
    where = f'<p class="m"><code>{escape(error.where)}</code></p>' if error.where else ""
    at = _NUMBER.search(error.where)
    source = f'<pre class="s">{_source(error.source, at[0] if at else "")}</pre>' if error.source else ""
    text = error.traceback
    if len(text) > _CHARS:  # its last lines say what happened
        text = "…\n" + text[-_CHARS:].split("\n", 1)[-1]
    trace = folded("Traceback", f"<pre>{escape(text)}</pre>") if text else ""
    return [
        f'<div class="e"><p><b><code>{escape(error.type)}</code></b> {_brief(error.message, 600)}</p>'
        f"{where}{source}{cause}{trace}</div>"
    ]


def _source(source: str, at: str) -> str:
    """Return the lines around the failing one, which is marked also where styles are dropped."""
    lines = [line.partition("\t") for line in source.split("\n")]
    width = max(len(number) for number, _, _ in lines)
    texts = [(number == at, escape(f"{number:>{width}}  {text}")) for number, _, text in lines]
    return "\n".join(f"<b>&gt; {text}</b>" if is_failing else f"  {text}" for is_failing, text in texts)


def _saved(artifacts: Sequence[Mapping[str, Any]]) -> list[str]:
    if not artifacts:
        return []
    total = size(sum(int(each["size_bytes"]) for each in artifacts))
    word = "1 artifact" if len(artifacts) == 1 else f"{len(artifacts)} artifacts"
    rows = [[f"<code>{_brief(each['name'], 80)}</code>", size(each["size_bytes"])] for each in artifacts[:_ROWS]]
    more = " and more" if len(artifacts) > _ROWS else ""
    note = f'<p class="m"><code>job.artifacts()</code> reads and saves them{more}</p>'
    return [folded(f"{word}, {total}", table(rows, numeric=(1,)) + note)]


def _log(last: Sequence[LogLine], total: int) -> list[str]:
    if not last:
        return []
    lines = "1 line" if total == 1 else f"{total} lines"
    word = f"last {len(last)} of {number(total)} lines" if total > len(last) else lines
    return [folded(f"Log, {word}", f"<pre>{escape(chr(10).join(_cut(line.text, 240) for line in last))}</pre>")]


def _attempts(snapshot: JobSnapshot) -> list[str]:
    attempts = attempts_of(snapshot.history)
    if len(attempts) < 2:
        return []
    rows = []
    for a in attempts[-8:]:
        times = (f"{a.started_at:%H:%M:%S}", duration(a.duration_s))
        rows.append([a.number, escape(a.outcome), *times, escape(a.worker), _brief(a.reason, 120)])
    return [folded(f"{len(attempts)} attempts", table(rows))]


def _result(preview: Mapping[str, Any]) -> list[str]:
    note = f'<p class="m">{escape(str(preview["unavailable"]))}</p>' if preview.get("unavailable") else ""
    rich, plain, text = preview.get("table"), preview.get("json"), str(preview.get("text") or "")
    if isinstance(rich, Mapping):
        body = _data(rich)
    elif preview.get("png"):
        body = _figure(str(preview["png"]))
    elif isinstance(plain, dict) and 0 < len(plain) <= _ROWS and not _is_nested(plain):
        body = table([[_brief(value, 200)] for value in plain.values()], names=[_brief(name, 60) for name in plain])
    else:
        if isinstance(plain, (dict, list)):
            text = json.dumps(plain, indent=1, ensure_ascii=False, default=str)
        # Markup of a result (`html`) is never put into a page that others open; its text says what it is.
        body = f"<pre>{_brief(text, _CHARS)}</pre>" if text else ""
        if preview.get("bokeh"):
            body += '<p class="m"><code>bokeh.io.show(job.result())</code> draws it; the dashboard shows it</p>'
    return [f"<div>{body}{note}</div>"] if body or note else []


def _is_nested(plain: Mapping[str, Any]) -> bool:
    return any(isinstance(value, (dict, list)) for value in plain.values())


def _data(data: Mapping[str, Any]) -> str:
    columns = [str(name) for name in data.get("columns") or ()][:_COLUMNS]
    all_rows = list(data.get("rows") or ())
    rows = [list(row)[: len(columns)] for row in all_rows[:_ROWS]]
    tall, _ = data.get("shape") or (len(all_rows), len(columns))
    numeric = [
        i for i in range(len(columns)) if rows and all(_NUMERIC.fullmatch(str(r[i])) for r in rows if i < len(r))
    ]
    cells = [[_brief(value, 80) for value in row] for row in rows]
    more = f'<p class="m">{number(len(rows))} of {number(tall)} rows</p>' if tall > len(rows) else ""
    return table(cells, [_brief(name, 40) for name in columns], numeric) + more


def _figure(png: str) -> str:
    data = re.sub(r"\s", "", png)
    if not re.fullmatch(r"[A-Za-z0-9+/=]+", data):
        return ""
    if len(data) > _FIGURE_BYTES * 4 / 3:
        return f'<p class="m">figure of {size(len(data) * 0.75)}, too large to keep here; open the job to see it</p>'
    return f'<img alt="figure" src="data:image/png;base64,{data}">'


def _brief(value: object, limit: int) -> str:
    return escape(_cut(str(value), limit))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
