"""`FileStore`: the files of one namespace, by job.

    DIRECTORY / base (of the namespace) / xx / folder (of the job) / job, result.1, artifact names, log

All names are generated here and carry no meaning. `base` comes from the store (`RedisStore.place`), so two servers that
share a directory never mix up their files. A folder belongs to one submission, not to an id, which may be used again.
Its file `job` names the owner, so that a sweep finds orphaned folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from jobkit.codec import FILE, Codec, Subject
from jobkit.files.places import Part, Place, place_of
from jobkit.model import ResultExpired, ResultUnavailable, SignatureError
from jobkit.model.format import size
from jobkit.settings import Settings

#: Sealed results above this size in bytes go to a file.
LARGE_BYTES = 1_000_000

OWNER, LOG = "job", "log"

_PATH = re.compile(r"[0-9a-f]{16}/[0-9a-f]{2}/[0-9a-f]{30}/[a-z0-9.]{1,60}")
_FOLDER = re.compile(r"[0-9a-f]{16}/[0-9a-f]{2}/[0-9a-f]{30}")
_CHUNK = 4 << 20


class Owned(msgspec.Struct, frozen=True):
    """A folder and the submission that owns it: job id ("" if unknown) and time of submit (microseconds)."""

    folder: str
    job_id: str
    us: int


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
    def of(cls, settings: Settings, base: str = "") -> FileStore | None:
        """Return the file store of the setting `results`; None if it is not set. Raises InvalidParams: unusable."""
        return cls(place_of(settings.results), base) if settings.results else None

    def folder(self, job_id: str, us: int) -> str:
        """Return the folder of a submission; does not create it."""
        digest = hashlib.sha256(f"{self.base}\0{job_id}\0{us}".encode()).hexdigest()
        return f"{self.base}/{digest[:2]}/{digest[2:32]}"

    def claim(self, folder: str, owner: str) -> None:
        """Create the folder and write its owner; see `owner_text`."""
        self.place.write(f"{folder}/{OWNER}", [owner.encode()])
        if self.place.local(folder) is None:
            self._claimed.add(folder)

    def has(self, folder: str) -> bool:
        """Return True if the folder exists; on remote storage only if this process created it."""
        path = self.place.local(folder)
        return path.is_dir() if path is not None else folder in self._claimed

    def put(self, path: str, form: bytes, body: bytes | Path, subject: Subject, codec: Codec) -> bytes:
        """Seal a body into a file, and return the sealed reference to it, for the store. Raises OSError."""
        within = Subject(f"{subject.kind}\0{path}", subject.job_id, subject.task)
        head = codec.head(form, _parts(body), within)
        self.place.write(path, itertools.chain([head], _parts(body)))
        written = len(head) + (body.stat().st_size if isinstance(body, Path) else len(body))
        return codec.seal(FILE, msgspec.msgpack.encode([path, written, self.place.shown]), subject)

    def log_path(self, folder: str) -> Path | None:
        """Return the path of the job's log file, or None if the storage is not on this machine."""
        return self.place.local(f"{folder}/{LOG}") if _FOLDER.fullmatch(folder) else None

    def remove(self, folders: Iterable[str]) -> list[str]:
        """Delete folders of deleted jobs and return those that no longer exist."""
        gone = []
        for folder in folders:
            if _FOLDER.fullmatch(folder):
                with contextlib.suppress(FileNotFoundError):
                    self.place.remove(folder)
            gone.append(folder)
        return gone

    def old(self, min_age_s: float) -> Iterator[Owned]:
        """Yield the namespace's folders that are at least `min_age_s` seconds old, with their owner."""
        for folder in self.place.folders(self.base, min_age_s):
            if not _FOLDER.fullmatch(folder):
                continue
            try:
                job_id, _, us = self.place.read(f"{folder}/{OWNER}").decode("utf-8", "replace").strip().rpartition(" ")
            except FileNotFoundError:
                job_id, us = "", ""
            yield Owned(folder, job_id, int(us) if us.isdecimal() else 0)


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
    what = f"the {subject.kind.partition(chr(0))[0]} of job {subject.job_id}"
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
    return codec.verify(envelope, Subject(f"{subject.kind}\0{path}", subject.job_id, subject.task))


def _reference(body: bytes, subject: Subject) -> tuple[str, int, str]:
    """Return path, size and location; only follows paths made by this module, since a reference may be forged."""
    try:
        path, count, shown = msgspec.msgpack.decode(body, type=tuple[str, int, str])
    except msgspec.DecodeError:
        path, count, shown = "", 0, ""
    if not _PATH.fullmatch(path):
        raise SignatureError(
            f"the reference to the {subject.kind} of job {subject.job_id} is not one that jobkit wrote"
        )
    return path, count, shown


def owner_text(job_id: str, us: int) -> str:
    """Return the content of a folder's file `job`."""
    return f"{job_id} {us}\n"


def _parts(body: bytes | Path) -> Iterator[Part]:
    if isinstance(body, Path):
        with body.open("rb") as file:
            while part := file.read(_CHUNK):
                yield part
    else:
        yield memoryview(body)
