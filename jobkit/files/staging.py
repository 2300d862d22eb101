"""`Staging`: what a worker's jobs write on this machine, on its way to a place for files that is not on it.

A job's process writes its whole log, large results and artifacts into a folder here, as it does where files are on this
machine. They are stored when the attempt has ended; the folder is deleted then.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from jobkit.files.log import LOG_FILES
from jobkit.files.storage import OWNER, Directory, Place

#: A file beside the log of earlier attempts: the log grows on another machine now.
AWAY = "log.away"

_CHUNK = 1 << 20


class Staging:
    """Folders of jobs below `root`, with the same paths as in `place`. All methods block."""

    def __init__(self, root: Path, place: Place) -> None:
        self.root, self._place = root, place
        self._taken: set[str] = set()

    def has(self, folder: str) -> bool:
        """Return True if the job has written something. For the worker's loop."""
        return (self.root / folder).exists()

    def log_files(self, folder: str) -> list[str]:
        """Return the names of the files of a job's log; [] if there is none."""
        return [name for name in LOG_FILES if (self.root / folder / name).is_file()]

    def hand_in_log(self, folder: str) -> None:
        """Store the log of an attempt that has ended. Raises OSError."""
        names = self.log_files(folder)
        for name in names:
            with (self.root / folder / name).open("rb") as file:
                self._place.write(f"{folder}/{name}", iter(lambda: file.read(_CHUNK), b""))
        if folder in self._taken:
            there = self._place.names(folder)
            for name in (*LOG_FILES, AWAY):
                if name in there and name not in names:  # a piece that was joined, a log of which a part is lost now
                    self._place.delete(f"{folder}/{name}")
            self._taken.discard(folder)

    def take_back_log(self, folder: str) -> None:
        """Copy the log of earlier attempts here, if there is one: the next attempt continues it. Raises OSError.

        The log that an attempt has left here whose worker died is continued, unless a later one has stored its own.
        """
        names = self._place.names(folder)
        stored = [name for name in LOG_FILES if name in names]
        if not stored:
            return
        is_whole = stored[-1] == LOG_FILES[-1] and AWAY not in names
        if is_whole or not self.log_files(folder):
            self._drop_log(folder)
            self._place.write(f"{folder}/{AWAY}", [])
            try:
                for name in stored:
                    with self._place.open(f"{folder}/{name}") as file:
                        Directory(self.root).write(f"{folder}/{name}", iter(lambda: file.read(_CHUNK), b""))
            except OSError:
                self._drop_log(folder)  # a part of it would replace the whole one
                raise
        self._taken.add(folder)

    def _drop_log(self, folder: str) -> None:
        for name in self.log_files(folder):
            (self.root / folder / name).unlink()

    def remove(self, folder: str) -> None:
        """Delete the folder of an attempt that has ended."""
        self._taken.discard(folder)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.root / folder)

    def old(self, base: str, min_age_s: float) -> Iterator[tuple[str, str]]:
        """Yield folders of a namespace in which nothing was written for so many seconds, with the content of their file
        `job`."""
        before = time.time() - min_age_s
        for owner in self.root.glob(f"{base}/??/*/{OWNER}"):
            with contextlib.suppress(OSError):  # another worker was faster
                if max(path.stat().st_mtime for path in owner.parent.iterdir()) <= before:
                    yield owner.parent.relative_to(self.root).as_posix(), owner.read_text("utf-8", "replace")
