"""A job's whole log as a file, appended by the job's process, and by its worker for output of subprocesses.

The store keeps the head and tail of a log and drops the middle. This file keeps the last `2 * PIECE_BYTES`. A log
smaller than `SPILL_BYTES` has no file, because the store has all of it.

A second file has marks, eight bytes a line: time, source and level. So the text file contains exactly what the job
wrote, and readers can still filter by level.

`log_reader.py` reads it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from jobkit.files.storage import OWNER, make_folders
from jobkit.model.format import size

#: Below both limits the store has the whole log: it keeps the first 100 kB and every line of a small burst.
SPILL_BYTES, SPILL_LINES = 16_000, 500
#: Size in bytes from which buffered lines are written without waiting for the next flush.
_PORTION = 200_000

#: At this size the file is rotated, and the previously rotated one deleted: the newest 50 to 100 MB are kept.
PIECE_BYTES = 50_000_000

ASIDE, _CUT, MARKS, _GIVEN_UP = ".1", ".cut", ".marks", ".none"

#: All files of a log, by their names in the folder of its job; the text comes last.
LOG_FILES = tuple(f"log{end}" for end in (_GIVEN_UP, _CUT, ASIDE + MARKS, MARKS, ASIDE, ""))

#: Returns a file of a log by what its name has behind "log". Raises FileNotFoundError if there is none.
LogPieces = Callable[[str], Path]

#: Values of a mark's lowest byte: `source + 8 * level`, as indexes into these tuples. The bytes above are the time
#: (ms).
SOURCES = ("", "stdout", "stderr", "log", "warning", "jobkit")
LEVELS = ("", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MARK = struct.Struct("<Q")

#: Text of whole lines, and a mark for each of them.
Portion = tuple[bytes, bytes]

#: Mark of a line with unknown time, source and level.
NO_MARK = bytes(MARK.size)


def mark_of(source: str = "", level: str = "", at_ms: int = 0) -> bytes:
    """Return the mark of a line."""
    place = (SOURCES.index(source) if source in SOURCES else 0) + 8 * (LEVELS.index(level) if level in LEVELS else 0)
    return MARK.pack(max(0, at_ms) << 8 & 0xFFFFFFFFFFFFFFFF | place)


_CUT_NOTE = f"… the beginning of this log was left out: only its last {size(2 * PIECE_BYTES)} are kept …\n"


class LogFile:
    """Buffers lines and appends them to the file. Several processes may append to one file, in whole portions.

    Args:
        path: the file; its folder is created on the first write.
        owner: content of the folder's file `job`.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.path = path
        self._owner = owner
        self._data, self._marks = bytearray(), bytearray()
        self.is_file = False  #: True after the first write
        self.problem = ""  #: why the disk did not take it

    def add(self, lines: Iterable[str], mark: bytes = NO_MARK) -> None:
        """Buffer lines without their newlines. `mark` applies to each of them, see `mark_of`."""
        text = "\n".join(lines)
        self.add_bytes(text.encode("utf-8", "backslashreplace") + b"\n", mark)

    def add_bytes(self, data: bytes, mark: bytes = NO_MARK) -> None:
        """Buffer whole lines."""
        self.add_portion((data, mark * data.count(b"\n")))

    def add_portion(self, portion: Portion) -> None:
        """Buffer the result of another log file's `take`."""
        data, marks = portion
        self._data += data
        self._marks += marks

    @property
    def is_large(self) -> bool:
        """True if the buffer is large enough to start a file."""
        return len(self._data) > SPILL_BYTES or len(self._marks) > SPILL_LINES * MARK.size

    @property
    def is_due(self) -> bool:
        """True if the buffer should be written now instead of at the next flush."""
        return len(self._data) > _PORTION

    def take(self) -> Portion:
        """Return the buffered lines and clear the buffer."""
        portion = bytes(self._data), bytes(self._marks)
        self._data, self._marks = bytearray(), bytearray()
        return portion

    def flush(self) -> None:
        """Write the buffer if the file exists or the buffer is large enough to start one."""
        if self._data and (self.is_file or self.is_large):
            self.write(self.take())

    def write(self, portion: Portion) -> None:
        """Append to the file. A disk error ends the file but not the job: the store has head and tail of the log.

        A file without its end would look as if it were whole, so it is deleted.
        """
        if self.problem or not portion[0]:
            return
        try:
            self._append(*portion)
            self.is_file = True
        except OSError as error:
            self.problem = error.strerror or str(error)
            _give_up(self.path)

    def _append(self, data: bytes, marks: bytes) -> None:
        with self._locked() as file:
            file.write(data)
            file.flush()  # a crash must not leave more marks than lines
            with _private(marks_of(self.path), "ab") as beside:
                beside.write(marks)
            if os.fstat(file.fileno()).st_size > PIECE_BYTES:
                aside = aside_of(self.path)
                if aside.exists():
                    _count_lost(self.path, marks_of(aside).stat().st_size // MARK.size)
                os.replace(self.path, aside)
                os.replace(marks_of(self.path), marks_of(aside))

    def _locked(self) -> IO[bytes]:
        """Return the open and locked file. The lock keeps other writers from rotating it during a write."""
        import fcntl  # Windows has none, and no worker

        while True:
            try:
                file = _private(self.path, "ab")
            except FileNotFoundError:
                make_job_folder(self.path.parent, self._owner)
                continue
            if not file.tell() and _given_up(self.path).exists():
                file.close()
                raise OSError(errno.ENOSPC, "an earlier part could not be written")
            with contextlib.suppress(OSError):  # without locks in the file system: usually there is only one writer
                fcntl.flock(file, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.path)):
                    return file
            file.close()


def make_job_folder(folder: Path, owner: str) -> None:
    """Create the folder of a job, and the file in it that tells a sweep whose it is."""
    make_folders(folder)
    with _private(folder / OWNER, "wb") as file:
        file.write(owner.encode())


def _given_up(path: Path) -> Path:
    """Return the path of an empty file that stands for a log of which a part could not be written."""
    return path.with_name(path.name + _GIVEN_UP)


def _give_up(path: Path) -> None:
    """Delete the log's file for good."""
    pieces = path, aside_of(path)
    with contextlib.suppress(OSError):  # the disk has gone
        for piece in (*pieces, *map(marks_of, pieces)):
            piece.unlink(missing_ok=True)
        _given_up(path).touch(mode=0o600)


def _private(path: Path, mode: str) -> IO[bytes]:
    """Open a file that only its owner can read."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def aside_of(path: Path) -> Path:
    """Return the path of the rotated, older piece of a log."""
    return path.with_name(path.name + ASIDE)


def marks_of(path: Path) -> Path:
    """Return the path of the marks of a piece of a log."""
    return path.with_name(path.name + MARKS)


def pieces_of(path: Path) -> LogPieces:
    """Return the files of a log beside its text."""
    return lambda end: path.with_name(path.name + end)


def lines_lost(pieces: LogPieces) -> int:
    """Return the number of lines at the beginning of a log that have been deleted and are not counted in its file."""
    try:
        return int(pieces(_CUT).read_text("ascii") or 0)
    except (OSError, ValueError):
        return 0


def _count_lost(path: Path, count: int) -> None:
    total = lines_lost(pieces_of(path)) + count
    with _private(path.with_name(path.name + _CUT), "wb") as file:
        file.write(b"%d" % total)


def join(path: Path) -> None:
    """Join the pieces of a rotated log into one file, at the end of an attempt when all writers are done."""
    aside = aside_of(path)
    if not aside.exists():
        return
    is_cut = path.with_name(path.name + _CUT).exists()
    for piece_of, note in ((Path, _CUT_NOTE.encode()), (marks_of, NO_MARK)):
        whole = path.with_name(f".{piece_of(path).name}.part")
        with _private(whole, "wb") as target:
            if is_cut:
                target.write(note)
            for piece in (piece_of(aside), piece_of(path)):
                if piece.exists():
                    with piece.open("rb") as source:
                        shutil.copyfileobj(source, target, 1 << 20)
        os.replace(whole, piece_of(path))
    if is_cut:
        _count_lost(path, -1)  # the note counts as the last of them
    aside.unlink()
    marks_of(aside).unlink(missing_ok=True)
