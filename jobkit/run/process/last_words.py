"""Lines that a job's process has not sent yet, in memory that outlives it.

A process that crashes, calls `os._exit` or is killed cannot send what its recorder still collects. So those lines are
also in memory which it shares with the zygote, and the zygote passes them on when it has reaped the process.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence

from jobkit.model import LogLine
from jobkit.model.plain import now_ms

#: Number of older lines that had to make room, in front of the lines.
_HEAD = struct.Struct("<I")
#: Follows the last line. No byte of UTF-8.
_END = b"\xff"
#: Together they fit into one message of the zygote.
SIZE = 60_000
#: Behind them a byte that the process sets while it runs a job (see `child.main`), and one that the zygote sets to let
#: the job stop at a safe point. And the size of all of it.
BUSY, ASKED, SHARED = SIZE, SIZE + 1, SIZE + 2
#: Of full memory so much is kept: the newest lines.
_KEPT = 24_000
#: Longest line with its newline; above what is kept there is room for it. Only text that is no UTF-8 can be longer: the
#: rest is left out.
_LINE_BYTES = SIZE - _HEAD.size - _KEPT - len(_END)


class LastWords:
    """The newest lines that have not been sent."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._end = _HEAD.size

    @property
    def is_full(self) -> bool:
        """Return whether the oldest lines will soon have to make room."""
        return self._end > _KEPT

    def hold(self, lines: Sequence[LogLine]) -> None:
        """Hold lines until `release`, which follows when they have been sent."""
        for line in lines:
            text = f"{line.at_ms}\t{line.source}\t{line.level}\t{line.logger}\t{line.text}"
            data = text.encode("utf-8", "backslashreplace")[: _LINE_BYTES - 1] + b"\n" + _END
            if self._end + len(data) > SIZE:
                self._make_room()
            start, self._end = self._end, self._end + len(data) - 1
            self._memory[start : start + len(data)] = data

    def release(self) -> None:
        if self._end > _HEAD.size:
            self._end = _HEAD.size
            self._memory[: self._end + 1] = _HEAD.pack(0) + _END

    def _make_room(self) -> None:
        held = self._memory[_HEAD.size : self._end]
        newest = held[held.find(b"\n", max(0, len(held) - _KEPT)) + 1 :]
        dropped = _HEAD.unpack_from(self._memory)[0] + held.count(b"\n") - newest.count(b"\n")
        self._end = _HEAD.size + len(newest)
        self._memory[: self._end + 1] = _HEAD.pack(dropped) + newest + _END


def taken(memory: mmap.mmap) -> bytes:
    """Return the content of the memory of a dead process, for `unsent`; empty if all was sent."""
    end = memory.find(_END, _HEAD.size)
    return memory[:end] if end > _HEAD.size else b""


def unsent(content: bytes) -> list[LogLine]:
    """Return the lines that a dead process has not sent. A process that damaged its memory may have damaged these."""
    if not content:
        return []
    dropped = _HEAD.unpack_from(content)[0]
    lines = [LogLine.left_out(dropped, now_ms())] if dropped else []
    for text in content[_HEAD.size :].decode("utf-8", "backslashreplace").split("\n")[:-1]:
        at_ms, *words = text.split("\t", 4)
        if at_ms.isdecimal() and len(words) == 4:
            source, level, logger, said = words
            lines.append(LogLine(said, int(at_ms), source, level, logger))
    return lines
