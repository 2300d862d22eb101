"""A job's whole log as a file: appended by its child, by the worker for what C code and grandchildren print.

The store keeps head and tail of a log and lets floods pass by; this keeps all of it, up to `2 * PIECE_BYTES`. A log
that never grows beyond `SPILL_BYTES` has no file: it is in the store as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from jobkit.files.depot import OWNER
from jobkit.files.places import make_folders

#: Below both a log is whole in the store, which keeps the first 100 kB of each, and every line of a small burst.
SPILL_BYTES, SPILL_LINES = 16_000, 500
#: Lines and bytes are written at most this late and in portions of about this size.
_PORTION = 200_000

#: A file that has grown to this is put aside, and what was put aside before is gone: the newest 50 to 100 MB stay.
PIECE_BYTES = 50_000_000

_ASIDE, _CUT = ".1", ".cut"
_CUT_NOTE = f"… the beginning of this log was left out: only its last {2 * PIECE_BYTES / 1e6:.0f} MB are kept …\n"


class LogFile:
    """Collects lines and appends them to the file. Several processes may write to one file, in whole portions.

    Args:
        path: the file; its folder is made when it is first written to.
        owner: what the folder's file `job` says, see `depot.owner_text`.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.path = path
        self._owner = owner
        self._parts: list[bytes] = []
        self._size = 0
        self._lines = 0
        self.is_file = False  #: something was written
        self._is_broken = False

    def add(self, lines: Iterable[str]) -> None:
        text = "\n".join(lines)
        self.add_bytes(text.encode("utf-8", "backslashreplace") + b"\n")

    def add_bytes(self, data: bytes) -> None:
        """Whole lines."""
        self._parts.append(data)
        self._size += len(data)
        self._lines += data.count(b"\n")

    @property
    def is_empty(self) -> bool:
        return not self._size

    @property
    def is_large(self) -> bool:
        """Whether so much waits that it is worth a file."""
        return self._size > SPILL_BYTES or self._lines > SPILL_LINES

    @property
    def is_due(self) -> bool:
        """Whether so much waits that it should be written now and not at the next flush."""
        return self._size > _PORTION

    def take(self) -> bytes:
        """What waits; it is the caller's then."""
        data, self._parts, self._size, self._lines = b"".join(self._parts), [], 0, 0
        return data

    def flush(self) -> None:
        """Write what waits, once there is enough of it for a file."""
        if self._size and (self.is_file or self.is_large):
            self.write(self.take())

    def write(self, data: bytes) -> None:
        """Append now. A disk that refuses ends the file, never the job: the store has head and tail."""
        if self._is_broken or not data:
            return
        try:
            self._append(data)
            self.is_file = True
        except OSError:
            self._is_broken = True

    def _append(self, data: bytes) -> None:
        fd = self._locked()
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if os.fstat(fd).st_size > PIECE_BYTES:
                aside = self.path.with_name(self.path.name + _ASIDE)
                if aside.exists():
                    self.path.with_name(self.path.name + _CUT).touch(0o600)
                os.replace(self.path, aside)
        finally:
            os.close(fd)

    def _locked(self) -> int:
        """The open file, held: a second writer must not put aside what this one is writing to."""
        while True:
            try:
                fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                self._make_folder()
                continue
            try:
                with contextlib.suppress(OSError):  # a file system without locks: one writer is the rule there
                    fcntl.flock(fd, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                    return fd
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _make_folder(self) -> None:
        folder = self.path.parent
        make_folders(folder)
        fd = os.open(folder / OWNER, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, self._owner.encode())
        finally:
            os.close(fd)


def join(path: Path) -> None:
    """One file of a log that was put aside in between; at the end of an attempt, when nobody writes any more."""
    aside, cut = path.with_name(path.name + _ASIDE), path.with_name(path.name + _CUT)
    if not aside.exists():
        return
    whole = path.with_name(f".{path.name}.part")
    fd = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as target:
        if cut.exists():
            target.write(_CUT_NOTE.encode())
        for piece in (aside, path):
            if piece.exists():
                with piece.open("rb") as source:
                    shutil.copyfileobj(source, target, 1 << 20)
    os.replace(whole, path)
    aside.unlink()
