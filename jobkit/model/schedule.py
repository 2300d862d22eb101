"""A schedule as it is kept: what to run, when, by which rules, and how its last runs went.

Pure data. Which moments a schedule means is told by `jobkit.schedules`, which knows cron lines and time zones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from jobkit.model.spec import JobSpec

#: So many runs are kept with a schedule, newest first.
RUNS_KEPT = 14

MISSED = ("once", "skip", "all")
OVERLAP = ("allow", "skip", "wait")

#: Fields of `ScheduleSpec` that say when; a change of them begins a new row of slots.
_TIMING = ("cron", "every_ms", "at_ms", "tz", "until_ms", "count")


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """What was asked for. Exactly one of `cron`, `every_ms` and `at_ms` is set.

    Attributes:
        name: 1 to 200 characters of `[A-Za-z0-9_.:-]`; scheduling again under a name changes that schedule.
        job: what each of its jobs is, but for id and times.
        cron: five fields, meant in the time zone `tz`.
        every_ms: from one slot to the next.
        at_ms: the one slot.
        until_ms: no slot after this moment; 0 for no end. `count`: so many runs in all; 0 for no bound.
        missed: of slots that nobody could fire in time: "once" runs the newest of them, "skip" none, "all" each, but
            at most the newest `missed_limit`.
        overlap: while the run before has not ended: "allow" starts the next beside it, "skip" leaves it out, "wait"
            starts it when that one has ended.
        module: where `@task(schedule=...)` stands, for a schedule that comes from the code and changes with it; "" for
            one that somebody made or changed at run time.
    """

    name: str
    job: JobSpec
    cron: str = ""
    every_ms: int = 0
    at_ms: int = 0
    tz: str = "UTC"
    until_ms: int = 0
    count: int = 0
    missed: str = "once"
    missed_limit: int = 100
    overlap: str = "allow"
    module: str = ""

    def timing(self) -> dict[str, Any]:
        """What says when, in wire form."""
        return {name: value for name in _TIMING if (value := getattr(self, name))}

    def to_wire(self) -> dict[str, Any]:
        """JSON for the record; fields at their default are left out."""
        wire: dict[str, Any] = {"name": self.name, "job": self.job.to_wire()}
        for f in fields(self)[2:]:
            if (value := getattr(self, f.name)) != f.default:
                wire[f.name] = value
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> ScheduleSpec:
        """The spec in a record; fields of a newer version are ignored."""
        known = {f.name: wire[f.name] for f in fields(cls) if f.name in wire}
        return cls(**{**known, "job": JobSpec.from_wire(wire["job"])})


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """What became of a slot.

    Attributes:
        slot_ms: for which moment; 0 where somebody started it by hand. Of several that were left out, the first.
        at_ms: when it was fired or left out, by the store's clock.
        job_id: its job, or "" where there is none.
        state: of that job: the last one known, kept longer than the job itself. `started_ms`, `finished_ms` likewise.
        why: why there is no job: "missed", "overlap", or a sentence about what is wrong with it.
        count: so many slots in a row that were left out for the same reason.
    """

    slot_ms: int
    at_ms: int = 0
    job_id: str = ""
    state: str = ""
    started_ms: int = 0
    finished_ms: int = 0
    why: str = ""
    count: int = 1

    @property
    def slot_at(self) -> datetime | None:
        """For which moment (aware, UTC); None by hand."""
        return _instant(self.slot_ms)

    @property
    def at(self) -> datetime | None:
        """When it was fired or left out."""
        return _instant(self.at_ms)

    @property
    def started_at(self) -> datetime | None:
        return _instant(self.started_ms)

    @property
    def finished_at(self) -> datetime | None:
        return _instant(self.finished_ms)

    @property
    def late_s(self) -> float:
        """How long after its moment it was fired, or has its job waited for a worker until it started."""
        return max(0, (self.started_ms or self.at_ms) - self.slot_ms) / 1000 if self.slot_ms and self.job_id else 0.0

    @property
    def duration_s(self) -> float | None:
        """How long its job ran; None where it did not, or has not ended."""
        return (self.finished_ms - self.started_ms) / 1000 if self.started_ms and self.finished_ms else None

    def to_wire(self) -> dict[str, Any]:
        wire: dict[str, Any] = {"slot": self.slot_ms, "at": self.at_ms}
        others = {"job": self.job_id, "state": self.state, "started": self.started_ms, "finished": self.finished_ms}
        wire |= {name: value for name, value in (others | {"why": self.why}).items() if value}
        return wire if self.count == 1 else wire | {"n": self.count}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> ScheduleRun:
        return cls(
            slot_ms=int(wire["slot"]),
            at_ms=int(wire["at"]),
            job_id=str(wire.get("job", "")),
            state=str(wire.get("state", "")),
            started_ms=int(wire.get("started", 0)),
            finished_ms=int(wire.get("finished", 0)),
            why=str(wire.get("why", "")),
            count=int(wire.get("n", 1)),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "slot_at": instant_iso(self.slot_ms),
            "at": instant_iso(self.at_ms),
            "job_id": self.job_id,
            "state": self.state,
            "started_at": instant_iso(self.started_ms),
            "finished_at": instant_iso(self.finished_ms),
            "late_s": self.late_s,
            "why": self.why,
            "count": self.count,
        }


@dataclass(frozen=True, slots=True)
class ScheduleSnapshot:
    """All that is known of a schedule. Moments in milliseconds by the store's clock; 0 for none.

    Attributes:
        spec: what was asked for.
        rev: another one after each change of it.
        anchor_ms: from where the slots of `every_ms` are counted.
        next_ms: the next slot; 0 where there is none, or while it is paused.
        paused_ms: since when it is paused. `ended_ms`: since when no slot is left.
        holds_for: id of the job whose end the next slot waits for (`overlap="wait"`), or "".
        fired: slots that became jobs since the timing was set. `left_out`: those that did not.
        runs: the last ones, newest first, at most `RUNS_KEPT`.
        now_ms: when this was read.
    """

    spec: ScheduleSpec
    rev: str = ""
    anchor_ms: int = 0
    next_ms: int = 0
    paused_ms: int = 0
    ended_ms: int = 0
    holds_for: str = ""
    fired: int = 0
    left_out: int = 0
    runs: tuple[ScheduleRun, ...] = field(default=(), repr=False)
    now_ms: int = 0

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_paused(self) -> bool:
        return self.paused_ms > 0

    @property
    def overdue_s(self) -> float:
        """How long its next slot is over and not fired; 0 where it only waits for the run before it."""
        return max(0, self.now_ms - self.next_ms) / 1000 if self.next_ms and not self.holds_for else 0.0

    def to_json(self) -> dict[str, Any]:
        """For the command line and HTTP: the contract's names, times as ISO 8601 UTC."""
        spec = self.spec
        return {
            "id": spec.name,
            "name": spec.name,
            "task": spec.job.task,
            "title": spec.job.title or spec.job.task,
            "params": dict(spec.job.params),
            "queue": spec.job.queue,
            "owner": spec.job.owner,
            "tags": list(spec.job.tags),
            "cron": spec.cron,
            "every": spec.every_ms / 1000 if spec.every_ms else None,
            "at": instant_iso(spec.at_ms),
            "tz": spec.tz,
            "until": instant_iso(spec.until_ms),
            "count": spec.count or None,
            "missed": spec.missed,
            "missed_limit": spec.missed_limit,
            "overlap": spec.overlap,
            "from_code": spec.module,
            "next_at": instant_iso(self.next_ms),
            "paused": self.is_paused,
            "ended_at": instant_iso(self.ended_ms),
            "holds_for": self.holds_for,
            "overdue_s": self.overdue_s,
            "fired": self.fired,
            "left_out": self.left_out,
            "runs": [run.to_json() for run in self.runs],
        }


def instant_iso(ms: int) -> str | None:
    """`2026-11-24T15:00:00.123Z`, or None for 0."""
    at = _instant(ms)
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _instant(ms: int) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, UTC) if ms else None
