"""A job's whole log written from the worker's loop, which must not wait for a disk."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path

from jobkit.files.log import NO_MARK, LogFile, Portion, join, mark_of

#: A flood that is faster than the disk: what waits beyond this is counted, not kept.
_WAITING_BYTES = 16_000_000


class LoopLog:
    """Adds from any thread, writes in the loop's helper threads, one portion at a time and in order.

    Used for what C code and grandchildren print (the child writes its own lines itself), and for jobs that share the
    worker's process.
    """

    def __init__(self, path: str, owner: str, loop: asyncio.AbstractEventLoop) -> None:
        self._file = LogFile(Path(path), owner)
        self._loop = loop
        self._lock = threading.Lock()
        self._waiting = 0
        self._dropped = 0
        self._writing: asyncio.Future[None] | None = None
        self._is_asked = False

    def add(self, lines: Iterable[str], mark: bytes = NO_MARK) -> None:
        self.add_bytes("\n".join(lines).encode("utf-8", "backslashreplace") + b"\n", mark)

    def add_bytes(self, data: bytes, mark: bytes = NO_MARK) -> None:
        """Whole lines. `mark`: of each of them, see `files.log.mark_of`."""
        with self._lock:
            if self._waiting + len(data) > _WAITING_BYTES:
                self._dropped += len(data)
                return
            self._waiting += len(data)
            self._file.add_bytes(data, mark)
            is_due = self._file.is_due and not self._is_asked
            self._is_asked = self._is_asked or is_due
        if is_due:
            self.flush()

    def flush(self) -> None:
        """Write soon what waits."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: a thread that outlived its worker
            self._loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        if self._writing is None:
            self._writing = self._loop.run_in_executor(None, self._write)
            self._writing.add_done_callback(self._wrote)

    def _wrote(self, _: object) -> None:
        self._writing = None
        self._is_asked = False
        if self._file.is_due:
            self._start()

    def _write(self, *, is_last: bool = False) -> None:
        with self._lock:
            if not is_last and not self._file.is_due and not self._file.is_file and not self._file.is_large:
                return
            dropped = self._dropped
            if dropped:
                note = f"… {dropped:,} bytes left out here: printed faster than the disk can write …"
                self._file.add([note], mark_of("jobkit"))
            portion = self._file.take()
            self._waiting = self._dropped = 0
        self._file.write(portion)

    async def close(self, more: Portion = (b"", b"")) -> None:
        """Write what waits, and `more` (a child's last lines), if there is a file or enough for one."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
        if more[0]:
            self._file.add_portion(more)
        if self._file.is_empty and not self._file.path.exists():
            return
        if self._file.is_large or self._file.is_file or self._file.path.exists():
            await asyncio.shield(self._loop.run_in_executor(None, self._finish))

    def _finish(self) -> None:
        self._write(is_last=True)
        with contextlib.suppress(OSError):  # two pieces then: better than none
            join(self._file.path)
