"""`FileStore`: the files of one namespace, by job.

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
import errno
import functools
import hashlib
import itertools
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from jobkit.codec import FILE, HEAD_BYTES, Blob, Codec, Subject
from jobkit.files.log import LogPieces, aside_of
from jobkit.files.places import place_of
from jobkit.files.staging import AWAY, Staging
from jobkit.files.storage import OWNER, PARTIAL, Directory, Part, Place
from jobkit.model import ResultExpired, ResultUnavailable, SignatureError
from jobkit.model.format import size
from jobkit.settings import Settings

#: Sealed results above this size in bytes go to a file.
LARGE_BYTES = 1_000_000

LOG = "log"

#: Large results and artifacts on their way from a job's process to its worker have such names: in the job's folder or,
#: if that is not on this machine, in `temporary` (artifacts only).
PASSING = ".jobkit-"

#: Path of a file in the folder of a job.
JOB_FILE = re.compile(r"[0-9a-f]{16}/[0-9a-f]{2}/[0-9a-f]{30}/[a-z0-9][a-z0-9.]{0,59}")
FOLDER = re.compile(r"[0-9a-f]{16}/[0-9a-f]{2}/[0-9a-f]{30}")
#: The folder of a large part of calls, and its file.
BLOB_FOLDER = re.compile(r"[0-9a-f]{16}/blobs/([0-9a-f]{64})\.[0-9a-f]{16}")
BLOB_FILE = re.compile(BLOB_FOLDER.pattern + "/content")
#: A large array of many calls, which is no job's.
ARRAY_FILE = re.compile(r"[0-9a-f]{16}/arrays/[0-9a-f]{16}/[0-9]{1,9}\.npy")
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

    Attributes:
        staging: of a worker, if `place` is not on this machine.
    """

    def __init__(self, place: Place, base: str = "") -> None:
        self.place = place
        self.base = base
        self.staging: Staging | None = None
        self._claimed: set[str] = set()  # folders on remote storage that this process has created

    @classmethod
    def of(cls, settings: Settings) -> FileStore | None:
        """Return the file store of the setting `results`; None if it is not set. Raises InvalidParams: unusable."""
        return cls(place_of(settings.results, home=settings.home)) if settings.results else None

    def folder(self, job_id: str, us: int) -> JobFolder:
        """Return the folder of a submission; does not create it."""
        return JobFolder(self, self.path_of(self.base, job_id, us), owner_of(job_id, us))

    @staticmethod
    def path_of(base: str, job_id: str, us: int) -> str:
        """Return the path of a submission's folder."""
        digest = hashlib.sha256(f"{base}\0{job_id}\0{us}".encode()).hexdigest()
        return f"{base}/{digest[:2]}/{digest[2:32]}"

    def files(self, folder: str) -> dict[str, int]:
        """Return the whole files in a job's folder except its owner: paths and sizes in bytes. Raises OSError."""
        if not FOLDER.fullmatch(folder):
            return {}
        found = {f"{folder}/{name}": size for name, size in self.place.sizes(folder).items() if name != OWNER}
        return {path: size for path, size in found.items() if JOB_FILE.fullmatch(path)}

    def claim(self, folder: JobFolder) -> None:
        """Create the folder and write its owner."""
        if folder.path not in self._claimed:
            self.place.write(f"{folder.path}/{OWNER}", [folder.owner.encode()])
            if not self.is_local:
                self._claimed.add(folder.path)

    def ended(self, folder: JobFolder) -> None:
        """Delete what an attempt has left on its way to a place that is not on this machine."""
        self._claimed.discard(folder.path)
        if self.staging is not None:
            self.staging.remove(folder.path)

    def has(self, folder: str) -> bool:
        """Return True if the folder exists; on remote storage only if this process created it."""
        path = self.place.local(folder)
        return path.is_dir() if path is not None else folder in self._claimed

    @property
    def is_local(self) -> bool:
        """True if the files are on this machine or mounted there."""
        return self.place.local("") is not None

    def log_path(self, folder: str) -> Path | None:
        """Return the path at which a job's processes write its log; None if the storage is not on this machine and
        this is no worker."""
        if not FOLDER.fullmatch(folder):
            return None
        path = f"{folder}/{LOG}"
        return self.place.local(path) if self.staging is None else self.staging.root / path

    def log(self, folder: str, *, has_ended: bool = True) -> LogPieces | None:
        """Return what finds the files of a job's log, copied to this machine; None if there is none. Raises OSError.

        Args:
            has_ended: False for a job whose log may grow: None if these files lack what its attempt has said.
        """
        if not FOLDER.fullmatch(folder) or not (has_ended or self.is_local):
            return None
        names = self.place.names(folder)
        if LOG not in names and aside_of(Path(LOG)).name not in names:
            return None
        if not has_ended and AWAY in names:
            return None

        @functools.cache
        def piece(end: str) -> Path:
            if f"{LOG}{end}" not in names:
                raise FileNotFoundError(errno.ENOENT, "it has no such file")
            return self.place.fetched(f"{folder}/{LOG}{end}")

        return piece

    def put_blob(self, blob: Blob) -> str:
        """Write a large part of calls and return its folder. Raises OSError."""
        folder = f"{self.base}/blobs/{blob.name}.{secrets.token_hex(8)}"
        self.place.write(f"{folder}/content", [blob.content])
        return folder

    def blob(self, folder: str) -> Path:
        """Return the file of a large part of calls, on this machine. Raises OSError."""
        return self.place.fetched(self.blob_path(folder))

    @staticmethod
    def blob_path(folder: str) -> str:
        """Return the path of a large part of calls. Raises FileNotFoundError if jobkit makes no such folder."""
        if not BLOB_FOLDER.fullmatch(folder):
            raise FileNotFoundError(f"{folder[:200]!r} is no folder that jobkit made")
        return f"{folder}/content"

    def remove(self, folders: Iterable[str]) -> list[str]:
        """Delete folders of deleted jobs and return those that no longer exist."""
        gone = []
        for folder in folders:
            if FOLDER.fullmatch(folder) or BLOB_FOLDER.fullmatch(folder):
                with contextlib.suppress(FileNotFoundError):
                    self.place.remove(folder)
            gone.append(folder)
        return gone

    def old(self, min_age_s: float) -> Iterator[Owned]:
        """Yield the namespace's folders that are at least `min_age_s` seconds old, with their owner."""
        for folder in self.place.folders(self.base, min_age_s):
            if found := BLOB_FOLDER.fullmatch(folder):
                yield Owned(folder, blob=found[1])
            if not FOLDER.fullmatch(folder):
                continue
            try:
                job_id, _, us = self.place.read(f"{folder}/{OWNER}").decode("utf-8", "replace").strip().rpartition(" ")
            except FileNotFoundError:
                job_id, us = "", ""
            yield Owned(folder, job_id, int(us) if us.isdecimal() else 0)


def owner_of(job_id: str, us: int) -> str:
    """Return the content of the file that names the owner of a folder."""
    return f"{job_id} {us}\n"


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
        return _sealed_reference(_FileReference(path, written, place.shown, head), subject, codec)

    def adopt(self, name: str, form: bytes, file: Path, subject: Subject, codec: Codec) -> bytes:
        """Do the same with a file that has `HEAD_BYTES` of room before the body and is in this folder, or staged: it is
        sealed, and then renamed if the storage is on this machine."""
        self.file_store.claim(self)
        place, path = self.file_store.place, f"{self.path}/{name}"
        with open(os.open(file, os.O_RDWR | os.O_NOFOLLOW), "r+b", buffering=0) as opened:
            opened.seek(HEAD_BYTES)
            head = codec.head(form, iter(lambda: opened.read(_CHUNK), b""), _in_file(subject, path))
            written = opened.tell()
            opened.seek(0)
            opened.write(head)
        if isinstance(place, Directory):
            place.adopt(file, path)
        else:
            place.write(path, _parts(file))
            file.unlink()
        return _sealed_reference(_FileReference(path, written, place.shown, head), subject, codec)


def opened(sealed: bytes, subject: Subject, codec: Codec, file_store: FileStore | None) -> tuple[bytes, bytes]:
    """Return `(format, body)` of an envelope, read from its file if it is a reference.

    Raises:
        SignatureError: envelope or file were not sealed for this subject; raised before parsing.
        ResultUnavailable: `results` is not set here; the message says where the file is.
            Also: the file cannot be read now.
        ResultExpired: the file does not exist, as seen from this machine.
    """
    form, body = codec.verify(sealed, subject)
    if form != FILE:
        return form, body
    path, count, shown, head = msgspec.structs.astuple(_reference(body, subject))
    what = f"the {subject}"
    if file_store is None:
        raise ResultUnavailable(
            f"{what} ({size(count)}) is a file in {shown}, and no directory for results is set here: set "
            "JOBKIT_RESULTS to the directory of the workers"
        )
    try:
        envelope = file_store.place.read(path)
    except OSError as error:
        why = (
            f"{what} ({size(count)}) is a file that cannot be read from {file_store.place.shown} on this machine "
            f"({error.strerror or error})"
        )
        if not isinstance(error, FileNotFoundError):
            raise ResultUnavailable(why) from None
        there = "" if file_store.place.shown == shown else f"; it was written to {shown}"
        raise ResultExpired(f"{why}{there}: it has expired, or the directory is not shared with the workers") from None
    if head and envelope[:HEAD_BYTES] != head:  # also one that a former member has sealed
        raise SignatureError(f"the file of the {subject} was replaced after it was stored")
    return codec.verify(envelope, _in_file(subject, path), is_stored=bool(head))


class _FileReference(msgspec.Struct, frozen=True, array_like=True):
    """Body of an envelope that names a file; `head`: the beginning of the file, with its MAC. `shown`: of its place."""

    path: str
    size: int
    shown: str
    head: bytes = b""


def _sealed_reference(reference: _FileReference, subject: Subject, codec: Codec) -> bytes:
    return codec.seal(FILE, msgspec.msgpack.encode(reference), subject)


def _in_file(subject: Subject, path: str) -> Subject:
    """Return the subject of the envelope in a file."""
    return Subject(f"{subject.kind}\0{path}", subject.job_id, subject.task)


def _reference(body: bytes, subject: Subject) -> _FileReference:
    """Return a decoded reference; only follows paths made by this module, since a reference may be forged."""
    with contextlib.suppress(msgspec.DecodeError):
        reference = msgspec.msgpack.decode(body, type=_FileReference)
        if JOB_FILE.fullmatch(reference.path):
            return reference
    raise SignatureError(f"the reference to the {subject} is not one that jobkit wrote")


def _parts(body: bytes | Path) -> Iterator[Part]:
    if isinstance(body, Path):
        with body.open("rb") as file:
            while part := file.read(_CHUNK):
                yield part
    else:
        yield memoryview(body)


def temporary() -> Path:
    """Return the directory for temporary files, whether it can be used or not."""
    return Path(os.environ.get("TMPDIR") or "/tmp")


def clear_passing(folder: Path, min_age_s: float = 0.0) -> None:
    """Delete results, artifacts and other files on their way that are at least so old: their process was killed."""
    before = time.time() - min_age_s
    for path in itertools.chain(folder.glob(f"{PASSING}*"), folder.glob(PARTIAL)):
        with contextlib.suppress(OSError):  # another worker was faster
            found = path.lstat()
            if found.st_uid == os.getuid() and found.st_mtime <= before:
                path.unlink()
