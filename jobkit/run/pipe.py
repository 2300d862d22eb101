"""Reading what C code and grandchildren of a job write to its descriptors 1 and 2."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from jobkit.run.lines import ByteSplitter, LineBuffer
from jobkit.run.log_tee import LoopLog

READ_BYTES = 65_536
#: How `faulthandler` begins, and more than it ever writes.
_REPORT, _REPORT_BYTES = b"Fatal Python error: ", 64_000


def now_ms() -> int:
    """Milliseconds since the epoch, for display."""
    return time.time_ns() // 1_000_000


class Closed(Exception):
    """The other end of a pipe is closed."""


class Pipe:
    """What C code and grandchildren write to a job's standard output or error."""

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
        self._report: bytes | None = None

    @property
    def is_partial(self) -> bool:
        return self._splitter.is_partial

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
        if self._lines.is_flooded:
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
                self._log.add_bytes(before)
            if not lines:
                return
            self._report = b""
        if self._report is None:
            self._log.add_bytes(lines)
            return
        self._report += lines
        if len(self._report) > _REPORT_BYTES:  # a task that prints such words
            self._log.add_bytes(self._report)
            self._report = None

    def finish(self, *, has_crashed: bool = False) -> None:
        """At the end of the job. `has_crashed`: what looks like a report of that is one."""
        if self._log is not None:
            if self._rest:
                self._keep_lines(self._rest + b"\n")
                self._rest = b""
            if self._report and not has_crashed:
                self._log.add_bytes(self._report)
            self._report = None
        self.flush(None)
        self._flush_soon()

    def _feed(self, data: bytes) -> None:
        now = now_ms()
        for line in self._splitter.feed(data, now):
            self._add(line, now)

    def _add(self, line: str | None, at_ms: int | None) -> None:
        if line is not None:
            self._lines.add([at_ms or now_ms(), self._source, "", "", line])
