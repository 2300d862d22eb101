"""Reading what C code and grandchildren of a job write to its descriptors 1 and 2."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from jobkit.files.log import mark_of
from jobkit.run.inside.lines import ByteSplitter, LineBuffer, WireLine
from jobkit.run.inside.log_tee import LoopLog

READ_BYTES = 65_536
#: How `faulthandler` begins, and more than it ever writes.
_REPORT, _REPORT_BYTES = b"Fatal Python error: ", 64_000
#: It writes a hundred frames at most, and the list of loaded extension modules.
_REPORT_LINES = 300


def now_ms() -> int:
    """Milliseconds since the epoch, for display."""
    return time.time_ns() // 1_000_000


class Closed(Exception):
    """The other end of a pipe is closed."""


class Pipe:
    """Output of C code and grandchildren: a job's standard output or error.

    Python's report of a crash comes this way too, in many small pieces. It is held back whole (`report`): it goes into
    the error, and on the log only if no crash follows.
    """

    def __init__(
        self, source: str, lines: LineBuffer, flush_soon: Callable[[], None], log: LoopLog | None = None
    ) -> None:
        self._source = source
        self._lines = lines
        self._flush_soon = flush_soon
        self._splitter = ByteSplitter()
        self._held = b""
        self._log = log
        self._rest = b""
        self._report: bytes | None = None  # of the whole log
        self._reported: list[WireLine] = []

    @property
    def _mark(self) -> bytes:
        return mark_of(self._source, at_ms=now_ms())

    @property
    def is_partial(self) -> bool:
        """A line has begun that will be due even if nothing follows."""
        return self._splitter.is_partial and not self._is_reporting

    @property
    def _is_reporting(self) -> bool:
        """Return whether the text may be (or begin) the report of a crash."""
        if self._source != "stderr":
            return False
        begun, head = self._splitter.partial, _REPORT.decode()
        return bool(self._reported) or (begun != "" and (head.startswith(begun) or begun.startswith(head)))

    def report(self) -> str:
        """The report of a crash, "" if there is none."""
        self._add(self._splitter.flush(None), None)
        return "\n".join(str(line[4]) for line in self._reported)

    def read(self, fd: int) -> None:
        """Read what has come.

        Raises:
            Closed, BlockingIOError.
        """
        data = os.read(fd, READ_BYTES)
        if not data:
            raise Closed
        if self._log is not None:
            self._keep(data)
        if self._lines.is_flooded and not self._is_reporting and _REPORT not in data:
            # Only the newest portion will be shown: counting newlines is a hundred times cheaper than splitting.
            self._lines.skip(self._held.count(b"\n"))
            self._held = data
        else:
            self._feed(data)
        self._flush_soon()

    def flush(self, due_ms: int | None) -> None:
        """Hand on a partial line that is due at `due_ms`, or whatever there is (None)."""
        if self._held:
            data, self._held = self._held, b""
            self._feed(data)
        if due_ms is None or not self._is_reporting:
            self._add(self._splitter.flush(due_ms), due_ms)

    def _keep(self, data: bytes) -> None:
        """Whole lines to the log as they are; a line without end in pieces."""
        assert self._log is not None
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        if len(rest) > READ_BYTES:
            whole, newline, rest = whole + newline + rest, b"\n", b""
        self._rest = rest
        if newline:
            self._keep_lines(whole + newline)

    def _keep_lines(self, lines: bytes) -> None:
        """All but Python's report of a crash, which is our affair until it turns out to be none."""
        assert self._log is not None
        if self._report is None and self._source == "stderr":
            start = 0 if lines.startswith(_REPORT) else lines.find(b"\n" + _REPORT) + 1 or len(lines)
            before, lines = lines[:start], lines[start:]
            if before:
                self._log.add_bytes(before, self._mark)
            if not lines:
                return
            self._report = b""
        if self._report is None:
            self._log.add_bytes(lines, self._mark)
            return
        self._report += lines
        if len(self._report) > _REPORT_BYTES:  # a task that prints such words
            self._log.add_bytes(self._report, self._mark)
            self._report = None

    def finish(self, *, has_crashed: bool = False) -> None:
        """At the end of the job. `has_crashed`: what looks like a report of that is one."""
        if self._log is not None:
            if self._rest:
                self._keep_lines(self._rest + b"\n")
                self._rest = b""
            if self._report and not has_crashed:
                self._log.add_bytes(self._report, self._mark)
            self._report = None
        self.flush(None)
        if not has_crashed:
            self._release()
        self._reported = []
        self._flush_soon()

    def _feed(self, data: bytes) -> None:
        now = now_ms()
        for line in self._splitter.feed(data, now):
            self._add(line, now)

    def _add(self, line: str | None, at_ms: int | None) -> None:
        if line is None:
            return
        told: WireLine = [at_ms or now_ms(), self._source, "", "", line]
        if not self._reported and not (self._source == "stderr" and line.startswith(_REPORT.decode())):
            self._lines.add(told)
            return
        self._reported.append(told)
        if len(self._reported) > _REPORT_LINES:
            self._release()

    def _release(self) -> None:
        """It was none, but a task that prints such words."""
        for told in self._reported:
            self._lines.add(told)
        self._reported = []
