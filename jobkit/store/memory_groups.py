"""Groups of failed jobs for the store in memory: what `lua/failures.lua` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobkit.model import FailureGroup, JobSpec
from jobkit.model.failure import HOURS, REMEMBERED_MS, group_id, place_of
from jobkit.store.ordered import Ordered


@dataclass(slots=True)
class Group:
    """One group: its record, its jobs by the time they failed (us), and those that another job repeats."""

    wire: dict[str, str]
    jobs: Ordered = field(default_factory=Ordered)
    again: set[str] = field(default_factory=set)
    us: float = 0
    expires_ms: float = float("inf")


class Groups:
    """All groups. Whoever calls holds the lock of `MemoryStore`."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.of: dict[str, str] = {}  #: failed job to its group

    def note(self, spec: JobSpec, error: Mapping[str, Any], now: int, us: float) -> None:
        """A job has failed at `now` (ms)."""
        id = group_id(spec.task, error)
        group = self.groups.get(id)
        if group is None or group.expires_ms <= now:
            wire = {
                "state": "open",
                "task": spec.task,
                "kind": str(error.get("kind") or "exception"),
                "first": str(now),
            }
            wire |= {"type": str(error.get("type", "")), "where": place_of(error), "count": "0"}
            group = self.groups[id] = Group(wire)
        elif group.wire["state"] == "resolved":
            group.wire |= {"state": "regressed", "by": "", "changed": str(now)}
        hour = now // 3_600_000
        of, _, count = group.wire.get(f"h{hour % HOURS}", "").partition(":")
        group.wire[f"h{hour % HOURS}"] = f"{hour}:{int(count) + 1 if of == str(hour) else 1}"
        group.wire |= {"last": str(now), "sample": spec.id, "message": str(error.get("message", ""))}
        group.wire["count"] = str(int(group.wire["count"]) + 1)
        group.expires_ms = float("inf")
        group.us = us
        group.jobs.add(spec.id, us)
        self.of[spec.id] = id

    def leave(self, job_id: str, now: int) -> None:
        """A failed job is forgotten."""
        id = self.of.pop(job_id, None)
        if id is not None:
            self.groups[id].jobs.remove(job_id)
            self.groups[id].again.discard(job_id)
            if not self.groups[id].jobs:
                self.emptied(id, now)

    def emptied(self, id: str, now: int) -> None:
        """None of its jobs is left."""
        group = self.groups[id]
        if group.wire["state"] in ("muted", "resolved"):
            group.expires_ms = max(now + 1, int(group.wire["last"]) + REMEMBERED_MS)
        else:
            del self.groups[id]

    def repeat(self, old: str) -> None:
        """A job that repeats `old` was submitted."""
        if old in self.of:
            self.groups[self.of[old]].again.add(old)

    def healed(self, old: str) -> None:
        """It has succeeded."""
        if old in self.of:
            wire = self.groups[self.of[old]].wire
            wire["healed"] = str(int(wire.get("healed", 0)) + 1)

    def read(self, id: str, now: int) -> FailureGroup | None:
        group = self.groups.get(id)
        if group is None or group.expires_ms <= now:
            return None
        return FailureGroup.from_wire(id, group.wire, jobs=len(group.jobs), repeated=len(group.again), now_ms=now)
