"""Raw output to clean, whole, bounded lines.

Pure: text and clock readings in, lines out. What a job prints is hostile by default (escape sequences, gigabytes
without a newline, a million lines a second), so everything that reads output goes through here.
"""

from __future__ import annotations

from collections import deque

from jobkit.model import LogLine
from jobkit.model.terminal import drawn, open_style

#: Longest line that is kept, in characters; the rest of it is left out.
LINE_LIMIT = 8_000

#: A partial line is shown once it is this old (and 100 ms after it was written: text is looked at each 50 ms); one that
#: is redrawn with a carriage return (a text bar) more rarely.
PARTIAL_MS, REDRAWN_MS = 40, 1_000

#: Lines that pass at once, and per second after that. A burst of a few thousand (a printed table) is kept whole; a
#: flood is thinned before it costs the worker anything.
BURST_LINES, LINES_PER_S = 5_000, 2_000
#: So many lines follow each gap, whatever the rate: those before an error, or before the job was killed, are there.
TAIL_LINES = 100
#: Characters that wait at once. The store keeps a megabyte of a log.
BURST_CHARS = 500_000


def cut(text: str, limit: int = LINE_LIMIT) -> str:
    """`text` in at most `limit` characters; says so where something is missing."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


class Splitter:
    """Text of one stream to lines. `\\r` goes back to the start of the line, and colours last, as on a terminal."""

    __slots__ = ("_below", "_is_returned", "_is_shown", "_lost", "_pending", "_redrawn", "_since_ms", "_style")

    def __init__(self) -> None:
        self._pending = ""
        self._below = ""  # what it is drawn over
        self._is_returned = False  # the next text is drawn over it
        self._lost = 0
        self._redrawn = False
        self._since_ms = 0
        self._is_shown = False  # the start of this line: its newline alone makes no empty line
        self._style = ""  # the colours with which the next line begins

    @property
    def is_partial(self) -> bool:
        return bool(self._pending)

    def feed(self, text: str, now_ms: int) -> list[str]:
        """The lines that `text` completes, not yet cleaned, each cut to `LINE_LIMIT`."""
        if "\n" not in text:
            self._extend(text, now_ms)
            return []
        first, *whole, rest = text.split("\n")
        self._extend(first, now_ms)
        line = self._take()
        lines = [line] if line or not self._is_shown else []
        self._is_shown = False
        for line in whole:
            if "\r" in line:
                line = drawn(line.rstrip("\r"))
            lines.append(cut(line))
        if rest:
            self._extend(rest, now_ms)
        if self._style or "\x1b[" in text or (lines and "\x1b[" in lines[0]):
            return list(map(self._styled, lines))
        return lines

    def flush(self, now_ms: int | None = None) -> str | None:
        """Return the partial line if it is due (or at the end, `now_ms=None`), else None."""
        if not self._pending:
            return None
        if now_ms is not None and now_ms - self._since_ms < (REDRAWN_MS if self._redrawn else PARTIAL_MS):
            return None
        self._is_shown = True
        return self._styled(self._take())

    def _extend(self, text: str, now_ms: int) -> None:
        head = text.rstrip("\r")  # trailing returns keep the line until something is drawn over it
        if head:
            before, returned, part = head.rpartition("\r")
            if returned or (self._is_returned and self._pending):
                begun = f"{self._below}\r{self._pending}" + "\r" * self._is_returned
                self._below = drawn(begun + before)[:LINE_LIMIT]
                self._pending, self._lost, self._redrawn = "", 0, True
            if not self._pending:
                self._since_ms = now_ms
            room = max(0, LINE_LIMIT - len(self._pending))
            self._pending += part[:room]
            self._lost += max(0, len(part) - room)
        self._is_returned = head != text or (self._is_returned and not head)

    def _take(self) -> str:
        line = drawn(f"{self._below}\r{self._pending}") if self._below else self._pending
        if self._lost:
            line = f"{line}… ({self._lost:,} more characters)"
        self._pending, self._below, self._lost, self._redrawn, self._is_returned = "", "", 0, False, False
        return line

    def _styled(self, line: str) -> str:
        """Return the line with the colours that the line before has left on."""
        if self._style or "\x1b[" in line:
            line = self._style + line
            self._style = "" if len(line) > LINE_LIMIT else open_style(line)  # what ends them may have been cut
        return line


class LineBuffer:
    """Lines that wait to be sent, bounded: beyond its limits it keeps the head and the tail and counts the middle.

    Every station on a line's way holds them so: the job's process, its worker's reader and the worker's next exchange.
    The number of lines is limited by a token bucket (`BURST_LINES`, refilled by `LINES_PER_S`), so that a burst passes
    whole and a flood costs the same however long it lasts; their size by `BURST_CHARS` each time.
    """

    __slots__ = ("_allowance", "_dropped", "_filled_ms", "_head", "_head_size", "_tail", "size")

    def __init__(self, now_ms: int) -> None:
        self._allowance = float(BURST_LINES)
        self._filled_ms = now_ms
        self._head: list[LogLine] = []
        self._tail: deque[LogLine] = deque()
        self._dropped = 0
        self._head_size = 0
        self.size = 0  #: characters waiting

    def __bool__(self) -> bool:
        return bool(self._head) or bool(self._dropped)

    @property
    def is_flooded(self) -> bool:
        """True while lines are being dropped: readers need not split them any more, `skip` counts them."""
        return self._dropped > 0

    def add(self, line: LogLine) -> None:
        share, size = self._allowance / 2, len(line.text)
        self.size += size
        if len(self._head) < max(10.0, share) and not self._tail and self._head_size + size <= BURST_CHARS / 2:
            self._head.append(line)
            self._head_size += size
            return
        self._tail.append(line)
        while len(self._tail) > max(TAIL_LINES, share) or (
            self.size - self._head_size > BURST_CHARS / 2 and len(self._tail) > 1
        ):
            dropped = self._tail.popleft()
            self.size -= len(dropped.text)
            self._dropped += dropped.count

    def skip(self, count: int) -> None:
        """Count lines that were dropped before they were split."""
        self._dropped += count

    def take(self, now_ms: int) -> list[LogLine]:
        """Return the lines to show, oldest first, each text cleaned, and empty the buffer."""
        lines = self._head
        if self._dropped:
            lines.append(LogLine.left_out(self._dropped, now_ms))
        lines.extend(self._tail)
        refill = max(0, now_ms - self._filled_ms) * LINES_PER_S / 1000
        self._allowance = min(float(BURST_LINES), max(0.0, self._allowance - len(lines)) + refill)
        self._filled_ms = now_ms
        self._head, self._tail, self._dropped, self._head_size, self.size = [], deque(), 0, 0, 0
        return [line.cleaned() for line in lines]
