"""Messages between child and parent.

To the parent: frames, `length (4, big endian) · type (1) · msgpack`. The length counts the msgpack part. A frame is at
most `FRAME_LIMIT` bytes. A larger value is written to a file in the job's folder or, if there is none on this machine
or it cannot be written, goes in parts, before the report that it belongs to.

To the child: orders, `length (4) · length of the call (8) · JobOrder as msgpack · call`. A reply to a request or sync
is an order of length 0, with the reply as msgpack in place of the call.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.codec import HEAD_BYTES
from jobkit.files.log import Portion, make_job_folder
from jobkit.files.storage import make_folders
from jobkit.model import ENDS, Retry
from jobkit.run.attempt import Assignment, Outcome
from jobkit.run.inside.answers import Reply

FRAME_LIMIT = 16 * 1024 * 1024

#: Child to parent: it is set up and waits for an order; lines, progress, an artifact; how its job ended, first a large
#: value in parts, then what is certain, then its end (`EndReport`).
READY, LINES, PROGRESS, ARTIFACT, PART, STAGE, ENDED = b"r", b"l", b"p", b"a", b"v", b"s", b"e"
#: Child to parent: news of any other kind, behind its name, see `jobkit.run.news`.
NEWS = b"n"
#: Child to parent: the key of a sync, see `Sink.sync`.
SYNC = b"y"
#: Child to parent: a request, see `Sink.request`.
REQUEST = b"q"

#: Values and artifacts above this size in bytes do not fit into one frame with others.
PART_BYTES = 1_000_000

#: Exit status of a child whose control channel was closed by its job.
CUT_OFF = 213

_HEAD, _ORDER_HEAD = struct.Struct(">Ic"), struct.Struct(">IQ")
_unpack = msgspec.msgpack.Decoder().decode


class JobOrder(msgspec.Struct, frozen=True):
    """One job for a child. With a number behind it, `spool` is the path of a large artifact on its way to the parent,
    with 0 that of a large result; with the last job the process ends. `threads`: of BLAS and OpenMP, at most."""

    assignment: Assignment
    spool: str
    is_last: bool
    threads: int = 0


class EndReport(msgspec.Struct, frozen=True):
    """End of a job, or a stage of it (see `jobkit.run.ended`), as its process reports it.

    Attributes:
        outcome: without its usage; its value comes with the first report, or before it in parts.
        is_in_file: its value is in a file, see `JobOrder`.
        was_stopped: a request to stop reached the job.
        log: lines of the whole log since the last report.
        is_alone: no process that the job started is left.
        is_fit: the process waits for another job.
        libraries: outermost installed modules that the job has imported, and later ones may need.
    """

    outcome: Outcome
    was_stopped: bool
    log: Portion
    is_alone: bool = False
    is_fit: bool = False
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    is_in_file: bool = False
    libraries: list[str] = []

    @classmethod
    def from_wire(cls, wire: Any) -> EndReport:
        """Raises ValueError for anything else."""
        ended = msgspec.convert(wire, cls, dec_hook=lambda kind, value: kind(*value))
        if ended.outcome.outcome not in (*ENDS, "asked"):
            raise ValueError(f"an outcome of {ended.outcome.outcome!r}")
        if ended.outcome.file:
            raise ValueError("an outcome that names a file")
        return ended

    def after(self, before: EndReport | None) -> EndReport:
        """Return this report with what the one before had and it has not."""
        if before is None:
            return self
        body = before.outcome.body if self.outcome.form else b""
        log = before.log[0] + self.log[0], before.log[1] + self.log[1]
        return replace(self, outcome=replace(self.outcome, body=body), log=log, is_in_file=before.is_in_file)


_read_order = msgspec.msgpack.Decoder(JobOrder).decode
_read_reply = msgspec.msgpack.Decoder(Reply).decode


def _plain(value: object) -> Any:
    if isinstance(value, Retry):
        return [value.after]
    raise TypeError(f"a {type(value).__name__} has no place in a frame")


_pack = msgspec.msgpack.Encoder(enc_hook=_plain).encode


class FrameError(Exception):
    """The other side does not speak this protocol (or its memory is damaged): nothing more it says can be trusted."""


def frame(kind: bytes, content: Any) -> bytes:
    """Raises FrameError above `FRAME_LIMIT`."""
    body = _pack(content)
    if len(body) > FRAME_LIMIT:
        raise FrameError(f"a frame of {len(body):,} bytes is above the limit of {FRAME_LIMIT:,}")
    return _HEAD.pack(len(body), kind) + body


def written(order: JobOrder) -> Iterator[bytes]:
    """Yield the bytes of an order, for `orders`."""
    call = order.assignment.call
    body = _pack(replace(order, assignment=replace(order.assignment, call=b"")))
    yield _ORDER_HEAD.pack(len(body), len(call)) + body
    yield call


class Frames:
    """Bytes in whatever portions to frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, Any]]:
        """Yield the `(type, content)` of each frame that `data` completes. Raises FrameError for anything else."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _HEAD.size:
                length, kind = _HEAD.unpack_from(buffer, start)
                if length > FRAME_LIMIT:
                    raise FrameError(f"a frame claims {length:,} bytes, above the limit of {FRAME_LIMIT:,}")
                end = start + _HEAD.size + length
                if len(buffer) < end:
                    break
                try:
                    content = _unpack(memoryview(buffer)[start + _HEAD.size : end])
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise FrameError(f"a frame of type {kind!r} is not msgpack: {error}") from None
                start = end
                yield kind, content
        finally:
            del buffer[:start]


def reply_frame(reply: Reply) -> bytes:
    """Return the bytes of a reply to a request or sync, for `Inbox`."""
    body = _pack(reply)
    return _ORDER_HEAD.pack(0, len(body)) + body


class Inbox:
    """Messages of the parent to a child, on a blocking descriptor."""

    def __init__(self, fd: int) -> None:
        self._stream = open(fd, "rb", closefd=False)  # noqa: SIM115  # as long as the process lives

    def _next(self) -> JobOrder | Reply | None:
        if not (head := self._stream.read(_ORDER_HEAD.size)):
            return None
        length, call_length = _ORDER_HEAD.unpack(head)
        if not length:
            return _read_reply(self._stream.read(call_length))
        order = _read_order(self._stream.read(length))
        return replace(order, assignment=replace(order.assignment, call=self._stream.read(call_length)))

    def orders(self) -> Iterator[JobOrder]:
        """Yield the orders that arrive, until the parent has no more or is gone."""
        while (message := self._next()) is not None:
            if isinstance(message, JobOrder):  # else a reply that its job did not wait for any more
                yield message

    def reply(self) -> Reply:
        """Return the next reply to a request or sync of the running job. Raises EOFError if the parent is gone."""
        while not isinstance(message := self._next(), Reply):
            if message is None:
                raise EOFError("the worker is gone")
        return message


def spool(path: str, body: bytes | Path, owner: str, *, is_result: bool = False) -> None:
    """Write a large artifact (or copy a file) for the parent; mode 0600, never over an existing file. Raises OSError,
    and leaves nothing then.

    Args:
        owner: for the folder, if it is the job's; "" for another one.
        is_result: there is room for the head of an envelope before it.
    """
    folder = Path(path).parent
    if owner and not folder.is_dir():
        make_job_folder(folder, owner)
    else:
        make_folders(folder)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        try:
            if is_result:
                file.seek(HEAD_BYTES)
            if isinstance(body, bytes):
                file.write(body)
            else:
                with body.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
        except OSError:
            os.unlink(path)
            raise
