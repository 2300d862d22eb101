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
        for name in self.log_files(folder):
            with (self.root / folder / name).open("rb") as file:
                self._place.write(f"{folder}/{name}", iter(lambda: file.read(_CHUNK), b""))
        if folder in self._taken:
            self._taken.discard(folder)
            self._place.delete(f"{folder}/{AWAY}")

    def take_back_log(self, folder: str) -> None:
        """Copy the log of earlier attempts here, if there is one: the next attempt continues it. Raises OSError."""
        names = self._place.names(folder)
        if any(name in LOG_FILES for name in names):
            self._place.write(f"{folder}/{AWAY}", [])
            self._taken.add(folder)
        for name in filter(names.__contains__, LOG_FILES):
            with self._place.open(f"{folder}/{name}") as file:
                Directory(self.root).write(f"{folder}/{name}", iter(lambda: file.read(_CHUNK), b""))

    def remove(self, folder: str) -> None:
        """Delete the folder of an attempt that has ended."""
        self._taken.discard(folder)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.root / folder)

    def old(self, min_age_s: float) -> Iterator[tuple[str, str]]:
        """Yield folders in which nothing was written for so many seconds, with the content of their file `job`."""
        before = time.time() - min_age_s
        for owner in self.root.glob(f"*/??/*/{OWNER}"):
            with contextlib.suppress(OSError):  # another worker was faster
                if max(path.stat().st_mtime for path in owner.parent.iterdir()) <= before:
                    yield owner.parent.relative_to(self.root).as_posix(), owner.read_text("utf-8", "replace")
