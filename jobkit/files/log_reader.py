"""Pages and searches of a job's log file, without reading it into memory.

The file has at most 100 MB (see `jobkit.files.log`). A page costs one pass that counts newlines. A search also decodes
the text, at most `SEARCH_BYTES` a call, and returns a cursor to continue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobkit.files.log import LEVELS, MARK, SOURCES, aside_of, lost_of, marks_of
from jobkit.model import LogFilter, LogLine, LogSlice

#: Maximum number of bytes that one call searches.
SEARCH_BYTES = 24_000_000

_BLOCK = 1 << 20

#: Maximum number of characters of a line in a page.
_LINE_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class _Block:
    """Whole lines of a piece of the log."""

    path: Path
    offset: int
    size: int
    first: int
    count: int
    marks_from: int

    def lines(self, search: str = "") -> Iterator[LogLine]:
        """Yield its lines; none if no line contains `search` (lower case)."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        whole = data.decode("utf-8", "replace")
        if search and search not in whole.lower():
            return
        try:
            with marks_of(self.path).open("rb") as file:
                file.seek(self.marks_from * MARK.size)
                marks = file.read(self.count * MARK.size)
        except OSError:  # written by an older version
            marks = b""
        marks = marks[: len(marks) // MARK.size * MARK.size].ljust(self.count * MARK.size, b"\0")
        texts = whole.removesuffix("\n").split("\n")
        for i, (text, (mark,)) in enumerate(zip(texts, MARK.iter_unpack(marks), strict=False)):
            source, level = mark & 7, mark >> 3 & 31
            yield LogLine(
                text if len(text) <= _LINE_CHARS else text[:_LINE_CHARS] + "…",
                at_ms=mark >> 8,
                source=SOURCES[source] if 0 < source < len(SOURCES) else "stdout",
                level=LEVELS[level] if level < len(LEVELS) else "",
                n=self.first + i,
            )


def read_log(
    path: Path, wanted: LogFilter, *, after: int = 0, before: int | None = None, limit: int = 500, newest: bool = False
) -> LogSlice:
    """Return lines between `after` and `before` (both excluded) that match `wanted`.

    Args:
        limit: maximum number of lines. newest: return the last of them instead of the first.

    Raises:
        OSError: the file cannot be read.
    """
    dropped, blocks = lost_of(path), _blocks(path)
    total = blocks[-1].first + blocks[-1].count - 1 if blocks else dropped
    last = total if before is None else before - 1
    found: list[LogLine] = []
    matched, is_all, cursor, budget = 0, True, 0, SEARCH_BYTES
    in_range = [block for block in blocks if block.first <= last and block.first + block.count - 1 > after]
    for block in reversed(in_range) if newest else in_range:
        is_full = len(found) >= limit
        if is_full and wanted.is_empty:
            break
        if budget <= 0:
            is_all = False
            if not is_full:
                cursor = block.first + block.count if newest else block.first - 1
            break
        lines = [line for line in block.lines(wanted.search.lower()) if after < line.n <= last and wanted.takes(line)]
        budget -= block.size if not wanted.is_empty else 0
        matched += len(lines)
        room = max(0, limit - len(found))
        found = lines[max(0, len(lines) - room) :] + found if newest else found + lines[:room]
    if wanted.is_empty:
        matched = max(0, last - after)
    return LogSlice(tuple(found), total, dropped, matched, is_all, cursor)


def _blocks(path: Path) -> list[_Block]:
    """Return the log in blocks of about a megabyte that end with a line."""
    blocks: list[_Block] = []
    first = lost_of(path) + 1
    for piece in (aside_of(path), path):
        offset = marks_from = 0
        try:
            file = piece.open("rb")
        except FileNotFoundError:
            continue
        with file:
            while data := file.read(_BLOCK):
                end = data.rfind(b"\n") + 1
                if not end:  # the line is longer than a block: read all of it
                    data += file.readline()
                    end = len(data)
                count = data.count(b"\n", 0, end) or 1
                blocks.append(_Block(piece, offset, end, first, count, marks_from))
                offset, first, marks_from = offset + end, first + count, marks_from + count
                file.seek(offset)
    return blocks
