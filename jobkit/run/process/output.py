"""Output of C code and grandchildren, which comes through a job's standard output and error as bytes."""

from __future__ import annotations

import codecs

from jobkit.files.log import mark_of
from jobkit.model import LogLine
from jobkit.model.plain import now_ms
from jobkit.run.inside.lines import LineBuffer, Splitter
from jobkit.run.inside.log_tee import LoopLog

#: How `faulthandler` begins, and more bytes than it ever writes.
_REPORT, _REPORT_BYTES = b"Fatal Python error: ", 64_000
#: A line may also begin where a text bar returns to draw itself anew.
_LINE_ENDS = b"\n", b"\r"
#: Of a flood, so much is split into lines each time.
_NEWEST_BYTES = 65_536
#: A line that is longer goes to the log in pieces.
_PIECE_BYTES = 65_536


class OutputPipe:
    """A job's standard output or error.

    Python's report of a crash comes this way too, in many small pieces. From its first byte on it is held back whole:
    it goes into the error (`take_report`), and to the log only if no crash follows.
    """

    def __init__(self, source: str, lines: LineBuffer, log: LoopLog | None) -> None:
        self._source, self._lines, self._log = source, lines, log
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._splitter = Splitter()
        self._held = b""  # a report, or the begun line that may become one
        self._ends_line = True  # what has been passed on so far
        self._newest = b""  # of a flood, the end that is shown
        self._rest = b""  # a line for the log that has no end yet

    @property
    def is_partial(self) -> bool:
        """A line has begun that will be due even if nothing follows."""
        return self._splitter.is_partial

    def add(self, data: bytes) -> None:
        """Take what has come; `flush` is to follow soon."""
        data, self._held = self._held + data, b""
        if self._source == "stderr":
            at = self._report_at(data)
            data, self._held = data[:at], data[at:]
            if len(self._held) > _REPORT_BYTES:  # a task that prints such words
                data, self._held = data + self._held, b""
        if data:
            self._pass_on(data)

    def _report_at(self, data: bytes) -> int:
        """Return the offset of a report, or of a last line that may become one; else the length."""
        if self._ends_line and data.startswith(_REPORT):
            return 0
        if found := [at for end in _LINE_ENDS if (at := data.find(end + _REPORT) + 1)]:
            return min(found)
        last = max(data.rfind(end) for end in _LINE_ENDS) + 1
        return last if (last or self._ends_line) and _REPORT.startswith(data[last:]) else len(data)

    def take_report(self) -> str:
        """The report of a crash, which is left out of the log from now on; "" if there is none."""
        if not self._held.startswith(_REPORT):
            return ""
        report, self._held = self._held, b""
        return report.decode("utf-8", "backslashreplace")

    def flush(self, *, is_last: bool = False) -> None:
        """Hand on a partial line that is due; at the end of the job, whatever there is."""
        if is_last and self._held:
            data, self._held = self._held, b""
            self._pass_on(data)
        if is_last and self._log is not None and self._rest:
            self._log.add_bytes(self._rest + b"\n", mark_of(self._source, at_ms=now_ms()))
            self._rest = b""
        data, self._newest = self._newest, b""
        self._split(data, is_last=is_last)
        now = now_ms()
        self._add(self._splitter.flush(None if is_last else now), now)

    def _pass_on(self, data: bytes) -> None:
        self._ends_line = data.endswith(_LINE_ENDS)
        if self._log is not None:
            whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
            if len(self._rest) > _PIECE_BYTES:
                whole, newline, self._rest = whole + newline + self._rest, b"\n", b""
            if newline:
                self._log.add_bytes(whole + newline, mark_of(self._source, at_ms=now_ms()))
        if self._lines.is_flooded:
            # Only the newest lines will be shown: counting newlines is a hundred times cheaper than splitting.
            data = self._newest + data
            at = max(0, len(data) - _NEWEST_BYTES)
            at = at and (data.find(b"\n", at) + 1 or at)
            self._lines.skip(data.count(b"\n", 0, at))
            self._newest = data[at:]
        else:
            self._split(data)

    def _split(self, data: bytes, *, is_last: bool = False) -> None:
        now = now_ms()
        for line in self._splitter.feed(self._decoder.decode(data, is_last), now):
            self._add(line, now)

    def _add(self, line: str | None, at_ms: int) -> None:
        if line is not None:
            self._lines.add(LogLine(line, at_ms, self._source))
