"""Checkpoints of a job as files in its folder: the newest two, each whole or not at all.

A checkpoint is one file:

    value · file · file · ... · sealed head · length of the head (8 bytes) · MAGIC

The head has the size and digest of everything before it. It is sealed with a key for this job alone, which the job's
own process has (`CheckpointPlace`): so the process writes and reads without its worker, and a checkpoint is stored when
the call that writes it returns. Without a place for files the same bytes are kept in the store, if they are few.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import secrets
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec
from msgspec.structs import replace

from jobkit.codec import RAW, Codec, Subject
from jobkit.features.checkpoints.checkpoint_info import CheckpointInfo, checkpoint_name, is_checkpoint_name
from jobkit.files.file_store import FileStore, JobFolder
from jobkit.files.places import place_of
from jobkit.files.storage import PATIENCE_S, Part, make_folders
from jobkit.model import SignatureError
from jobkit.run.news import STORED_BYTES

#: So many checkpoints of a job are kept.
KEPT = 2

#: So many of its files are named in the facts about a checkpoint.
FILES_NAMED = 20

_MAGIC = b"JKC1"
_TAIL = struct.Struct(">Q4s")
_CHUNK = 1 << 20
#: A head names each file: so large it is for some 100,000 of them.
_HEAD_MOST = 16 << 20


class CheckpointPlace(msgspec.Struct, frozen=True):
    """Place of a job's checkpoints, and the keys that seal them: all that its process needs.

    Attributes:
        job_id, task: of the job.
        keys, retired: see `Codec.narrowed`. allow_pickle: they may hold pickles.
        results: directory or URL; "" if they are kept in the store. folder, owner: of the job, see `JobFolder`.
        most: maximum size of one in the store, in bytes.
        known: those that the store knows, oldest first, with their bytes if they are kept there.
    """

    job_id: str
    task: str
    keys: tuple[bytes, ...] = ()
    allow_pickle: bool = False
    results: str = ""
    folder: str = ""
    owner: str = ""
    most: int = STORED_BYTES
    known: tuple[tuple[CheckpointInfo, bytes], ...] = ()
    retired: tuple[bytes, ...] = ()

    @classmethod
    def of(
        cls,
        codec: Codec,
        job_id: str,
        task: str,
        us: int,
        folder: JobFolder | None,
        results: str = "",
        known: tuple[tuple[CheckpointInfo, bytes], ...] = (),
        most: int = STORED_BYTES,
    ) -> CheckpointPlace:
        """Return the place of a submission. `us`: its time of submit in microseconds, as part of its identity."""
        subject = Subject(f"checkpoints\0{us}", job_id, task)
        retired = codec.narrowed(subject, retired=True) if known else ()
        where = ("", "", "") if folder is None else (results, folder.path, folder.owner)
        return cls(job_id, task, codec.narrowed(subject), codec.allow_pickle, *where, most, known, retired)


class _Piece(msgspec.Struct, frozen=True, array_like=True):
    """The value (with the name "") or a file in a checkpoint."""

    name: str
    size: int
    digest: bytes


class CheckpointHead(msgspec.Struct, frozen=True):
    """The sealed end of a checkpoint.

    Attributes:
        form: how the value is encoded, see `codec`.
        version: what its job said about the version of its state. code: hash of the code that wrote it.
        asked: how often the job had asked each question, by the begin of its key.
    """

    info: CheckpointInfo
    form: bytes
    pieces: tuple[_Piece, ...]
    version: str = ""
    code: str = ""
    asked: Mapping[str, int] = {}


class Damaged(Exception):
    """A checkpoint is not what its job has written; the message says how."""


class CheckpointFiles:
    """The checkpoints of one job. All methods block; those that read or write raise `OSError`."""

    def __init__(self, place: CheckpointPlace) -> None:
        self.codec = Codec(place.keys, retired=place.retired, allow_pickle=place.allow_pickle)
        self._place = place
        self._folder: JobFolder | None = None
        self._is_claimed = not place.owner
        if place.results:
            self._folder = JobFolder(FileStore(place_of(place.results)), place.folder, place.owner)
        self.stored: dict[str, bytes] = {info.name: body for info, body in place.known if body}
        self._seals = {info.name: info.seal for info, _ in place.known}

    @property
    def shown(self) -> str:
        """Directory or URL, for messages; "" if they are in the store."""
        return "" if self._folder is None else self._folder.file_store.place.shown

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait without a limit while the machine that has them is not reached."""
        place = None if self._folder is None else self._folder.file_store.place
        if place is not None:
            place.wait(math.inf)
        try:
            yield
        finally:
            if place is not None:
                place.wait(PATIENCE_S)

    def names(self) -> list[str]:
        """Return the names of the checkpoints, oldest first."""
        found = set(self.stored)
        if self._folder is not None:
            found |= set(self._folder.file_store.place.names(self._folder.path))
        return sorted(filter(is_checkpoint_name, found))

    def last_number(self, attempt: int) -> int:
        """Return the number of the newest checkpoint of an attempt, 0 if it has none."""
        start = checkpoint_name(attempt, 0)[:-8]
        return max((int(name[-8:]) for name in self.names() if name.startswith(start)), default=0)

    def write(self, head: CheckpointHead, body: bytes, files: Mapping[str, Path]) -> tuple[CheckpointInfo, bytes]:
        """Store a checkpoint, then delete those before the last one. Return its facts and, for the store, its bytes.

        Args:
            head: without pieces. files: to copy, by the name that they have in it.
        """
        name, pieces = head.info.name, list[_Piece]()
        self._seals.pop(name, None)
        parts = self._parts(head, body, files, pieces)
        sealed = b""
        if self._folder is None:
            sealed = self._in_memory(parts)
            self.stored[name] = sealed
            for old in sorted(self.stored)[:-KEPT]:
                del self.stored[old]
        else:
            store = self._folder.file_store
            if not self._is_claimed:
                store.claim(self._folder)
                self._is_claimed = True
            store.place.write(f"{self._folder.path}/{name}", parts, is_durable=True)
            for old in self.names()[:-KEPT]:
                with contextlib.suppress(OSError):  # another attempt of the job was faster
                    store.place.delete(f"{self._folder.path}/{old}")
        return replace(_sized(head.info, pieces), seal=self._seals[name]), sealed

    def _in_memory(self, parts: Iterator[Part]) -> bytes:
        made = bytearray()
        for part in parts:
            made += part
            if len(made) > self._place.most:
                raise OSError(
                    f"there is no directory for files (JOBKIT_RESULTS), and more than {self._place.most:,} bytes are "
                    "not kept in Redis"
                )
        return bytes(made)

    def _parts(
        self, head: CheckpointHead, body: bytes, files: Mapping[str, Path], pieces: list[_Piece]
    ) -> Iterator[Part]:
        digest = hashlib.sha256(body).digest()
        pieces.append(_Piece("", len(body), digest))
        yield memoryview(body)
        for name, path in files.items():
            size, running = 0, hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    running.update(chunk)
                    size += len(chunk)
                    yield chunk
            pieces.append(_Piece(name, size, running.digest()))
        whole = replace(head, info=_sized(head.info, pieces), pieces=tuple(pieces))
        sealed = self.codec.seal(RAW, msgspec.msgpack.encode(whole), self._subject(head.info.name))
        self._seals[head.info.name] = _seal_of(sealed)
        yield sealed + _TAIL.pack(len(sealed), _MAGIC)

    def open(self, name: str) -> BinaryIO:
        if (body := self.stored.get(name)) is not None:
            return io.BytesIO(body)
        if self._folder is None:
            raise FileNotFoundError(2, "it is not kept any more")
        return self._folder.file_store.place.open(f"{self._folder.path}/{name}")

    def head(self, file: BinaryIO, name: str) -> CheckpointHead:
        """Return the verified head of an opened checkpoint. Raises Damaged and SignatureError."""
        size = file.seek(0, os.SEEK_END)
        if size < _TAIL.size:
            raise Damaged("it is not whole")
        file.seek(size - _TAIL.size)
        length, magic = _TAIL.unpack(file.read(_TAIL.size))
        if magic != _MAGIC or not 0 < length <= min(_HEAD_MOST, size - _TAIL.size):
            raise Damaged("it is not whole")
        file.seek(size - _TAIL.size - length)
        sealed = file.read(length)
        # With a former key only what a job wrote before a machine that knows the key was revoked.
        is_stored = name in self.stored or self._seals.get(name) == _seal_of(sealed)
        form, body = self.codec.verify(sealed, self._subject(name), is_stored=is_stored)
        try:
            head = msgspec.msgpack.decode(body, type=CheckpointHead)
        except msgspec.MsgspecError as error:
            raise Damaged(f"its head cannot be read: {error}") from None
        if form != RAW or head.info.name != name or not head.pieces or head.pieces[0].name:
            raise Damaged("its head is not that of a checkpoint")
        if sum(piece.size for piece in head.pieces) != size - _TAIL.size - length:
            raise Damaged("it is not whole")
        return head

    def value(self, file: BinaryIO, head: CheckpointHead) -> tuple[bytes, bytes]:
        """Return the verified `(format, body)` of the value, not unpickled. Raises Damaged and SignatureError."""
        first = head.pieces[0]
        file.seek(0)
        body = file.read(first.size)
        if hashlib.sha256(body).digest() != first.digest:
            raise Damaged("its value was changed")
        self.codec.check_form(head.form, self._subject(head.info.name))
        return head.form, body

    def restore(self, file: BinaryIO, head: CheckpointHead, folder: Path) -> None:
        """Put the files back below a folder: all of them, or none if one is damaged. Raises Damaged."""
        file.seek(head.pieces[0].size)
        aside: list[tuple[Path, Path]] = []
        try:
            for piece in head.pieces[1:]:
                target = _below(folder, piece.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.parent.resolve().is_relative_to(folder.resolve()):
                    raise Damaged(f"the folder of its file {piece.name!r} leads out of {folder}")
                made = target.with_name(f".{secrets.token_hex(6)}.part")
                aside.append((made, target))
                _copy(file, made, piece)
            for made, target in aside:
                os.replace(made, target)
        finally:
            for made, _ in aside:
                made.unlink(missing_ok=True)

    def _subject(self, name: str) -> Subject:
        return Subject(f"checkpoint\0{name}", self._place.job_id, self._place.task)


def _seal_of(sealed: bytes) -> str:
    """Return 16 bytes of the MAC in an envelope, in hex digits."""
    return sealed[7:23].hex()


def _sized(info: CheckpointInfo, pieces: Sequence[_Piece]) -> CheckpointInfo:
    names = tuple(piece.name for piece in pieces[1 : 1 + FILES_NAMED])
    return replace(info, size_bytes=sum(piece.size for piece in pieces), files=names)


def _copy(file: BinaryIO, made: Path, piece: _Piece) -> None:
    digest, left = hashlib.sha256(), piece.size
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as target:
        while left and (chunk := _read(file, min(left, _CHUNK))):
            digest.update(chunk)
            target.write(chunk)
            left -= len(chunk)
    if digest.digest() != piece.digest:
        raise Damaged(f"its file {piece.name!r} was changed")


def _read(file: BinaryIO, count: int) -> bytes:
    """Return bytes of a checkpoint. Raises Damaged: an `OSError` is of the file that is written."""
    try:
        return file.read(count)
    except OSError as error:
        raise Damaged(str(error)) from error


def _below(folder: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise Damaged(f"its file {name!r} would be outside of the working directory")
    return folder / path


def relative_files(files: Sequence[str | os.PathLike[str]], folder: Path) -> dict[str, Path]:
    """Return the files to copy by their names relative to `folder`; a directory stands for all files below it, except
    checkpoints, each of which would else contain those before it.

    Raises:
        ValueError: one is not below the folder.
    """
    found: dict[str, Path] = {}
    base = folder.resolve()
    for each in files:
        path = folder / each
        below = (one for one in path.rglob("*") if one.is_file() and not is_checkpoint_name(one.name))
        for file in sorted(below) if path.is_dir() else [path]:
            real = file.parent.resolve() / file.name
            if not real.is_relative_to(base) or ".." in real.parts:
                raise ValueError(f"{str(each)!r} is not below the working directory {folder}")
            found[real.relative_to(base).as_posix()] = real
    return found


def own_key() -> bytes:
    """Return the key of this user for checkpoints outside of jobs: `JOBKIT_SECRET`, else one made at first use.

    Not the key of a joined place, which other machines know, and which is replaced when one of them is revoked.
    """
    from jobkit.access.own_machine import write_private  # which a job does not need
    from jobkit.settings import Settings

    settings = Settings.load()
    if settings.secret and settings.membership is None:
        return settings.secret.encode()
    path = settings.home.expanduser() / "checkpoint-key"
    if not path.exists():
        make_folders(path.parent)
        write_private(path, secrets.token_hex(32), replaces=False)  # the first of processes that start together wins
    return path.read_bytes()


#: What reading a checkpoint may raise, if it is not what its job has written.
UNREADABLE = (Damaged, SignatureError, OSError)
