"""Tables of a kit as static HTML, in the style of saved cards."""

from __future__ import annotations

from html import escape

from jobkit.client.tables import Table
from jobkit.model import JobState
from jobkit.model.format import FACES, many, number
from jobkit.model.table import Cell, written
from jobkit.ui.card.card_html import GLYPHS, brief, saved_card, table

#: Rows that a notebook keeps, and characters of a cell.
_ROWS, _CELL = 200, 160


def table_html(shown: Table) -> str:
    """Return a table as a self-contained piece of HTML; all in it is text."""
    heads, rows, left = shown._cells(_ROWS)
    numeric = [i for i, _ in enumerate(heads) if rows and all(isinstance(row[i], int) for row in rows)]
    notes = "".join(f"<p>{escape(written(note))}</p>" for note in shown._notes())
    parts = [f"<div>{notes}</div>"] if notes else []
    if rows:
        parts.append(table([list(map(_cell, row)) for row in rows], list(map(escape, heads)), numeric))
    elif not notes:
        parts.append(f'<p class="m">{escape(shown._empty)}</p>')
    if left > 0:
        parts.append(f'<p class="m">{number(_ROWS)} of {many(_ROWS + left, "row")}</p>')
    return saved_card("jkt", "queued", parts, "batch_static.css")


def _cell(cell: Cell) -> str:
    if isinstance(cell, JobState):
        return f"{GLYPHS[cell]} {FACES[cell]}"
    return brief(written(cell), _CELL)
