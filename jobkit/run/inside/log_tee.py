"""A job's whole log written from the worker's loop, which must not wait for a disk."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from jobkit.files.log import NO_MARK, LogFile, Portion, join, mark_of

#: A flood that is faster than the disk: what waits beyond this is counted, not kept.
_WAITING_BYTES = 16_000_000

#: Writes the logs of all jobs of this process, one portion after the other.
_writer = ThreadPoolExecutor(1, "jobkit-log")


class LoopLog:
    """Adds from any thread, writes in one separate thread, in order.

    Used for what C code and grandchildren print (the child writes its own lines itself), and for jobs that share the
    worker's process.
    """

    def __init__(self, path: str, owner: str) -> None:
        self._file = LogFile(Path(path), owner)
        self._lock = threading.Lock()
        self._waiting = 0
        self._dropped = 0
        self._writing: Future[None] | None = None
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
        if self._file.is_due:
            self.flush()

    def flush(self) -> None:
        """Write soon what waits, if there is a file or enough for one."""
        if not self._is_asked and (self._file.is_file or self._file.is_large):
            self._is_asked = True
            with contextlib.suppress(RuntimeError):  # Python exits: a thread that outlived its worker
                self._writing = _writer.submit(self._write)

    def _write(self) -> None:
        with self._lock:
            self._is_asked = False
            if self._dropped:
                note = f"… {self._dropped:,} bytes left out here: printed faster than the disk can write …"
                self._file.add([note], mark_of("jobkit"))
            portion = self._file.take()
            self._waiting = self._dropped = 0
        self._file.write(portion)

    async def close(self, more: Portion = (b"", b"")) -> None:
        """Write what waits, and `more` (a child's last lines), if there is a file or enough for one."""
        with self._lock:
            self._file.add_portion(more)
        if self._writing is not None or self._file.is_large or self._file.path.exists():
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(_writer, self._finish))

    def _finish(self) -> None:
        self._write()
        with contextlib.suppress(OSError):  # two pieces then: better than none
            join(self._file.path)
