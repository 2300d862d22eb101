"""Messages between child and parent: `length (4, big endian) · type (1) · msgpack`.

The length counts the msgpack part. A frame is at most `FRAME_LIMIT` bytes: a larger call is sent in parts, a larger
result goes through a file in the runner's spool directory.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

FRAME_LIMIT = 16 * 1024 * 1024

#: Parent to child: a part of the call, and what runs (ends the call).
PART, CALL = b"b", b"c"
#: Child to parent: it is set up and waits for a call; lines, progress, an artifact, how the attempt ended.
READY, LINES, PROGRESS, ARTIFACT, ENDED = b"r", b"l", b"p", b"a", b"e"
#: Child to parent: ids of the jobs that the task waits for now, [] when it goes on.
AWAITS = b"w"

#: Added to the spool's path, with a number: large artifacts on their way to the parent.
ARTIFACT_SUFFIX = ".artifact"

_READ_BYTES = 262_144

_HEAD = struct.Struct(">Ic")
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class FrameError(Exception):
    """The other side does not speak this protocol (or its memory is damaged): nothing more it says can be trusted."""


def frame(kind: bytes, content: Any) -> bytes:
    """One frame.

    Raises:
        FrameError: above `FRAME_LIMIT`.
    """
    body = _pack(content)
    if len(body) > FRAME_LIMIT:
        raise FrameError(f"a frame of {len(body):,} bytes is above the limit of {FRAME_LIMIT:,}")
    return _HEAD.pack(len(body), kind) + body


def call_frames(meta: dict[str, Any], call: bytes) -> Iterator[bytes]:
    """The frames that tell a child what to run."""
    step = FRAME_LIMIT // 2
    if len(call) <= step:
        yield frame(CALL, meta | {"call": call})
        return
    for start in range(0, len(call), step):
        yield frame(PART, call[start : start + step])
    yield frame(CALL, meta)


class Frames:
    """Bytes in whatever portions to frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, Any]]:
        """The frames that `data` completes: `(type, content)`.

        Raises:
            FrameError: not a frame.
        """
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


class Calls:
    """Calls for a job's process, one after the other, from a blocking descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._frames = Frames()

    def next(self) -> tuple[dict[str, Any], bytes] | None:
        """`(meta, call)`; None where the parent has no more, or is gone."""
        parts = []
        while data := os.read(self._fd, _READ_BYTES):
            for kind, content in self._frames.feed(data):
                if kind == PART:
                    parts.append(content)
                elif kind == CALL:  # nothing follows it: the next call comes after the end of this one
                    return content, content.pop("call", b"") or b"".join(parts)
        return None


def spool(path: str, body: bytes | Path) -> None:
    """Write a large body (or copy a file) for the parent; mode 0600, never over an existing file."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        if isinstance(body, bytes):
            file.write(body)
        else:
            with body.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)


def unspool(path: str) -> bytes:
    """The body that a child wrote; the file is gone afterwards."""
    body = Path(path).read_bytes()
    Path(path).unlink()
    return body
