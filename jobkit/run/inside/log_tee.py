"""A job's whole log written from the worker's loop, which must not wait for a disk."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from jobkit.files.log import NO_MARK, LogFile, Portion, join, mark_of
from jobkit.model import LogLine
from jobkit.model.plain import now_ms

#: A flood that is faster than the disk: of what waits the newest bytes up to this are kept, the others counted.
_WAITING_BYTES = 16_000_000
#: The end of a job waits so many seconds, at most, for a disk to take its log, which is written all the same.
_CLOSE_LIMIT_S = 10.0

#: Write the logs of this process's jobs, each job's in order: one that is long to write does not hold up the others.
_writers = ThreadPoolExecutor(8, "jobkit-log")


class LoopLog:
    """Adds from any thread, writes in one separate thread at a time, in order.

    Used for what C code and grandchildren print (the child writes its own lines itself), and for jobs that share the
    worker's process.
    """

    def __init__(self, path: str, owner: str) -> None:
        self._file = LogFile(Path(path), owner)
        self._lock = threading.Lock()
        self._waiting = 0
        self._left_out = 0
        self._writing: Future[None] | None = None
        self._is_writing = self._is_closed = False

    def add(self, lines: Iterable[str], mark: bytes = NO_MARK) -> None:
        self.add_bytes("\n".join(lines).encode("utf-8", "backslashreplace") + b"\n", mark)

    def add_bytes(self, data: bytes, mark: bytes = NO_MARK) -> None:
        """Whole lines. `mark`: of each of them, see `files.log.mark_of`."""
        with self._lock:
            if self._waiting + len(data) > _WAITING_BYTES:
                self._left_out += self._file.take()[0].count(b"\n")
                self._waiting = 0
            self._waiting += len(data)
            self._file.add_bytes(data, mark)
        if self._file.is_due:
            self.flush()

    def flush(self) -> None:
        """Write soon what waits, if there is a file or enough for one."""
        with self._lock:
            is_idle = not self._is_writing and not self._is_closed
            if is_idle and self._waiting and (self._file.is_file or self._file.is_large):
                with contextlib.suppress(RuntimeError):  # Python exits: a thread that outlived its worker
                    self._writing = _writers.submit(self._write)
                    self._is_writing = True

    def _write(self) -> None:
        with self._lock:
            portion, left_out = self._file.take(), self._left_out
            self._waiting = self._left_out = 0
        if left_out:
            note = LogLine.left_out(left_out, now_ms())
            self._file.write((f"{note.text}\n".encode(), mark_of(note.source, at_ms=note.at_ms)))
        self._file.write(portion)
        with self._lock:
            self._is_writing = False
        self.flush()  # what has come meanwhile

    async def close(self, more: Portion | None = (b"", b"")) -> None:
        """Write what waits, if there is a file or enough for one.

        Args:
            more: lines of a child that it has not written. None if it has died with them: no file is begun then,
                since these would be missing; the store has them.
        """
        is_whole = more is not None
        with self._lock:
            self._file.add_portion(more or (b"", b""))
            self._is_closed = True
        if self._writing is not None or (is_whole and self._file.is_large) or self._file.path.exists():
            ending = asyncio.get_running_loop().run_in_executor(_writers, self._finish, self._writing)
            await asyncio.wait([ending], timeout=_CLOSE_LIMIT_S)

    def _finish(self, before: Future[None] | None) -> None:
        if before is not None:
            before.result()
        self._write()
        with contextlib.suppress(OSError):  # two pieces then: better than none
            join(self._file.path)
