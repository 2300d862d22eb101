"""Events: facts about one job, in the past tense.

An event that changes the state is *numbered*: its `seq` is one more than that of the event before it, without
holes, and the store keeps it with the job. Progress and log lines are *news*: they carry the `seq` of the state
they belong to, may be dropped or replaced by newer ones, and are never needed to know the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    SUBMITTED = "submitted"
    """Accepted by the store; always `seq` 1."""
    QUEUED = "queued"
    """Its time came: from `scheduled` to `queued`."""
    STARTED = "started"
    """A worker claimed it; a new attempt begins."""
    CANCEL_REQUESTED = "cancel_requested"
    """Somebody asked a running job to stop; it is still running."""
    RETRIED = "retried"
    """The attempt failed and another one is scheduled."""
    LOST = "lost"
    """The worker's lease ran out; the job is queued again."""
    RELEASED = "released"
    """The worker gave it back at its own shutdown; costs nothing."""
    MOVED = "moved"
    """It waits in another queue, or with another priority; its state stays as it was."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETED = "deleted"
    """Removed from the store by hand or by retention; last event of its job."""

    PROGRESSED = "progressed"
    """News: done, total, message. Carries `rev`, which grows within the job."""
    LOGGED = "logged"
    """News: `lines` with the number of the `first`. Only on the job's own channel."""

    @property
    def is_news(self) -> bool:
        """True for events that carry no change of state and are not numbered."""
        return self in (EventType.PROGRESSED, EventType.LOGGED)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One fact about one job.

    Attributes:
        job_id: the job.
        seq: number of the state it belongs to; see the module's docstring.
        type: what happened.
        at_ms: Redis's clock, milliseconds since the epoch.
        data: the snapshot's fields that changed, in wire form (see `snapshot.WIRE`); for news, their payload.
        id: position in the namespace's stream of events (`"1732451-0"`), where it came from there, else "".
        result: the sealed result, where it was small enough to ride on the event that ends the job, else empty.
    """

    job_id: str
    seq: int
    type: EventType
    at_ms: int
    data: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    result: bytes = field(default=b"", repr=False, compare=False)

    @property
    def at(self) -> datetime:
        """When it happened, by Redis's clock (aware, UTC)."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any], id: str = "", result: bytes = b"") -> JobEvent:
        """The event in a decoded message of the store: `{"id", "seq", "type", "at", "data"}`."""
        data = wire.get("data")
        return cls(
            job_id=wire["id"],
            seq=int(wire["seq"]),
            type=EventType(wire["type"]),
            at_ms=int(wire["at"]),
            data=data if isinstance(data, dict) else {},  # Lua encodes an empty table as []
            id=id,
            result=result,
        )

    def to_json(self) -> dict[str, Any]:
        """For the CLI and HTTP: times as ISO 8601, everything JSON can hold."""
        return {
            "job_id": self.job_id,
            "seq": self.seq,
            "type": str(self.type),
            "at": self.at.isoformat().replace("+00:00", "Z"),
            "data": dict(self.data),
            **({"id": self.id} if self.id else {}),
        }
