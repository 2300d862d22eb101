"""Pages and searches of a job's log file, which is never read into memory as a whole.

A file is known by its blocks of whole lines. A process keeps the blocks of the last `_KEPT` files that it has read, so
a page costs one block, and of a file that has grown only its new end is read. A search decodes the text, at most
`SEARCH_BYTES` a call, and returns a cursor to continue.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import IO

import msgspec

from jobkit.files.log import ASIDE, LEVELS, MARK, MARKS, SOURCES, LogPieces, lines_lost, pieces_of
from jobkit.model import LogFilter, LogHits, LogLine, LogSlice
from jobkit.model.terminal import clean, drawn

#: Maximum number of bytes that one call searches.
SEARCH_BYTES = 24_000_000

#: Size of a block.
_BLOCK = 1 << 18

#: Maximum number of characters of a line in a page.
_LINE_CHARS = 10_000

#: Number of files whose blocks are kept. A file of 50 MB has 200.
_KEPT = 100

#: Bytes at the end of the known part of a file that must be the same for its blocks to be valid.
_SAME_BYTES = 64


class _Block(msgspec.Struct, frozen=True):
    """Whole lines of a piece of the log. `marks`: the file with their marks."""

    path: Path
    marks: Path
    offset: int
    size: int
    first: int
    count: int
    marks_from: int

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    def lines(self, after: int, last: int, wanted: LogFilter) -> Iterator[LogLine]:
        """Yield its lines above `after` up to `last` that match."""
        text = self._text()
        if wanted.search and wanted.search.lower() not in text.lower() and text.replace("\n", "").isprintable():
            return
        marks = self._marks()
        begin, end = max(0, after + 1 - self.first), max(0, last + 1 - self.first)
        for i, shown in enumerate(_lines_of(text)[begin:end], begin):
            (mark,) = MARK.unpack_from(marks, i * MARK.size)
            source, level = _meaning(mark & 255)
            shown = _drawn(shown)
            line = LogLine(
                shown if len(shown) <= _LINE_CHARS else shown[:_LINE_CHARS] + "…",
                mark >> 8,
                source,
                level,
                n=self.first + i,
            ).cleaned()
            if wanted.takes(line):
                yield line

    def numbers(self, after: int, wanted: LogFilter) -> list[int]:
        """Return the numbers of its lines above `after` that match, without making lines of them."""
        found: Iterable[int] = range(max(0, after + 1 - self.first), self.count)
        if wanted.level:
            flags = self._marks()[:: MARK.size].translate(_accepted(wanted.level))
            found = [i for i in found if flags[i]]
        if search := wanted.search.lower():
            texts = _lines_of(self._text())
            found = [i for i in found if search in _shown(texts[i]).lower()]
        return [self.first + i for i in found]

    def _text(self) -> str:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size).decode("utf-8", "replace")

    def _marks(self) -> bytes:
        size = self.count * MARK.size
        try:
            with self.marks.open("rb") as file:
                file.seek(self.marks_from * MARK.size)
                marks = file.read(size)
        except OSError:  # they are lost
            marks = b""
        return marks[: len(marks) // MARK.size * MARK.size].ljust(size, b"\0")


def _lines_of(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def _shown(text: str) -> str:
    return text if text.isprintable() else clean(_drawn(text))


def _drawn(text: str) -> str:
    return drawn(text.rstrip("\r")) if "\r" in text else text


def _meaning(mark: int) -> tuple[str, str]:
    """Return source and level of a mark's lowest byte."""
    source, level = mark & 7, mark >> 3
    return (
        SOURCES[source] if 0 < source < len(SOURCES) else "stdout",
        LEVELS[level] if level < len(LEVELS) else "",
    )


@cache
def _accepted(level: str) -> bytes:
    """Return a table for `bytes.translate`: 1 for the lowest bytes of marks whose lines are at least of this level."""
    wanted = LogFilter(level=level)
    return bytes(wanted.takes(LogLine("", 0, *_meaning(mark))) for mark in range(256))


class _Log:
    """The blocks of a log. Raises OSError: a file cannot be read."""

    def __init__(self, log: Path | LogPieces) -> None:
        pieces = pieces_of(log) if isinstance(log, Path) else log
        self.dropped = lines_lost(pieces)
        self.blocks = list(_blocks(pieces, self.dropped))
        self.total = self.blocks[-1].last if self.blocks else self.dropped


def read_log(
    log: Path | LogPieces,
    wanted: LogFilter,
    *,
    after: int = 0,
    before: int | None = None,
    limit: int = 500,
    newest: bool = False,
) -> LogSlice:
    """Return lines between `after` and `before` (both excluded) that match `wanted`.

    Args:
        log: the text of the log, or what finds its files.
        limit: maximum number of lines. newest: return the last of them instead of the first.

    Raises:
        OSError: the file cannot be read.
    """
    whole = _Log(log)
    last = whole.total if before is None else before - 1
    found: list[LogLine] = []
    matched, is_all, cursor, budget = 0, True, 0, SEARCH_BYTES
    in_range = [block for block in whole.blocks if block.first <= last and block.last > after]
    for block in reversed(in_range) if newest else in_range:
        is_full = len(found) >= limit
        if is_full and wanted.is_empty:
            break
        if budget <= 0:
            is_all = False
            if not is_full:
                cursor = block.last + 1 if newest else block.first - 1
            break
        room = max(0, limit - len(found))
        if wanted.is_empty:  # only lines that are returned are decoded
            first = max(after, min(last, block.last) - room) if newest else after
            lines = [*block.lines(first, last if newest else min(last, max(after, block.first - 1) + room), wanted)]
        else:
            lines = [*block.lines(after, last, wanted)]
            budget -= block.size
        matched += len(lines)
        found = lines[max(0, len(lines) - room) :] + found if newest else found + lines[:room]
    if wanted.is_empty:
        matched = max(0, last - after)
    return LogSlice(tuple(found), whole.total, whole.dropped, matched, is_all, cursor, is_whole=True)


def find_in_log(log: Path | LogPieces, wanted: LogFilter, *, after: int = 0, most: int) -> LogHits:
    """Return the numbers of the first `most` lines above `after` that match, and how many there are.

    Raises:
        OSError: the file cannot be read.
    """
    whole = _Log(log)
    numbers: list[int] = []
    matched, budget = 0, SEARCH_BYTES
    for block in whole.blocks:
        if block.last <= after:
            continue
        if budget <= 0:
            return LogHits(tuple(numbers), matched, whole.total, block.first - 1)
        budget -= block.size if wanted.search else block.count * MARK.size
        found = block.numbers(after, wanted)
        matched += len(found)
        numbers += found[: max(0, most - len(numbers))]
    return LogHits(tuple(numbers), matched, whole.total)


# -- blocks ------------------------------------------------------------------------------------------------------------


class _Known(msgspec.Struct, frozen=True):
    """The blocks of the beginning of a file, by offset, size and number of lines, and how that ends."""

    blocks: tuple[tuple[int, int, int], ...]
    end: bytes

    @property
    def size(self) -> int:
        return sum(self.blocks[-1][:2]) if self.blocks else 0


_known: OrderedDict[tuple[int, int], _Known] = OrderedDict()
_lock = threading.Lock()


def _blocks(pieces: LogPieces, dropped: int) -> Iterator[_Block]:
    first = dropped + 1
    for end_of_name in (ASIDE, ""):
        try:
            piece = pieces(end_of_name)
            file = piece.open("rb")
        except FileNotFoundError:
            continue
        marks, marks_from = _found(pieces, end_of_name + MARKS), 0
        with file:
            for offset, size, count in _measured(file):
                yield _Block(piece, marks, offset, size, first, count, marks_from)
                first, marks_from = first + count, marks_from + count


def _found(pieces: LogPieces, end: str) -> Path:
    try:
        return pieces(end)
    except FileNotFoundError:
        return Path(os.devnull)


def _measured(file: IO[bytes]) -> list[tuple[int, int, int]]:
    """Return the blocks of a file: offset, size and number of lines of each."""
    status = os.fstat(file.fileno())
    key = status.st_dev, status.st_ino
    with _lock:
        known = _known.get(key, _Known((), b""))
    file.seek(max(0, known.size - len(known.end)))
    if status.st_size < known.size or file.read(len(known.end)) != known.end:  # another file in its place
        known = _Known((), b"")
    blocks, offset = list(known.blocks), known.size
    file.seek(offset)
    while data := file.read(_BLOCK):
        size = data.rfind(b"\n") + 1
        if not size:  # the line is longer than a block: read all of it
            data += file.readline()
            size = len(data)
        blocks.append((offset, size, data.count(b"\n", 0, size) or 1))
        offset += size
        file.seek(offset)
    whole = tuple(blocks[:-1])  # the last one may grow
    if len(whole) > len(known.blocks):
        file.seek(max(0, sum(whole[-1][:2]) - _SAME_BYTES))
        end = file.read(min(_SAME_BYTES, sum(whole[-1][:2])))
        with _lock:
            _known[key] = _Known(whole, end)
            _known.move_to_end(key)
            while len(_known) > _KEPT:
                _known.popitem(last=False)
    return blocks
