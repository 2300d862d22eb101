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

#: Number of bytes in use, number of older lines that had to make room.
_HEAD = struct.Struct("<II")
#: Together they fit into one message of the zygote.
SIZE = 60_000
#: Of full memory so much is kept: the newest lines. Above this is room for the longest line.
_KEPT = 24_000


class LastWords:
    """The newest lines that have not been sent."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._used = self._dropped = 0

    @property
    def is_full(self) -> bool:
        """Return whether the oldest lines will soon have to make room."""
        return self._used > _KEPT

    def hold(self, lines: Sequence[LogLine]) -> None:
        """Hold lines until `release`, which follows when they have been sent."""
        for line in lines:
            text = f"{line.at_ms}\t{line.source}\t{line.level}\t{line.logger}\t{line.text}\n"
            data = text.encode("utf-8", "backslashreplace")
            if self._used + len(data) > SIZE - _HEAD.size:
                self._make_room()
            start = _HEAD.size + self._used
            self._memory[start : start + len(data)] = data
            self._used += len(data)
        _HEAD.pack_into(self._memory, 0, self._used, self._dropped)

    def release(self) -> None:
        if self._used:
            self._used = self._dropped = 0
            _HEAD.pack_into(self._memory, 0, 0, 0)

    def _make_room(self) -> None:
        held = self._memory[_HEAD.size : _HEAD.size + self._used]
        newest = held[held.find(b"\n", max(0, len(held) - _KEPT)) + 1 :]
        self._dropped += held.count(b"\n") - newest.count(b"\n")
        self._used = len(newest)
        self._memory[_HEAD.size : _HEAD.size + self._used] = newest


def taken(memory: mmap.mmap) -> bytes:
    """Return the content of the memory of a dead process, for `unsent`; empty if all was sent."""
    used, _ = _HEAD.unpack_from(memory)
    return memory[: min(SIZE, _HEAD.size + used)] if used else b""


def unsent(content: bytes) -> list[LogLine]:
    """Return the lines that a dead process has not sent. A process that damaged its memory may have damaged these."""
    if not content:
        return []
    dropped = _HEAD.unpack_from(content)[1]
    lines = [LogLine.left_out(dropped, now_ms())] if dropped else []
    for text in content[_HEAD.size :].decode("utf-8", "backslashreplace").split("\n")[:-1]:
        at_ms, *words = text.split("\t", 4)
        if at_ms.isdecimal() and len(words) == 4:
            source, level, logger, said = words
            lines.append(LogLine(said, int(at_ms), source, level, logger))
    return lines
