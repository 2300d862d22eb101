"""Events as Server-Sent Events: what goes over the wire, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from jobkit.http.messages import to_json
from jobkit.model import EventType, JobEvent, JobSnapshot
from jobkit.model.snapshot import JobError, changes, finite_or_none, iso

#: A comment that only says that we are still there; the first one makes `onopen` fire. Without an empty line behind it,
#: which some clients (httpx-sse) take for an event without data.
COMMENT = b":\n"

#: What one write to a client carries, about: as much is kept for each of those who do not read.
PART_BYTES = 256_000

_LINES = re.compile(r"\r\n|\r|\n")


class Part:
    """Frames of one write, until they are enough."""

    def __init__(self, frames: Iterable[bytes] = ()) -> None:
        self.frames = list(frames)
        self._left = PART_BYTES - sum(map(len, self.frames))

    @property
    def is_full(self) -> bool:
        return self._left <= 0

    def add(self, *frames: bytes) -> None:
        self.frames += frames
        self._left -= sum(map(len, frames))


def frame(data: str | bytes, *, event: str = "", id: str = "", retry: int = 0) -> bytes:
    """One event of a stream.

    Data is split into lines and nothing else may hold one: otherwise whoever writes data could add fields.

    Raises:
        ValueError: a line break in `event` or `id`.
    """
    text = data.decode() if isinstance(data, bytes) else data
    if any(c in event + id for c in "\r\n\0"):
        raise ValueError("no line breaks in the fields of an event")
    lines = []
    if event:
        lines.append(f"event: {event}")
    if retry:
        lines.append(f"retry: {retry}")
    if id:
        lines.append(f"id: {id}")
    lines += [f"data: {line}" for line in _LINES.split(text)]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


def event_frame(event: JobEvent) -> bytes:
    """An event of a job: named by its type, with its id where it is numbered."""
    body = {**event.to_json(), "changes": changed(event)}
    return frame(to_json(body), event=str(event.type), id=event.id)


def snapshot_frame(snapshot: JobSnapshot, id: str) -> bytes:
    """All that is known of a job, as of the event `id`."""
    return frame(to_json(snapshot.to_json()), event="snapshot", id=id)


def changed(event: JobEvent) -> dict[str, Any]:
    """What an event changes of a job's JSON: `Object.assign(job, event.changes)`."""
    if event.type is EventType.PROGRESSED:
        done, total = finite_or_none(event.data.get("done")), finite_or_none(event.data.get("total"))
        progress = min(1.0, done / total) if done is not None and total else None
        return {"done": done, "total": total, "message": str(event.data.get("message") or ""), "progress": progress}
    if event.type.is_news:
        return {}
    moved = {name: _plain(value) for name, value in changes(event.data).items()}
    if event.type is EventType.STARTED:
        moved |= {"done": None, "total": None, "message": "", "progress": None}
    elif event.type is EventType.SUCCEEDED:
        moved |= {"error": None, "progress": 1.0}
    return {**moved, "seq": event.seq}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    return value.to_json() if isinstance(value, JobError) else value
