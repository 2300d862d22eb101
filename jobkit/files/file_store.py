"""`FileStore`: the files of one namespace, by job; `Directory` and `Remote`: their storage, by relative paths.

    DIRECTORY / base (of the namespace) / xx / folder (of the job) / job, result.1, artifact names, log
    DIRECTORY / base / blobs / SHA-256.random digits / content

All names are generated here and carry no meaning. `base` comes from the store (`RedisStore.place`), so two servers that
share a directory never mix up their files. A folder belongs to one submission, not to an id, which may be used again.
Its file `job` names the owner, so that a sweep finds orphaned folders.

`blobs` has large parts of calls. A folder there is never used again once the store has dropped it, because each upload
makes a new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from jobkit.codec import FILE, HEAD_BYTES, Blob, Codec, Subject
from jobkit.model import InvalidParams, ResultExpired, ResultUnavailable, SignatureError
from jobkit.model.format import size
from jobkit.settings import Settings, masked

#: Sealed results above this size in bytes go to a file.
LARGE_BYTES = 1_000_000

OWNER, LOG = "job", "log"

#: Large results and artifacts on their way from a job's process to its worker have such names: in the job's folder or,
#: if that is not on this machine, in `temporary` (artifacts only).
PASSING = ".jobkit-"

_PATH = re.compile(r"[0-9a-f]{16}/[0-9a-f]{2}/[0-9a-f]{30}/[a-z0-9.]{1,60}")
_FOLDER = re.compile(r"[0-9a-f]{16}/[0-9a-f]{2}/[0-9a-f]{30}")
_BLOB = re.compile(r"[0-9a-f]{16}/blobs/([0-9a-f]{64})\.[0-9a-f]{16}")
_CHUNK = 4 << 20


class Owned(msgspec.Struct, frozen=True):
    """A folder and the submission that owns it: job id ("" if unknown) and time of submit (microseconds).

    `blob`: instead, the SHA-256 of the large part of calls that it has.
    """

    folder: str
    job_id: str = ""
    us: int = 0
    blob: str = ""


class FileStore:
    """Stores the files of one namespace; see the module's docstring. All methods block: call them in a thread.

    Args:
        place: where the files are.
        base: the namespace's folder there, 16 hex digits; only needed to write and to sweep.
    """

    def __init__(self, place: Place, base: str = "") -> None:
        self.place = place
        self.base = base
        self._claimed: set[str] = set()  # folders on remote storage that this process has created

    @classmethod
    def of(cls, settings: Settings) -> FileStore | None:
        """Return the file store of the setting `results`; None if it is not set. Raises InvalidParams: unusable."""
        return cls(place_of(settings.results)) if settings.results else None

    def folder(self, job_id: str, us: int) -> JobFolder:
        """Return the folder of a submission; does not create it."""
        digest = hashlib.sha256(f"{self.base}\0{job_id}\0{us}".encode()).hexdigest()
        return JobFolder(self, f"{self.base}/{digest[:2]}/{digest[2:32]}", f"{job_id} {us}\n")

    def claim(self, folder: JobFolder) -> None:
        """Create the folder and write its owner."""
        self.place.write(f"{folder.path}/{OWNER}", [folder.owner.encode()])
        if self.place.local(folder.path) is None:
            self._claimed.add(folder.path)

    def has(self, folder: str) -> bool:
        """Return True if the folder exists; on remote storage only if this process created it."""
        path = self.place.local(folder)
        return path.is_dir() if path is not None else folder in self._claimed

    def log_path(self, folder: str) -> Path | None:
        """Return the path of the job's log file, or None if the storage is not on this machine."""
        return self.place.local(f"{folder}/{LOG}") if _FOLDER.fullmatch(folder) else None

    def put_blob(self, blob: Blob) -> str:
        """Write a large part of calls and return its folder. Raises OSError."""
        folder = f"{self.base}/blobs/{blob.name}.{secrets.token_hex(8)}"
        self.place.write(f"{folder}/content", [blob.content])
        return folder

    def blob(self, folder: str) -> bytes | Path:
        """Return the file of a large part of calls, or its content if the storage is not on this machine.

        Raises:
            OSError: it does not exist, or cannot be read.
        """
        if not _BLOB.fullmatch(folder):
            raise FileNotFoundError(f"{folder[:200]!r} is no folder that jobkit made")
        local = self.place.local(f"{folder}/content")
        if local is None:
            return self.place.read(f"{folder}/content")
        local.stat()
        return local

    def remove(self, folders: Iterable[str]) -> list[str]:
        """Delete folders of deleted jobs and return those that no longer exist."""
        gone = []
        for folder in folders:
            if _FOLDER.fullmatch(folder) or _BLOB.fullmatch(folder):
                with contextlib.suppress(FileNotFoundError):
                    self.place.remove(folder)
            gone.append(folder)
        return gone

    def old(self, min_age_s: float) -> Iterator[Owned]:
        """Yield the namespace's folders that are at least `min_age_s` seconds old, with their owner."""
        for folder in self.place.folders(self.base, min_age_s):
            if found := _BLOB.fullmatch(folder):
                yield Owned(folder, blob=found[1])
            if not _FOLDER.fullmatch(folder):
                continue
            try:
                job_id, _, us = self.place.read(f"{folder}/{OWNER}").decode("utf-8", "replace").strip().rpartition(" ")
            except FileNotFoundError:
                job_id, us = "", ""
            yield Owned(folder, job_id, int(us) if us.isdecimal() else 0)


class JobFolder(msgspec.Struct, frozen=True):
    """The folder of one submission. `owner` is the content of its file `job`."""

    file_store: FileStore
    path: str
    owner: str

    def put(self, name: str, form: bytes, body: bytes | Path, subject: Subject, codec: Codec) -> bytes:
        """Seal a body into a file, and return the sealed reference to it, for the store. Raises OSError."""
        self.file_store.claim(self)
        place, path = self.file_store.place, f"{self.path}/{name}"
        head = codec.head(form, _parts(body), _in_file(subject, path))
        place.write(path, itertools.chain([head], _parts(body)))
        written = len(head) + (body.stat().st_size if isinstance(body, Path) else len(body))
        return codec.seal(FILE, msgspec.msgpack.encode([path, written, place.shown]), subject)

    def adopt(self, name: str, form: bytes, file: Path, subject: Subject, codec: Codec) -> bytes:
        """Do the same with a file in this folder, on this machine, that has `HEAD_BYTES` of room before the body: it is
        sealed and renamed, and not copied."""
        self.file_store.claim(self)
        place, path = self.file_store.place, f"{self.path}/{name}"
        assert isinstance(place, Directory)
        with open(os.open(file, os.O_RDWR | os.O_NOFOLLOW), "r+b", buffering=0) as opened:
            opened.seek(HEAD_BYTES)
            head = codec.head(form, iter(lambda: opened.read(_CHUNK), b""), _in_file(subject, path))
            written = opened.tell()
            opened.seek(0)
            opened.write(head)
        place.adopt(file, path)
        return codec.seal(FILE, msgspec.msgpack.encode([path, written, place.shown]), subject)


def opened(sealed: bytes, subject: Subject, codec: Codec, file_store: FileStore | None) -> tuple[bytes, bytes]:
    """Return `(format, body)` of an envelope, read from its file if it is a reference.

    Raises:
        SignatureError: envelope or file were not sealed for this subject; raised before parsing.
        ResultUnavailable: `results` is not set here; the message says where the file is.
        ResultExpired: the file does not exist or is not accessible from this machine.
    """
    form, body = codec.verify(sealed, subject)
    if form != FILE:
        return form, body
    path, count, shown = _reference(body, subject)
    what = f"the {subject}"
    if file_store is None:
        raise ResultUnavailable(
            f"{what} ({size(count)}) is a file in {shown}, and no directory for results is set here: set "
            "JOBKIT_RESULTS to the directory of the workers"
        )
    try:
        envelope = file_store.place.read(path)
    except OSError as error:
        there = "" if file_store.place.shown == shown else f"; it was written to {shown}"
        raise ResultExpired(
            f"{what} ({size(count)}) is a file that cannot be read from {file_store.place.shown} on this machine "
            f"({error.strerror or error}){there}: it has expired, or the directory is not shared with the workers"
        ) from None
    return codec.verify(envelope, _in_file(subject, path))


def _in_file(subject: Subject, path: str) -> Subject:
    """Return the subject of the envelope in a file."""
    return Subject(f"{subject.kind}\0{path}", subject.job_id, subject.task)


def _reference(body: bytes, subject: Subject) -> tuple[str, int, str]:
    """Return path, size and location; only follows paths made by this module, since a reference may be forged."""
    try:
        path, count, shown = msgspec.msgpack.decode(body, type=tuple[str, int, str])
    except msgspec.DecodeError:
        path, count, shown = "", 0, ""
    if not _PATH.fullmatch(path):
        raise SignatureError(f"the reference to the {subject} is not one that jobkit wrote")
    return path, count, shown


def _parts(body: bytes | Path) -> Iterator[Part]:
    if isinstance(body, Path):
        with body.open("rb") as file:
            while part := file.read(_CHUNK):
                yield part
    else:
        yield memoryview(body)


# -- storage -----------------------------------------------------------------------------------------------------------

Part = bytes | memoryview


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
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InvalidParams(f"{setting} {masked(url)!r} cannot be used: {error}", setting) from None
        self.shown = masked(url)

    def check(self) -> None:
        """Do nothing: it cannot be tested without writing."""

    def write(self, path: str, parts: Iterable[Part], *, is_durable: bool = False) -> None:
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

    def open(self, path: str) -> BinaryIO:
        with self._reaching():
            file: BinaryIO = self._fs.open(self._full(path), "rb")
            return file

    def sizes(self, folder: str) -> dict[str, int]:
        with self._reaching():
            try:
                self._fs.invalidate_cache()
                found: list[Any] = self._fs.ls(self._full(folder), detail=True)
            except FileNotFoundError:
                return {}
        return {str(one["name"]).rstrip("/").rpartition("/")[2]: int(one.get("size") or 0) for one in found}

    def names(self, folder: str) -> list[str]:
        return self._names(folder)

    def delete(self, path: str) -> None:
        with self._reaching(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._full(path))

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
        return sorted(self.sizes(path))

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


def temporary() -> Path:
    """Return the directory for temporary files, whether it can be used or not."""
    return Path(os.environ.get("TMPDIR") or "/tmp")


def clear_passing(folder: Path, min_age_s: float = 0.0) -> None:
    """Delete results, artifacts and checkpoints on their way that are at least so old: their process was killed."""
    before = time.time() - min_age_s
    for path in itertools.chain(folder.glob(f"{PASSING}*"), folder.glob(".checkpoint.*.part")):
        with contextlib.suppress(OSError):  # another worker was faster
            found = path.lstat()
            if found.st_uid == os.getuid() and found.st_mtime <= before:
                path.unlink()


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
