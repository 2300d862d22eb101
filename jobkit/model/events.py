"""States of a job, and events: facts about one job, in the past tense.

An event that changes the state is *numbered*: its `seq` is that of the previous event plus one, without gaps, and the
store keeps it with the job. Progress and log lines are *news*: they carry the `seq` of the state that they belong to,
may be dropped or replaced by newer ones, and are not needed to compute the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from jobkit.model.errors import InvalidParams
from jobkit.model.plain import to_json


class JobState(StrEnum):
    """State of a job. A terminal job never changes again.

    Example:
        >>> job = report.submit()
        >>> job.state == jobkit.JobState.SUCCEEDED, job.state == "succeeded"
        (True, True)
    """

    SCHEDULED = "scheduled"
    """Waits for a time, which a delay, `at` or the backoff before the next attempt has set."""
    QUEUED = "queued"
    """Waits for a free slot of a worker that serves its queue."""
    RUNNING = "running"
    """One worker holds the lease and executes an attempt."""
    SUCCEEDED = "succeeded"
    """Ended with a value (terminal)."""
    FAILED = "failed"
    """Ended with an error; see `error.kind` (terminal)."""
    CANCELLED = "cancelled"
    """Cancelled on request (terminal)."""

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


#: States that a job never leaves, in the order in which bars and counters show them. Its twins are `ENDS` in
#: `lib/call.lua` and in `common.js`; words and signs for a state are in `format.py`, colours in `tokens.css`.
ENDS = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)

TERMINAL = frozenset(ENDS)

#: States of jobs that ended without a value.
UNSUCCESSFUL = ENDS[1:]


class ErrorKind(StrEnum):
    """Why a job failed. Data, not a state.

    Example:
        >>> job = kit.submit(int, "seven")
        >>> job.error.kind == jobkit.ErrorKind.EXCEPTION
        True
    """

    EXCEPTION = "exception"
    """The task raised."""
    TIMEOUT = "timeout"
    """The attempt ran longer than its `timeout`."""
    MEMORY = "memory"
    """The attempt used more than its `memory_limit`, or the machine ran out of memory."""
    CRASH = "crash"
    """The job's own process died by a signal or with an exit status."""
    LOST = "lost"
    """Its workers died `max_losses` times while they ran it."""
    EXPIRED = "expired"
    """It waited longer than allowed."""
    DEPENDENCY = "dependency"
    """A job whose result it needs did not succeed."""
    REJECTED = "rejected"
    """A worker did not accept its payload: bad signature, unknown task."""


class EventType(StrEnum):
    """Kind of an event: what happened to the job.

    Example:
        >>> for event in report.submit().events():
        ...     if event.type is jobkit.EventType.SUCCEEDED:
        ...         print(event.seq)
        3
    """

    SUBMITTED = "submitted"
    """Accepted by the store; always `seq` 1."""
    QUEUED = "queued"
    """The delay is over: `scheduled` became `queued`."""
    STARTED = "started"
    """A worker claimed it; a new attempt begins."""
    CANCEL_REQUESTED = "cancel_requested"
    """Cancellation of a running job was requested; the job is still running."""
    RETRIED = "retried"
    """The attempt failed and another one is scheduled."""
    LOST = "lost"
    """The worker's lease ran out; the job is queued again."""
    RELEASED = "released"
    """The worker gave the job back while shutting down. Not counted as a retry."""
    MOVED = "moved"
    """The waiting job changed its queue or priority. The state is unchanged."""
    ASKED = "asked"
    """The running job asks people a question. The state is unchanged."""
    ANSWERED = "answered"
    """A user (`by`) has answered a question."""
    UNANSWERED = "unanswered"
    """No answer to a question came in time."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETED = "deleted"
    """Deleted from the store by a user or by retention. Last event of its job."""

    PROGRESSED = "progressed"
    """News: completed, total, message. Carries `rev`, which increases within the job."""
    LOGGED = "logged"
    """News: `lines`, with the number of the `first`. Published on the job's own channel only."""

    @property
    def is_news(self) -> bool:
        """True for unnumbered events, which do not change the state."""
        return self in (EventType.PROGRESSED, EventType.LOGGED)

    @property
    def is_end(self) -> bool:
        """True for events after which the job is in a terminal state."""
        return self in (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED)


class JobEvent(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """One fact about one job.

    Attributes:
        job_id: the job.
        seq: number of the state that it belongs to; see the module's docstring.
        type: what happened.
        at_ms: time by Redis's clock, milliseconds since the epoch.
        data: changed fields of the snapshot in wire form (see `snapshot.WIRE`); for news, their payload.
        id: entry id in the namespace's event stream (`"1732451-0"`), or "" if it was not read from the stream.
        result: the sealed result, if it is small enough to be sent with the last event; else empty.

    Example:
        >>> [event.type.value for event in report.submit().events()]
        ['submitted', 'started', 'succeeded']
    """

    job_id: str
    seq: int
    type: EventType
    at_ms: int
    data: Mapping[str, Any] = {}
    id: str = ""
    result: bytes = b""

    @property
    def at(self) -> datetime:
        """Time of the event by Redis's clock (aware, UTC)."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any], id: str = "", result: bytes = b"") -> JobEvent:
        """Return the event in a decoded message of the store: `{"id", "seq", "type", "at", "data"}`."""
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
        """Return JSON-compatible data for the CLI and HTTP; times as ISO 8601."""
        json = {name: to_json(getattr(self, name)) for name in ("job_id", "seq", "type", "at", "data")}
        return {**json, "id": self.id} if self.id else json


#: Names of events that a rule or a hook may want: the numbered events, and "ended" for any terminal state.
EVENT_NAMES = ("ended", *(str(kind) for kind in EventType if not kind.is_news and kind is not EventType.DELETED))


def kinds_of(names: Iterable[str]) -> frozenset[EventType]:
    """Return the event types of these names, which are checked."""
    kinds: set[EventType] = set()
    for name in names:
        if name not in EVENT_NAMES:
            raise InvalidParams(f"on must be one or several of {', '.join(EVENT_NAMES)}, not {name!r}", "on")
        kinds |= {EventType(end) for end in TERMINAL} if name == "ended" else {EventType(name)}
    if not kinds:
        raise InvalidParams(f"on needs an event: one or several of {', '.join(EVENT_NAMES)}", "on")
    return frozenset(kinds)
