"""Storage for the value of a setting: `place_of`; and `Remote`, what fsspec reaches."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from jobkit.features import modules
from jobkit.files.host_cache import cache_of
from jobkit.files.storage import Directory, Part, Place
from jobkit.model import InvalidParams, JobkitError
from jobkit.settings import masked

#: Schemes of stores without folders: to make one would ask for the bucket each time.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"})

#: What a driver may say of a file, one of which is another one when the file is replaced.
_STATE = ("size", "ETag", "etag", "LastModified", "mtime", "created", "md5Hash")

_CHUNK = 1 << 20


class Remote(Place):
    """Storage that fsspec supports: `s3://bucket/jobs`, `sftp://...`, `file://...`.

    A file is written under its final name, which is used only once. Object stores show it complete or not at all.
    Elsewhere no reader knows the name before the file is complete, because the reference is stored afterwards.
    """

    def __init__(self, url: str, setting: str = "results", home: Path | None = None) -> None:
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
        self.shown, self._home = masked(url), home

    def write(self, path: str, parts: Iterable[Part], *, is_durable: bool = False) -> None:
        with self._reaching() as fs:
            if self._has_folders:  # some drivers do not say before the end of a file that its folder is missing
                fs.makedirs(self._full(path).rpartition("/")[0], exist_ok=True)
            file = fs.open(self._full(path), "wb")
            try:
                for part in parts:
                    file.write(part)
            except BaseException:
                self._abandon(fs, file, self._full(path))
                raise
            file.close()

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

    def fetched(self, path: str) -> Path:
        """Return a copy of a file on this machine, which is kept while the original stays as it is."""
        with self._reaching() as fs:
            if self._has_folders:
                fs.invalidate_cache()
            facts = fs.info(self._full(path))
        state = [str(facts.get(name, "")) for name in _STATE]
        name = hashlib.sha256("\0".join([self.shown, path, *state]).encode()).hexdigest()
        return cache_of(self._home).get(name, int(facts["size"]), partial(self._from, path), is_digest=False)

    def _from(self, path: str, offset: int) -> Iterator[bytes]:
        with self._reaching() as fs, fs.open(self._full(path), "rb") as file:
            file.seek(offset)
            while chunk := file.read(_CHUNK):
                yield chunk

    def sizes(self, folder: str) -> dict[str, int]:
        with self._reaching() as fs:
            try:
                if self._has_folders:
                    fs.invalidate_cache()
                found: list[Any] = fs.ls(self._full(folder), detail=True)
            except FileNotFoundError:
                return {}
        return {str(one["name"]).rstrip("/").rpartition("/")[2]: int(one.get("size") or 0) for one in found}

    def delete(self, path: str) -> None:
        with self._reaching() as fs, contextlib.suppress(FileNotFoundError):
            fs.rm_file(self._full(path))

    def remove(self, folder: str) -> None:
        with self._reaching() as fs, contextlib.suppress(FileNotFoundError):
            fs.rm(self._full(folder), recursive=True)

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


def place_of(where: str, setting: str = "results", home: Path | None = None) -> Place:
    """Return the storage for the value of a setting. Raises InvalidParams: the URL is not supported.

    Args:
        home: copies of files of other machines are below it; default: that of the settings.
    """
    if "://" not in where:
        return Directory(Path(where), setting)
    own: Place | None = next(filter(None, (each.place_of(where, home) for each in modules("places"))), None)
    return own or Remote(where, setting, home)
