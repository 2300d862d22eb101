"""Stored schedules: task, timing, overlap rules and recent runs.

Pure data. `timing.py` computes the slots; it knows cron lines and time zones.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from jobkit.model.plain import Record, instant, to_json
from jobkit.model.spec import JobSpec
from jobkit.store.values import Submission

MISSED = ("once", "skip", "all")
OVERLAP = ("allow", "skip", "wait")

#: Subscription key for changes of schedules; the event's data has the `name`.
SCHEDULES_CHANGED = "schedules"

#: Fields of `ScheduleSpec` that define the timing. Changing one of them restarts the slots.
_TIMING = ("cron", "every_ms", "at_ms", "tz", "until_ms", "count")


class ScheduleSpec(Record, frozen=True):
    """Definition of a schedule. Exactly one of `cron`, `every_ms` and `at_ms` is set.

    Attributes:
        name: 1 to 200 characters of `[A-Za-z0-9_.:-]`; scheduling again under this name replaces the definition.
        job: template of its jobs, without id and times.
        cron: five fields, in the time zone `tz`.
        every_ms: interval between slots.
        at_ms: the only slot.
        until_ms: no slot after this time; 0 for no end. `count`: maximum number of runs; 0 for no limit.
        missed: for slots that no worker fired in time: "once" runs the newest of them, "skip" none, "all" each, but at
            most the newest `missed_limit`.
        overlap: if the previous run has not ended: "allow" starts the next one anyway, "skip" drops it, "wait" starts
            it when the previous one ends.
        module: module of `@task(schedule=...)` for a schedule that is defined in code and changes with it; "" for one
            that was created or changed at run time.
        blobs: names of the large parts of its arguments.
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
    blobs: tuple[str, ...] = ()

    def timing(self) -> dict[str, Any]:
        """Return the timing fields in wire form."""
        return {name: value for name in _TIMING if (value := getattr(self, name))}


#: Names of fields of a `ScheduleRun` in the store, if other than here.
_RUN = {
    "slot_ms": "slot", "at_ms": "at", "job_id": "job", "started_ms": "started", "finished_ms": "finished", "count": "n",
}  # fmt: skip


class ScheduleRun(msgspec.Struct, frozen=True, omit_defaults=True, rename=_RUN):
    """Outcome of a slot.

    Attributes:
        slot_ms: scheduled time; 0 if started by hand. For several skipped slots, the first of them.
        at_ms: when it was fired or skipped, by the store's clock.
        job_id: its job, or "" if none was created.
        state: last known state of that job, kept longer than the job. `started_ms`, `finished_ms`: likewise.
        why: why there is no job: "missed", "overlap", or an error message.
        count: number of consecutive slots that were skipped for the same reason.
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
        """Scheduled time (aware, UTC), or None if started by hand."""
        return instant(self.slot_ms)

    @property
    def at(self) -> datetime | None:
        """When it was fired or skipped (aware, UTC)."""
        return instant(self.at_ms)

    @property
    def started_at(self) -> datetime | None:
        return instant(self.started_ms)

    @property
    def finished_at(self) -> datetime | None:
        return instant(self.finished_ms)

    @property
    def late_s(self) -> float:
        """Seconds from the scheduled time to the start of the job, or to its submission if it has not started."""
        return max(0, (self.started_ms or self.at_ms) - self.slot_ms) / 1000 if self.slot_ms and self.job_id else 0.0

    @property
    def duration_s(self) -> float | None:
        """Seconds that the job ran, or None if it has not started or not ended."""
        return (self.finished_ms - self.started_ms) / 1000 if self.started_ms and self.finished_ms else None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible data for the CLI and HTTP; times as ISO 8601 UTC."""
        return {name: to_json(getattr(self, name)) for name in _RUN_JSON}


#: Fields of `ScheduleRun.to_json`.
_RUN_JSON = ("slot_at", "at", "job_id", "state", "started_at", "finished_at", "late_s", "why", "count")

#: Names of fields of a `ScheduleSnapshot` in the store, if other than here.
_SNAPSHOT = {
    "anchor_ms": "anchor", "next_ms": "next", "paused_ms": "paused", "ended_ms": "ended", "holds_for": "holds",
    "last_job": "last",
}  # fmt: skip


class ScheduleSnapshot(msgspec.Struct, frozen=True, rename=_SNAPSHOT):
    """State of a schedule. Times are in milliseconds by the store's clock; 0 for none.

    Attributes:
        spec: its definition.
        rev: changes with each change of the schedule.
        anchor_ms: origin of the slots of `every_ms`.
        next_ms: the next slot; 0 if there is none, or while it is paused.
        paused_ms: when it was paused. `ended_ms`: when it ran out of slots.
        holds_for: id of the job that must end before the next slot (`overlap="wait"`), or "".
        fired: slots since the last change of the timing that became jobs. `left_out`: slots that did not.
        last_job: id of the job of the newest run that has one, or "".
        runs: recent runs, newest first, at most 14; not read for a schedule whose slot is due.
        now_ms: when this was read.
        is_running, payload: `last_job` has not ended; the sealed arguments. Read for a schedule whose slot is due.
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
    last_job: str = ""
    runs: tuple[ScheduleRun, ...] = ()
    now_ms: int = 0
    is_running: bool = False
    payload: bytes = b""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_paused(self) -> bool:
        return self.paused_ms > 0

    def __repr__(self) -> str:
        next_at = instant(self.next_ms)
        state = "paused" if self.is_paused else f"next at {next_at:%Y-%m-%dT%H:%M:%SZ}" if next_at else "ended"
        return f"<ScheduleSnapshot {self.name} {self.spec.job.task}, {state}, fired {self.fired}>"

    @property
    def overdue_s(self) -> float:
        """Seconds since the next slot should have fired; 0 if it waits for the previous run."""
        return max(0, self.now_ms - self.next_ms) / 1000 if self.next_ms and not self.holds_for else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible data for the CLI and HTTP; times as ISO 8601 UTC."""
        spec = self.spec
        return {
            "id": spec.name,
            "name": spec.name,
            "title": spec.job.title or spec.job.task,
            **{name: to_json(getattr(spec.job, name)) for name in ("task", "params", "queue", "owner", "tags")},
            **{name: getattr(spec, name) for name in ("cron", "tz", "missed", "missed_limit", "overlap")},
            "every": spec.every_ms / 1000 if spec.every_ms else None,
            "at": to_json(instant(spec.at_ms)),
            "until": to_json(instant(spec.until_ms)),
            "count": spec.count or None,
            "from_code": spec.module,
            "next_at": to_json(instant(self.next_ms)),
            "ended_at": to_json(instant(self.ended_ms)),
            "paused": self.is_paused,
            **{name: getattr(self, name) for name in ("holds_for", "overdue_s", "fired", "left_out")},
            "runs": [run.to_json() for run in self.runs],
        }


class Firing(msgspec.Struct, frozen=True):
    """Decision about the due slots of a schedule, stored if its slot is still the next one.

    Attributes:
        rev, slot_ms: as they were read; the store rejects the firing if either has changed. A slot of 0 is a manual
            run, which does not change the timing.
        jobs: jobs to submit. `runs`: runs to store with the schedule, oldest first.
        next_ms: the next slot; 0 for none, which ends the schedule. `look_ms`: when the schedule is due again.
        holds_for: id of a job whose end the slot waits for; then nothing else is written.
        slots: each becomes a job, oldest first.
        left_out: number of slots without a job, from the slot `first_ms` on; `why` is the reason.
    """

    name: str
    rev: str
    slot_ms: int
    jobs: Sequence[Submission] = ()
    runs: Sequence[ScheduleRun] = ()
    next_ms: int = 0
    look_ms: int = 0
    holds_for: str = ""
    slots: tuple[int, ...] = ()
    left_out: int = 0
    first_ms: int = 0
    why: str = ""
