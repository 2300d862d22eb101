"""A job's log in memory: bounded like the one in Redis, head and tail kept, the middle counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jobkit.model import LogLine
from jobkit.store.values import LogSlice

#: The same as in `lua/progress.lua`. The head is what was written until it reached its size; it is never removed.
LOG_BYTES, LOG_HEAD_BYTES = 1_000_000, 100_000


@dataclass(slots=True)
class Log:
    """Entries of `(first line's number, lines in wire form, bytes)`, as they were written."""

    total: int = 0
    dropped: int = 0
    _entries: list[tuple[int, Sequence[list[Any]], int]] = field(default_factory=list)
    _head: int | None = None
    _bytes: int = 0

    def add(self, lines: Sequence[list[Any]], size_bytes: int) -> int:
        """Append; the number of the first of these lines."""
        first = self.total + 1
        self.total += len(lines)
        self._entries.append((first, lines, size_bytes))
        self._bytes += size_bytes
        if self._head is None and self._bytes >= LOG_HEAD_BYTES:
            self._head = len(self._entries)
        while self._head is not None and self._bytes > LOG_BYTES and len(self._entries) > self._head + 1:
            _, gone, freed = self._entries.pop(self._head)
            self.dropped += len(gone)
            self._bytes -= freed
        return first

    def read(self, after: int, tail: int | None) -> LogSlice:
        """See `Store.logs`."""
        lines = [
            LogLine.from_wire(wire, n=first + i)
            for first, wires, _ in self._entries
            for i, wire in enumerate(wires)
            if first + i > after
        ]
        if tail is not None:
            lines = lines[-tail:] if tail > 0 else []
        return LogSlice(tuple(lines), self.total, self.dropped)
