"""Cells of tables of jobs, workers, batches: how each is written as text, and columns that stand below each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jobkit.model.format import local_time
from jobkit.model.terminal import clean

#: Text, a number, a time or a state (which is text). None is an empty cell.
Cell = str | int | datetime | None

#: Columns of a table by their headings: each gives the cell of an item.
Columns = Mapping[str, Callable[[Any], Cell]]


def written(cell: Cell) -> str:
    """Return a cell as one line that is safe for a terminal; a time in the time zone of this process."""
    if isinstance(cell, datetime):
        return local_time(cell)
    if isinstance(cell, int):
        return f"{cell:,}"
    return " ".join(clean(line) for line in str(cell or "").splitlines())


def aligned(rows: Iterable[Sequence[str]], length: Callable[[str], int] = len) -> list[list[str]]:
    """Return rows with each cell as wide as the widest of its column; `length` is that of a cell on the screen."""
    lines = list(rows)
    widths = [max(map(length, column)) for column in zip(*lines, strict=True)]
    return [[cell + " " * (n - length(cell)) for cell, n in zip(line, widths, strict=True)] for line in lines]
