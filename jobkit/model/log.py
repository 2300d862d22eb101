"""Captured lines of output, some of them as a reader asked for, and the filter of a log view."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.model.plain import iso, to_json
from jobkit.model.terminal import clean_styled, without_styles


class LogLine(msgspec.Struct, frozen=True):
    """A line that a job printed, logged or warned.

    Attributes:
        text: the line without its newline; control characters and colours are removed.
        at_ms: time of the write, milliseconds since the epoch, by the worker's clock (for display only).
        source: "stdout", "stderr", "log", "warning", or "jobkit" for messages of the worker.
        level: "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL" for records of `logging`, else "".
        logger: name of the logger for records of `logging`, else "".
        n: number of the line in the job's log, from 1; 0 if not stored yet.
        styled: the text with its colours, see `model.terminal`; "" if it has none.
    """

    text: str
    at_ms: int = 0
    source: str = "stdout"
    level: str = ""
    logger: str = ""
    n: int = 0
    styled: str = ""

    @classmethod
    def read(cls, text: str, **facts: Any) -> LogLine:
        """Return a line of any text: cleaned, with its colours."""
        return cls(text, **facts).cleaned()

    def cleaned(self) -> LogLine:
        """Return the line with its text as it may be shown anywhere, and its colours apart from it."""
        if self.text.isprintable():
            return self
        styled = clean_styled(self.text)
        text = without_styles(styled)
        return replace(self, text=text, styled="" if text == styled else styled)

    @classmethod
    def left_out(cls, count: int, at_ms: int) -> LogLine:
        """Return the line that stands for `count` lines which are not kept."""
        return cls(f"… {count:,} line{'s' if count != 1 else ''} left out …", at_ms, source="jobkit")

    @property
    def count(self) -> int:
        """1, or the number of lines that it stands for."""
        found = _LEFT_OUT.fullmatch(self.text) if self.source == "jobkit" else None
        return int(found[1].replace(",", "")) if found else 1

    @property
    def raw(self) -> str:
        """The text, with its colours if it has any."""
        return self.styled or self.text

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.at_ms / 1000, UTC)

    def to_wire(self) -> list[Any]:
        """Return the compact form for the store: `[at_ms, source, level, logger, text]`."""
        return [self.at_ms, self.source, self.level, self.logger, self.raw]

    @classmethod
    def from_wire(cls, wire: list[Any], n: int = 0) -> LogLine:
        at_ms, source, level, logger, text = wire
        styled, text = (text, without_styles(text)) if "\x1b" in text else ("", text)
        return cls(text, int(at_ms), source, level, logger, n, styled)

    def to_json(self) -> dict[str, Any]:
        json = to_json(self)
        del json["at_ms"], json["styled"]
        return {**json, "at": iso(self.at)}

    def __str__(self) -> str:
        return self.text


_LEFT_OUT = re.compile(r"… ([0-9,]{1,20}) lines? left out …")


class LogSlice(msgspec.Struct, frozen=True):
    """Lines of a job's log, oldest first, each with its number `n`.

    Attributes:
        total: number of lines ever written. `dropped`: number of lines that are not kept: in the middle for the store,
            at the beginning for a file.
        matched: number of matching lines in the searched part. `is_all`: the whole log was searched.
        cursor: where to continue a search that stopped early, as `after` (backwards, as `before`); 0 if it is complete.
        gap_after: number of the line behind which the dropped lines are missing.
        hidden: further lines for which notes ("… 4 lines left out …") among the dropped ones stood.
        is_whole: lines have the numbers of the whole log, which is in a file. The store thins a flood of lines.
    """

    lines: tuple[LogLine, ...]
    total: int = 0
    dropped: int = 0
    matched: int = 0
    is_all: bool = True
    cursor: int = 0
    gap_after: int = 0
    is_whole: bool = False
    hidden: int = 0

    def to_json(self) -> dict[str, Any]:
        return {**msgspec.structs.asdict(self), "lines": [line.to_json() for line in self.lines]}


class LogHits(msgspec.Struct, frozen=True):
    """Lines of a log that match a filter, by number.

    Attributes:
        numbers: of the first matching lines, ascending.
        matched: number of all matching lines in the searched part.
        total: number of lines ever written.
        cursor: where to continue, as `after`; 0 if the whole log was searched.
    """

    numbers: tuple[int, ...]
    matched: int
    total: int
    cursor: int = 0


#: Allowed values of `LogFilter.level`, with their rank in ascending severity.
LOG_LEVELS = {"": 0, "info": 1, "warning": 2, "error": 3}

_RANKS = {"INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 3}
_SOURCE_RANKS = {"jobkit": 1, "stderr": 2, "warning": 2}


class LogFilter(msgspec.Struct, frozen=True):
    """Filter for lines of a log.

    Attributes:
        search: text that a line must contain; plain text, case-insensitive.
        level: "info", "warning" or "error": minimum severity; "" for all lines. Standard error and `warnings` count as
            "warning".
    """

    search: str = ""
    level: str = ""

    @property
    def is_empty(self) -> bool:
        """True if the filter accepts every line."""
        return not self.search and not self.level

    def takes(self, line: LogLine) -> bool:
        """Return True if the line passes the filter."""
        if self.level:
            rank = max(_RANKS.get(line.level, 0), _SOURCE_RANKS.get(line.source, 0) if not line.level else 0)
            if rank < LOG_LEVELS[self.level]:
                return False
        return self.search.lower() in line.text.lower()
