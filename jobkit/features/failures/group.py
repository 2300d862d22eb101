"""Groups of failures: jobs of a task that failed with the same error at the same line.

Pure. The store counts (`lua/lib/failures.lua`); everything else about groups is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from jobkit.model.events import ErrorKind
from jobkit.model.plain import instant, to_json

HOURS = 24


class GroupState(StrEnum):
    """Status that a user gave to a group of failures."""

    OPEN = "open"
    """Not handled yet."""
    MUTED = "muted"
    """Known and hidden; still counted."""
    RESOLVED = "resolved"
    """Fixed. The next failure makes it `regressed`."""
    REGRESSED = "regressed"
    """Failed again after it was resolved; set by the store."""

    @property
    def needs_a_look(self) -> bool:
        return self in (GroupState.OPEN, GroupState.REGRESSED)


class FailureGroup(msgspec.Struct, frozen=True):
    """Jobs of one task that failed with the same type of error at the same place.

    Attributes:
        id: 12 hex digits, a hash of task, kind, type and place: the same failure has the same id everywhere.
        task, kind, type: see `JobError`.
        where: "train.py:28 in evaluate", the deepest frame of the user's code; "" for kinds without a place.
        message: message of the newest failure.
        state: see `GroupState`. `changed_by`, `changed_at`: who set it last and when; "" and None if never set.
        count: failures since `first_seen`, including those of deleted jobs.
        jobs: number of stored jobs. `repeated`: how many of them were retried. `healed`: how many with success.
        first_seen, last_seen: by the store's clock (aware, UTC).
        sample: id of the job that failed last.
        hours: failures in each of the last 24 hours, oldest first; the last item is the current hour.
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
        """One-line title, such as `KeyError: 'f1_score'`."""
        first = self.message.strip().split("\n", 1)[0]
        if self.kind is ErrorKind.EXCEPTION:
            return f"{self.type}: {first}" if first and first != self.type else self.type
        return first or self.type

    @property
    def waiting(self) -> int:
        """Number of stored jobs that have not been retried."""
        return max(0, self.jobs - self.repeated)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible data for the CLI, HTTP and the page; times as ISO 8601 UTC."""
        return {**to_json(self), "title": self.title}

    @classmethod
    def from_wire(
        cls, id: str, wire: Mapping[str, str], *, jobs: int, repeated: int, healed: int, now_ms: int
    ) -> FailureGroup:
        """Return the group in a record of the store."""
        times = {"first_seen": wire["first"], "last_seen": wire["last"], "changed_at": wire.get("changed")}
        fields = {
            **wire,
            **{name: instant(ms) for name, ms in times.items()},
            "id": id,
            "jobs": jobs,
            "repeated": repeated,
            "healed": healed,
            "hours": _hours(wire, now_ms),
            "changed_by": wire.get("by", ""),
        }
        return msgspec.convert(fields, cls, strict=False)


def shared(arguments: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments that are equal in all calls, and the names of the other arguments.

    Args:
        arguments: the arguments of each call, as in `JobSpec.params`.
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
    """Return counts of the last 24 hours from a ring of 24 fields "hour:count"; entries of earlier days count as 0."""
    this = now_ms // 3_600_000
    counts = []
    for hour in range(this - HOURS + 1, this + 1):
        of, _, count = wire.get(f"h{hour % HOURS}", "").partition(":")
        counts.append(int(count) if of == str(hour) and count else 0)
    return tuple(counts)
