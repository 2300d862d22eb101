"""`Place`: storage of files by relative paths; and `Directory`, the one on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from jobkit.model import InvalidParams

Part = bytes | memoryview

#: Seconds without progress after which a call for a machine that is not reached raises, unless told otherwise.
PATIENCE_S = 60.0

#: Pattern of the names of files that are being written.
PARTIAL = f".*.{'[0-9a-f]' * 12}.part"

#: The file that names the owner of a folder.
OWNER = "job"


class Place(ABC):
    """Storage of files by relative paths. Every method may block, and raises `OSError` if the storage is not reached.

    Attributes:
        shown: name for messages.
    """

    shown: str

    def check(self) -> None:  # noqa: B027  # most cannot tell without writing
        """Raise InvalidParams if the storage is certainly not writable."""

    def wait(self, patience_s: float) -> None:  # noqa: B027  # systems and drivers have their own limits
        """Set for how long calls wait for a machine that is not reached, in seconds. 0 ends all waits."""

    @abstractmethod
    def write(self, path: str, parts: Iterable[Part], *, is_durable: bool = False) -> None:
        """Write a file: readers see all of it or no file.

        Args:
            is_durable: wait for the disk before it gets its name, so that a power cut leaves no empty file.
        """

    @abstractmethod
    def read(self, path: str) -> bytes: ...

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; it can seek."""

    @abstractmethod
    def fetched(self, path: str) -> Path:
        """Return a file on this machine with this content, which stays for ten minutes at least."""

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """Return the names in a folder with their sizes in bytes; {} if it does not exist."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if it does not exist."""
        return sorted(self.sizes(folder))

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete a file; no error if it does not exist."""

    @abstractmethod
    def remove(self, folder: str) -> None:
        """Delete a folder with its contents; no error if it does not exist."""

    def local(self, path: str) -> Path | None:
        """Return the path on this machine, or None for other storage."""
        return None

    def folders(self, base: str, min_age_s: float) -> Iterator[str]:
        """Yield folders `base/xx/name` at least `min_age_s` old; all if the storage does not list their age."""
        for group in self.names(base):
            for folder in self.names(f"{base}/{group}"):
                yield f"{base}/{group}/{folder}"


class Directory(Place):
    """A directory of this machine or a network mount. Files are readable by their owner only."""

    def __init__(self, root: Path, setting: str = "results") -> None:
        self.root, self._setting = root.expanduser().absolute(), setting
        self.shown = str(self.root)

    def check(self) -> None:
        try:
            make_folders(self.root)
            problem = "" if os.access(self.root, os.W_OK | os.X_OK) else "it is not writable"
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            raise InvalidParams(
                f"the directory for {self._setting} {self.root} cannot be used ({problem}): set "
                f"JOBKIT_{self._setting.upper()} to another one",
                self._setting,
            )

    def write(self, path: str, parts: Iterable[Part], *, is_durable: bool = False) -> None:
        target = self.root / path
        make_folders(target.parent)
        aside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")  # as `PARTIAL` says
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                if hasattr(os, "fchmod"):  # not on Windows before Python 3.13
                    os.fchmod(fd, 0o600)  # the umask may have removed bits
                for part in parts:
                    file.write(part)
                if is_durable:
                    file.flush()
                    os.fsync(fd)
            os.replace(aside, target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def adopt(self, file: Path, path: str) -> None:
        """Rename a file of this directory."""
        os.replace(file, self.root / path)

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def open(self, path: str) -> BinaryIO:
        return (self.root / path).open("rb")

    def fetched(self, path: str) -> Path:
        found = self.root / path
        found.stat()
        return found

    def sizes(self, folder: str) -> dict[str, int]:
        found = {}
        for entry in _entries(self.root / folder):
            with contextlib.suppress(FileNotFoundError):  # deleted by another process
                found[entry.name] = entry.stat().st_size
        return found

    def names(self, folder: str) -> list[str]:
        return [path.name for path in _entries(self.root / folder)]

    def delete(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    def local(self, path: str) -> Path | None:
        return self.root / path

    def remove(self, folder: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.root / folder)

    def folders(self, base: str, min_age_s: float) -> Iterator[str]:
        before = time.time() - min_age_s
        for group in _entries(self.root / base):
            for folder in _entries(group):
                with contextlib.suppress(FileNotFoundError):  # deleted by another process
                    if folder.stat().st_mtime <= before:
                        yield f"{base}/{group.name}/{folder.name}"


def make_folders(path: Path) -> None:
    """Create `path` and its missing parents, each with mode 0700 under any umask."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
            os.chmod(folder, 0o700)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
