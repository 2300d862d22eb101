"""`Depot`: the files of one namespace, by job.

    PLACE / base (of the namespace) / xx / folder (of the job) / job, result.1, artifact names, log

All names are made here and say nothing: `base` comes from the store (`Store.place`), so that two servers that share a
directory never take each other's files for their own; a folder belongs to one submission, not to an id that may be
used again. Every folder holds a file `job` that says whose it is, which lets a sweep find those that nobody owns.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from jobkit.codec import FILE, Codec, Subject
from jobkit.files.places import Part, Place, place_of
from jobkit.model import ResultExpired, ResultUnavailable, SignatureError
from jobkit.settings import Settings

#: Results above this size (sealed) go to a file.
LARGE_BYTES = 1_000_000

OWNER, LOG = "job", "log"

_PATH = re.compile(r"[0-9a-f]{16}/[0-9a-f]{2}/[0-9a-f]{30}/[a-z0-9.]{1,60}")
_FOLDER = re.compile(r"[0-9a-f]{16}/[0-9a-f]{2}/[0-9a-f]{30}")
_CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class Owned:
    """A folder and the submission that it says it belongs to: job id and time of submit (microseconds)."""

    folder: str
    job_id: str
    us: int


class Depot:
    """See the module's docstring. Everything here may block: call it in a thread.

    Args:
        place: where files lie.
        base: the namespace's own folder there, 16 hex digits; only needed to write and to sweep.
    """

    def __init__(self, place: Place, base: str = "") -> None:
        self.place = place
        self.base = base
        self._claimed: set[str] = set()  # of places whose folders cannot be looked at for nothing

    @classmethod
    def of(cls, settings: Settings, base: str = "") -> Depot | None:
        """The depot that `settings` ask for, or None.

        Raises:
            InvalidParams: `settings.results` cannot be used.
        """
        return cls(place_of(settings.results), base) if settings.results else None

    def folder(self, job_id: str, us: int) -> str:
        """The folder of a submission. Does not make it."""
        digest = hashlib.sha256(f"{self.base}\0{job_id}\0{us}".encode()).hexdigest()
        return f"{self.base}/{digest[:2]}/{digest[2:32]}"

    def claim(self, folder: str, owner: str) -> None:
        """Make the folder and say in it whose it is; see `owner_text`."""
        self.place.write(f"{folder}/{OWNER}", [owner.encode()])
        if self.place.local(folder) is None:
            self._claimed.add(folder)

    def has(self, folder: str) -> bool:
        """Whether the folder is there; of a place elsewhere only whether we wrote to it."""
        path = self.place.local(folder)
        return path.is_dir() if path is not None else folder in self._claimed

    def put(self, path: str, form: bytes, body: bytes | Path, subject: Subject, codec: Codec) -> bytes:
        """Seal a body into a file.

        Returns:
            the sealed reference to it, for the store.

        Raises:
            OSError: the place cannot be written to.
        """
        within = Subject(f"{subject.kind}\0{path}", subject.job_id, subject.task)
        head = codec.head(form, _parts(body), within)
        self.place.write(path, _chain(head, _parts(body)))
        size = len(head) + (body.stat().st_size if isinstance(body, Path) else len(body))
        return codec.seal(FILE, msgspec.msgpack.encode([path, size, self.place.shown]), subject)

    def log_path(self, folder: str) -> Path | None:
        """Where the job's whole log is or may be written; None where the place is not on this machine."""
        return self.place.local(f"{folder}/{LOG}") if _FOLDER.fullmatch(folder) else None

    def remove(self, folders: Iterable[str]) -> list[str]:
        """Remove folders of forgotten jobs; returns those that are gone now."""
        gone = []
        for folder in folders:
            if _FOLDER.fullmatch(folder):
                with contextlib.suppress(FileNotFoundError):
                    self.place.remove(folder)
            gone.append(folder)
        return gone

    def old(self, min_age_s: float) -> Iterator[Owned]:
        """The namespace's folders that are at least so old, each with whom it belongs to (nobody: job id "")."""
        for folder in self.place.folders(self.base, min_age_s):
            if not _FOLDER.fullmatch(folder):
                continue
            try:
                job_id, _, us = self.place.read(f"{folder}/{OWNER}").decode("utf-8", "replace").strip().rpartition(" ")
            except FileNotFoundError:
                job_id, us = "", ""
            yield Owned(folder, job_id, int(us) if us.isdecimal() else 0)


def opened(sealed: bytes, subject: Subject, codec: Codec, depot: Depot | None) -> tuple[bytes, bytes]:
    """`(format, body)` of an envelope, read from its file where it is a reference.

    Raises:
        SignatureError: envelope or file were not sealed for this subject; nothing of them has been parsed then.
        ResultUnavailable: no place for results is set here; the message says where the file is.
        ResultExpired: the file is not there (any more), or this machine does not reach it.
    """
    form, body = codec.verify(sealed, subject)
    if form != FILE:
        return form, body
    path, size, shown = _reference(body, subject)
    what = f"the {subject.kind.partition(chr(0))[0]} of job {subject.job_id}"
    if depot is None:
        raise ResultUnavailable(
            f"{what} ({size / 1e6:.1f} MB) is a file in {shown}, and no directory for results is set here: set "
            "JOBKIT_RESULTS to the one that the workers use"
        )
    try:
        envelope = depot.place.read(path)
    except OSError as error:
        there = "" if depot.place.shown == shown else f"; it was written to {shown}"
        raise ResultExpired(
            f"{what} ({size / 1e6:.1f} MB) is a file that cannot be read from {depot.place.shown} on this machine "
            f"({error.strerror or error}){there}: it has expired, or the directory is not shared with the workers"
        ) from None
    return codec.verify(envelope, Subject(f"{subject.kind}\0{path}", subject.job_id, subject.task))


def _reference(body: bytes, subject: Subject) -> tuple[str, int, str]:
    """Path, size and place. Without a key anybody may have written it: only a path of our own making is followed."""
    try:
        path, size, shown = msgspec.msgpack.decode(body, type=tuple[str, int, str])
    except msgspec.DecodeError:
        path, size, shown = "", 0, ""
    if not _PATH.fullmatch(path):
        raise SignatureError(
            f"the reference to the {subject.kind} of job {subject.job_id} is not one that jobkit wrote"
        )
    return path, size, shown


def owner_text(job_id: str, us: int) -> str:
    """What the file `job` of a folder says."""
    return f"{job_id} {us}\n"


def _parts(body: bytes | Path) -> Iterator[Part]:
    if isinstance(body, Path):
        with body.open("rb") as file:
            while part := file.read(_CHUNK):
                yield part
    else:
        yield memoryview(body)


def _chain(head: bytes, parts: Iterable[Part]) -> Iterator[Part]:
    yield head
    yield from parts
