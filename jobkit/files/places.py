"""Storage of files: a directory, or remote storage by fsspec. Paths are relative; their names come from `FileStore`."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jobkit.model import InvalidParams

Part = bytes | memoryview


class Directory:
    """A directory of this machine or a network mount. Files are readable by their owner only.

    Every method may block, and raises `OSError` if the storage is not reachable. Files have relative paths.

    Attributes:
        shown: name for messages.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
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
                f"the directory for results {self.root} cannot be used ({problem}): set JOBKIT_RESULTS to another one",
                "results",
            )

    def write(self, path: str, parts: Iterable[Part]) -> None:
        """Write a file atomically: readers see all of it or no file."""
        target = self.root / path
        make_folders(target.parent)
        aside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, 0o600)  # the umask may have removed bits
                for part in parts:
                    file.write(part)
            os.replace(aside, target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

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

    def __init__(self, url: str) -> None:
        try:
            import fsspec  # type: ignore[import-untyped,unused-ignore]  # ships no types
        except ImportError:
            raise InvalidParams(
                f"results {_masked(url)!r} is a URL, and URLs need the package fsspec: install it, or set "
                "JOBKIT_RESULTS to a directory",
                "results",
            ) from None
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InvalidParams(f"results {_masked(url)!r} cannot be used: {error}", "results") from None
        self.shown = _masked(url)

    def check(self) -> None:
        """Do nothing: it cannot be tested without writing."""

    def write(self, path: str, parts: Iterable[Part]) -> None:
        with self._reaching():
            full = self._full(path)
            self._fs.makedirs(full.rpartition("/")[0], exist_ok=True)
            with self._fs.open(full, "wb") as file:
                for part in parts:
                    file.write(part)

    def read(self, path: str) -> bytes:
        with self._reaching():
            found: bytes = self._fs.cat_file(self._full(path))
            return found

    def local(self, path: str) -> Path | None:
        return None

    def remove(self, folder: str) -> None:
        with self._reaching(), contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._full(folder), recursive=True)

    def folders(self, base: str, min_age_s: float) -> Iterator[str]:
        for group in self._names(base):
            for folder in self._names(f"{base}/{group}"):
                yield f"{base}/{group}/{folder}"

    def _names(self, path: str) -> list[str]:
        with self._reaching():
            try:
                self._fs.invalidate_cache()
                found: list[Any] = self._fs.ls(self._full(path), detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Convert the drivers' own exceptions to `OSError`."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from error


Place = Directory | Remote


def place_of(results: str) -> Place:
    """Return the storage for a `results` setting. Raises InvalidParams: the URL is not supported."""
    return Remote(results) if "://" in results else Directory(Path(results))


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


def _masked(url: str) -> str:
    from jobkit.settings import masked

    return masked(url)
