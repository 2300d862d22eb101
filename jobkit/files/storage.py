"""`Directory` and `Remote`: storage of files by relative paths, on this machine or where fsspec reaches."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from jobkit.model import InvalidParams, JobkitError
from jobkit.settings import masked

Part = bytes | memoryview

#: Schemes of stores without folders: to make one would ask for the bucket each time.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"})


class Directory:
    """A directory of this machine or a network mount. Files are readable by their owner only.

    Every method may block, and raises `OSError` if the storage is not reachable. Files have relative paths.

    Attributes:
        shown: name for messages.
    """

    def __init__(self, root: Path, setting: str = "results") -> None:
        self.root, self._setting = root.expanduser().absolute(), setting
        self.shown = str(self.root)

    def check(self) -> None:
        """Raise InvalidParams if the storage is certainly not writable."""
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
        """Write a file atomically: readers see all of it or no file.

        Args:
            is_durable: wait for the disk before it gets its name, so that a power cut leaves no empty file.
        """
        target = self.root / path
        make_folders(target.parent)
        aside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
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
        """Open a file for reading; it can seek."""
        return (self.root / path).open("rb")

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the names in a folder with their sizes in bytes; {} if it does not exist."""
        found = {}
        for entry in _entries(self.root / folder):
            with contextlib.suppress(FileNotFoundError):  # deleted by another process
                found[entry.name] = entry.stat().st_size
        return found

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if it does not exist."""
        return [path.name for path in _entries(self.root / folder)]

    def delete(self, path: str) -> None:
        """Delete a file; no error if it does not exist."""
        (self.root / path).unlink(missing_ok=True)

    def local(self, path: str) -> Path | None:
        """Return the path on this machine, or None for remote storage."""
        return self.root / path

    def remove(self, folder: str) -> None:
        """Delete a folder with its contents; no error if it does not exist."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.root / folder)

    def folders(self, base: str, min_age_s: float) -> Iterator[str]:
        """Yield folders `base/xx/name` at least `min_age_s` old; all if the storage does not list their age."""
        before = time.time() - min_age_s
        for group in _entries(self.root / base):
            for folder in _entries(group):
                with contextlib.suppress(FileNotFoundError):  # deleted by another process
                    if folder.stat().st_mtime <= before:
                        yield f"{base}/{group.name}/{folder.name}"


class Remote:
    """Storage that fsspec supports, with the methods of `Directory`: `s3://bucket/jobs`, `sftp://...`, `file://...`.

    A file is written under its final name, which is used only once. Object stores show it complete or not at all.
    Elsewhere no reader knows the name before the file is complete, because the reference is stored afterwards.
    """

    def __init__(self, url: str, setting: str = "results") -> None:
        try:
            import fsspec  # type: ignore[import-untyped,unused-ignore]  # ships no types
        except ImportError:
            raise InvalidParams(
                f"{setting} {masked(url)!r} is a URL, and URLs need the package fsspec: install it, or set "
                f"JOBKIT_{setting.upper()} to a directory",
                setting,
            ) from None
        self._has_folders = url.partition("://")[0] not in _OBJECT_STORES
        # Other processes write, too, so what was listed before says nothing. SFTP's driver refuses the option.
        options = {} if self._has_folders else {"use_listings_cache": False}
        self._open_fs = partial(fsspec.core.url_to_fs, url, **options)
        try:
            self._fs, self._root = self._open_fs()
        except (ImportError, ValueError) as error:
            raise InvalidParams(f"{setting} {masked(url)!r} cannot be used: {error}", setting) from None
        self._pid = os.getpid()
        self.shown = masked(url)

    def check(self) -> None:
        """Do nothing: it cannot be tested without writing."""

    def write(self, path: str, parts: Iterable[Part], *, is_durable: bool = False) -> None:
        with self._reaching() as fs:
            file = self._created(fs, self._full(path))
            try:
                for part in parts:
                    file.write(part)
            except BaseException:
                self._abandon(fs, file, self._full(path))
                raise
            file.close()

    def _created(self, fs: Any, path: str) -> Any:
        """Open a file for writing. Some drivers do not say before its end that the folder is missing."""
        if self._has_folders:
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        return fs.open(path, "wb")

    @staticmethod
    def _abandon(fs: Any, file: Any, path: str) -> None:
        """Close a file that is not whole, so that it does not appear, or goes again."""
        with contextlib.suppress(Exception):
            if hasattr(file, "forced"):  # one of fsspec's own, whose `close` would upload what it has
                file.discard()
                file.closed = True
            else:
                file.close()
                fs.rm_file(path)

    def read(self, path: str) -> bytes:
        with self._reaching() as fs:
            found: bytes = fs.cat_file(self._full(path))
            return found

    def open(self, path: str) -> BinaryIO:
        with self._reaching() as fs:
            file: BinaryIO = fs.open(self._full(path), "rb")
            return file

    def sizes(self, folder: str) -> dict[str, int]:
        with self._reaching() as fs:
            try:
                if self._has_folders:
                    fs.invalidate_cache()
                found: list[Any] = fs.ls(self._full(folder), detail=True)
            except FileNotFoundError:
                return {}
        return {str(one["name"]).rstrip("/").rpartition("/")[2]: int(one.get("size") or 0) for one in found}

    def names(self, folder: str) -> list[str]:
        return sorted(self.sizes(folder))

    def delete(self, path: str) -> None:
        with self._reaching() as fs, contextlib.suppress(FileNotFoundError):
            fs.rm_file(self._full(path))

    def local(self, path: str) -> Path | None:
        return None

    def remove(self, folder: str) -> None:
        with self._reaching() as fs, contextlib.suppress(FileNotFoundError):
            fs.rm(self._full(folder), recursive=True)

    def folders(self, base: str, min_age_s: float) -> Iterator[str]:
        for group in self.names(base):
            for folder in self.names(f"{base}/{group}"):
                yield f"{base}/{group}/{folder}"

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[Any]:
        """Yield the driver, a new one after a fork; convert its exceptions to `OSError`."""
        try:
            if self._pid != os.getpid():
                (self._fs, _), self._pid = self._open_fs(), os.getpid()
            yield self._fs
        except (OSError, JobkitError):
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from error


Place = Directory | Remote


def place_of(where: str, setting: str = "results") -> Place:
    """Return the storage for the value of a setting. Raises InvalidParams: the URL is not supported."""
    return Remote(where, setting) if "://" in where else Directory(Path(where), setting)


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
