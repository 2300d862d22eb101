"""Groups of failed jobs for the store in memory: what `lua/failures.lua` does, and the verbs that read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobkit.model import FailureGroup, JobSpec
from jobkit.model.failure import HOURS, REMEMBERED_MS, group_id, place_of
from jobkit.store.ordered import Ordered

if TYPE_CHECKING:
    from jobkit.store.memory_jobs import Jobs


@dataclass(slots=True)
class Group:
    """One group: its record, its jobs by the time they failed (us), and those that another job repeats."""

    wire: dict[str, str]
    jobs: Ordered = field(default_factory=Ordered)
    again: set[str] = field(default_factory=set)
    us: float = 0
    expires_ms: float = float("inf")


class Failures:
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


class MemoryFailures:
    """A part of `MemoryStore`, which has the rest."""

    _jobs: Jobs

    def _moving(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    async def failures(self, states: Sequence[str] = (), task: str = "", limit: int = 100) -> list[FailureGroup]:
        with self._moving():
            known = sorted(self._jobs.failures.groups.items(), key=lambda item: -item[1].us)
            all_of_them = [self._jobs.failures.read(id, self._jobs.now) for id, _ in known]
        return [
            group
            for group in all_of_them
            if group is not None and (not states or group.state in states) and task in ("", group.task)
        ][:limit]

    async def failure(self, group: str) -> FailureGroup | None:
        with self._moving():
            return self._jobs.failures.read(group, self._jobs.now)

    async def failed_jobs(
        self,
        group: str,
        *,
        before: str = "",
        limit: int = 100,
        oldest_first: bool = False,
        is_repeated: bool | None = None,
        until: float | None = None,
    ) -> tuple[list[str], str]:
        with self._moving():
            known = self._jobs.failures.groups.get(group)
            if known is None:
                return [], ""
            members = list(known.jobs.below(float("inf")))
            last = float("inf") if until is None else until
            if oldest_first:
                members = [(id, us) for id, us in reversed(members) if float(before or "-inf") < us <= last]
            else:
                members = [(id, us) for id, us in members if us < float(before or "inf")]
            if is_repeated is not None:
                members = [(id, us) for id, us in members if (id in known.again) == is_repeated]
            page = members[:limit]
            return [id for id, _ in page], f"{page[-1][1]:.0f}" if len(page) == limit else ""

    async def judge(self, groups: Sequence[str], state: str, by: str = "") -> list[bool]:
        with self._moving():
            now, failures = self._jobs.now, self._jobs.failures
            known = [failures.read(id, now) is not None for id in groups]
            for id in [id for id, is_known in zip(groups, known, strict=True) if is_known]:
                group = failures.groups[id]
                if state != "dropped":
                    group.wire |= {"state": state, "by": by, "changed": str(now)}
                    if not group.jobs:
                        failures.emptied(id, now)
                elif not group.jobs:
                    del failures.groups[id]
            self._jobs.tell_control()
            return known

    async def groups_of(self, job_ids: Sequence[str]) -> list[str]:
        with self._moving():
            return [self._jobs.failures.of.get(job_id, "") for job_id in job_ids]

    async def payloads(self, job_ids: Sequence[str]) -> list[bytes | None]:
        with self._moving():
            return [record.payload if (record := self._jobs.find(job_id)) else None for job_id in job_ids]
