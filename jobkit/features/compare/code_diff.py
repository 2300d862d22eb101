"""Differences of code between two results, line by line: of files that differ from a commit, and of typed functions.

Pure. Two diffs against one commit have only the lines around their changes. Lines that neither of them has are equal.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

#: Lines that are shown of one file, and that are compared of each side.
_SHOWN_MOST, _COMPARED_MOST = 400, 4_000

#: Stands for lines that no diff shows.
_GAP = "\0"

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")


class FileDiff(msgspec.Struct, frozen=True):
    """Differing lines of one file or function.

    Attributes:
        name: path of the file, or the cell of the function.
        lines: mark (" ", "-", "+", or "@" for left-out lines) and text of each, the older side first.
        note: what the lines lack, "" for nothing.
    """

    name: str
    lines: Sequence[tuple[str, str]] = ()
    note: str = ""

    @property
    def added(self) -> int:
        return sum(mark == "+" for mark, _ in self.lines)

    @property
    def removed(self) -> int:
        return sum(mark == "-" for mark, _ in self.lines)


def between(name: str, old: str, new: str) -> FileDiff:
    """Return what differs between two sections of diffs against one commit; "" for an unchanged file."""
    one, other = _CodeVersion(old), _CodeVersion(new)
    if not (one.places or other.places):
        return FileDiff(name, (), "it is not text, or its lines were not kept")
    places = sorted({*one.places, *other.places})
    known = {**one.base, **other.base}
    return of_lines(name, one.text(places, known), other.text(places, known))


def of_lines(name: str, old: Sequence[str], new: Sequence[str]) -> FileDiff:
    """Return what differs between two lists of lines."""
    if max(len(old), len(new)) > _COMPARED_MOST:
        return FileDiff(name, (), f"it has more than {_COMPARED_MOST:,} lines")
    rows = [*_marked(difflib.unified_diff(old, new, n=3, lineterm=""))]
    more = len(rows) - _SHOWN_MOST
    return FileDiff(name, rows[:_SHOWN_MOST], f"{more:,} more lines" if more > 0 else "")


def _marked(unified: Iterator[str]) -> Iterator[tuple[str, str]]:
    next(unified, None), next(unified, None)  # names of the files
    is_first = True
    for line in unified:
        is_gap = line.startswith("@@ ") or line[1:] == _GAP
        if not is_gap:
            yield line[0], line[1:]
        elif not is_first:
            yield "@", ""
        is_first = is_gap and is_first


class _CodeVersion:
    """A file as one diff knows it: lines of the commit by number, which of them are gone, and what was added behind."""

    def __init__(self, section: str) -> None:
        self.base: dict[int, str] = {}
        self._gone: set[int] = set()
        self._added: dict[int, list[str]] = {}
        at = -1
        for line in section.splitlines():
            if match := _HUNK.match(line):
                # Without context, the number is that of the line before what is added.
                at = int(match[1]) - (0 if ",0 " in line.split("+")[0] else 1)
            elif at < 0 or line.startswith("\\"):
                continue
            elif line.startswith("+"):
                self._added.setdefault(at, []).append(line[1:])
            else:
                at += 1
                self.base[at] = line[1:]
                if line.startswith("-"):
                    self._gone.add(at)
        self.places = {*self.base, *self._added}

    def text(self, places: Sequence[int], known: Mapping[int, str]) -> list[str]:
        """Return its lines at these places; `known` has the lines of the commit that any side knows."""
        lines, before = [], 0
        for at in places:
            if at > before + 1:
                lines.append(_GAP)
            if at in known and at not in self._gone:
                lines.append(known[at])
            lines += self._added.get(at, ())
            before = at
        return lines
