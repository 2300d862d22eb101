"""Failures in groups: what failed the same way, at the same place, is one thing to look at.

Pure. The store keeps the groups (`lua/failures.lua`); what is asked of them beyond counting is decided here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from jobkit.model.snapshot import JobError, iso
from jobkit.model.states import ErrorKind

#: A group that nobody needs to see is remembered so long after its last failure, also when all its jobs are gone: else
#: the next one would be news again.
REMEMBERED_MS = 30 * 24 * 3_600_000

HOURS = 24


class GroupState(StrEnum):
    """What people have said of a group of failures."""

    OPEN = "open"
    """Nothing yet."""
    MUTED = "muted"
    """Known, and not to be shown; it goes on counting."""
    RESOLVED = "resolved"
    """Mended. The next failure makes it `regressed`."""
    REGRESSED = "regressed"
    """It was resolved, and has failed again; set by the store."""

    @property
    def needs_a_look(self) -> bool:
        return self in (GroupState.OPEN, GroupState.REGRESSED)


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Jobs of one task that failed with the same type of error at the same place.

    Attributes:
        id: 12 hex digits, from task, kind, type and place: the same failure has the same group everywhere.
        task, kind, type: see `JobError`.
        where: "train.py:28 in evaluate", the deepest frame of the user's code; "" for kinds that have no place.
        message: of the newest failure.
        state: see `GroupState`. `changed_by`, `changed_at`: who set it last, and when; "" and None where nobody did.
        count: failures since `first_seen`, also of jobs that are gone by now.
        jobs: ids that are kept. `repeated`: how many of those another job repeats. `healed`: repeats that succeeded.
        first_seen, last_seen: by the store's clock (aware, UTC).
        sample: id of the job that failed last.
        hours: failures in each of the last 24 hours, oldest first; the last one is the hour that runs.
    """

    id: str
    task: str
    kind: ErrorKind
    type: str
    where: str
    message: str
    state: GroupState
    count: int
    jobs: int
    repeated: int
    healed: int
    first_seen: datetime
    last_seen: datetime
    sample: str
    hours: tuple[int, ...] = ()
    changed_by: str = ""
    changed_at: datetime | None = None

    @property
    def title(self) -> str:
        """`KeyError: 'f1_score'`, on one line."""
        first = self.message.strip().split("\n", 1)[0]
        if self.kind is ErrorKind.EXCEPTION:
            return f"{self.type}: {first}" if first and first != self.type else self.type
        return first or self.type

    @property
    def waiting(self) -> int:
        """Kept jobs that nobody has repeated yet."""
        return max(0, self.jobs - self.repeated)

    def to_json(self) -> dict[str, Any]:
        """For the CLI, HTTP and the page: times as ISO 8601 UTC."""
        return {
            "id": self.id,
            "task": self.task,
            "kind": str(self.kind),
            "type": self.type,
            "where": self.where,
            "title": self.title,
            "message": self.message,
            "state": str(self.state),
            "count": self.count,
            "jobs": self.jobs,
            "repeated": self.repeated,
            "healed": self.healed,
            "first_seen": iso(self.first_seen),
            "last_seen": iso(self.last_seen),
            "sample": self.sample,
            "hours": list(self.hours),
            "changed_by": self.changed_by,
            "changed_at": iso(self.changed_at),
        }

    @classmethod
    def from_wire(cls, id: str, wire: Mapping[str, str], *, jobs: int, repeated: int, now_ms: int) -> FailureGroup:
        """The group in a record of the store."""
        return cls(
            id=id,
            task=wire["task"],
            kind=ErrorKind(wire["kind"]),
            type=wire["type"],
            where=wire["where"],
            message=wire["message"],
            state=GroupState(wire["state"]),
            count=int(wire["count"]),
            jobs=jobs,
            repeated=repeated,
            healed=int(wire.get("healed", 0)),
            first_seen=_moment(wire["first"]),
            last_seen=_moment(wire["last"]),
            sample=wire["sample"],
            hours=_hours(wire, now_ms),
            changed_by=wire.get("by", ""),
            changed_at=_moment(wire["changed"]) if "changed" in wire else None,
        )


def group_id(task: str, error: Mapping[str, Any]) -> str:
    """The group of a failure (`error` in wire form). As in `lua/failures.lua`."""
    parts = (task, str(error.get("kind") or ErrorKind.EXCEPTION), str(error.get("type", "")), place_of(error))
    return hashlib.sha1("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:12]


def place_of(error: Mapping[str, Any]) -> str:
    """Where it failed, for kinds that happen at a place. A timeout strikes wherever the job is at that moment."""
    has_place = (error.get("kind") or ErrorKind.EXCEPTION) in (ErrorKind.EXCEPTION, ErrorKind.CRASH)
    return str(error.get("where", "")) if has_place else ""


def group_of(task: str, error: JobError | None) -> str:
    """Id of the group that a failed job is in; "" for one without an error."""
    return group_id(task, error.to_wire()) if error is not None else ""


def shared(arguments: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """What several calls have in common: the arguments that are equal in all of them, and the names of the others.

    Args:
        arguments: of each call, as `JobSpec.params` shows them.
    """
    calls = list(arguments)
    if not calls:
        return {}, []
    names = list(dict.fromkeys(name for call in calls for name in call))
    first = calls[0]
    same = {name: first[name] for name in names if all(_is_same(name, call, first) for call in calls)}
    return same, [name for name in names if name not in same]


def _is_same(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if name not in one or name not in other:
        return False
    return type(one[name]) is type(other[name]) and bool(one[name] == other[name])


def _hours(wire: Mapping[str, str], now_ms: int) -> tuple[int, ...]:
    """Each hour has its place in a ring of 24, as "hour:count"; what stands there of another day counts for nothing."""
    this = now_ms // 3_600_000
    counts = []
    for hour in range(this - HOURS + 1, this + 1):
        of, _, count = wire.get(f"h{hour % HOURS}", "").partition(":")
        counts.append(int(count) if of == str(hour) and count else 0)
    return tuple(counts)


def _moment(ms: str) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)
