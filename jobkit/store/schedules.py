"""Arguments and return values of the store's verbs for schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from jobkit.model import ScheduleRun, ScheduleSnapshot, ScheduleSpec

if TYPE_CHECKING:
    from jobkit.store.values import Submission, SubmitReply

#: Channel (used like a job id) on which a hub reports changes of schedules; the event's data has the `name`.
CHANGED = "schedules"


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule with a due slot. Only the first worker to ask gets it; others get it again after half a second.

    Attributes:
        slot_ms: the slot. `now_ms`: the store's clock.
        is_held: it has waited for the end of the previous run. `is_running`: that run has not ended.
        last_job: id of that run's job.
        payload: the sealed arguments.
    """

    spec: ScheduleSpec
    rev: str
    slot_ms: int
    now_ms: int
    anchor_ms: int = 0
    fired: int = 0
    is_held: bool = False
    is_running: bool = False
    last_job: str = ""
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Firing:
    """Outcome of a slot, if it is still the next one.

    Attributes:
        rev, slot_ms: as they were read; the store rejects the firing if either has changed. A slot of 0 is a manual
            run, which does not change the timing.
        jobs: jobs to submit. `runs`: runs to store with the schedule, oldest first.
        next_ms: the next slot; 0 for none, which ends the schedule. `look_ms`: when the schedule is due again.
        holds_for: id of a job whose end the slot waits for; then nothing else is written.
        left_out: number of slots without a job.
    """

    name: str
    rev: str
    slot_ms: int
    jobs: Sequence[Submission] = ()
    runs: Sequence[ScheduleRun] = ()
    next_ms: int = 0
    look_ms: int = 0
    holds_for: str = ""
    left_out: int = 0


class Schedules(Protocol):
    """The verbs of a store about schedules; part of `jobkit.store.base.Store`."""

    async def clock(self) -> int:
        """Return the store's clock in milliseconds."""
        ...

    async def put_schedule(self, spec: ScheduleSpec, payload: bytes, next_ms: int) -> bool:
        """Store a schedule, or change the one with this name; pauses and past runs are kept.

        Args:
            payload: its sealed arguments.
            next_ms: its next slot; for `every_ms` one interval after the origin of the slots. Ignored if the timing has
                not changed.

        Returns:
            False if it is defined in code (`spec.module`) and was changed at run time, which takes precedence.
        """
        ...

    async def schedules(self, names: Sequence[str] | None = None) -> list[ScheduleSnapshot]:
        """Return all schedules, or those with these names, sorted by name."""
        ...

    async def schedule_payload(self, name: str) -> bytes | None:
        """Return the sealed arguments."""
        ...

    async def due_schedules(self, limit: int = 20) -> tuple[list[DueSchedule], float]:
        """Return due schedules, and the seconds until the next one is due (infinity: none known)."""
        ...

    async def fire(self, firing: Firing) -> list[SubmitReply] | None:
        """Submit the jobs of a slot and set the next one; takes effect once, however many workers try.

        Returns:
            The replies to the submits of its jobs; None if the slot is no longer the next one, or the schedule is
            paused, was changed or removed.
        """
        ...

    async def pause_schedule(self, name: str) -> bool:
        """Pause a schedule; False if it does not exist."""
        ...

    async def resume_schedule(self, name: str, rev: str, next_ms: int) -> bool:
        """Resume with the slot `next_ms` (0: none left); False if it does not exist or `rev` has changed."""
        ...

    async def remove_schedule(self, name: str) -> bool:
        """Remove a schedule; its jobs stay. False if it does not exist."""
        ...


def timing_text(spec: ScheduleSpec) -> bytes:
    """Return the timing as text; schedules with the same text have the same slots."""
    return msgspec.json.encode(spec.timing())


def snapshot_of(record: Mapping[bytes, bytes], runs: Sequence[ScheduleRun], now_ms: int) -> ScheduleSnapshot:
    """Return the snapshot in a schedule's hash.

    Raises:
        ValueError, KeyError, TypeError: the hash is damaged.
    """

    def number(field: bytes) -> int:
        return int(float(record.get(field) or 0))

    spec = ScheduleSpec.from_wire(msgspec.json.decode(record[b"spec"]))
    return ScheduleSnapshot(
        spec=spec,
        rev=record[b"rev"].decode(),
        anchor_ms=number(b"anchor"),
        next_ms=number(b"next"),
        paused_ms=number(b"paused"),
        ended_ms=number(b"ended"),
        holds_for=record.get(b"holds", b"").decode("utf-8", "replace"),
        fired=number(b"fired"),
        left_out=number(b"left_out"),
        runs=tuple(runs),
        now_ms=now_ms,
    )


def with_states(snapshot: ScheduleSnapshot, states: Mapping[str, tuple[str, int]]) -> ScheduleSnapshot:
    """Return the snapshot with `(state, started_ms)` of the runs whose jobs have not ended."""
    runs = tuple(
        replace(run, state=states[run.job_id][0], started_ms=states[run.job_id][1]) if run.job_id in states else run
        for run in snapshot.runs
    )
    return replace(snapshot, runs=runs)


def put_args(spec: ScheduleSpec, payload: bytes, next_ms: int) -> list[Any]:
    """Return the arguments of `schedule_put`."""
    options = {
        "name": spec.name,
        "spec": msgspec.json.encode(spec.to_wire()).decode(),
        "timing": timing_text(spec).decode(),
        "next": next_ms,
        "anchor": next_ms - spec.every_ms if spec.every_ms else 0,
        "is_code": bool(spec.module),
    }
    return [msgspec.json.encode(options), payload]


def due_of(row: Sequence[Any], now_ms: int) -> DueSchedule:
    """Decode an item of the reply of `schedule_due`.

    Raises:
        ValueError, KeyError, TypeError: the item is damaged.
    """
    spec, rev, slot, anchor, fired, holds, last, is_running, payload = row
    return DueSchedule(
        spec=ScheduleSpec.from_wire(msgspec.json.decode(spec)),
        rev=rev.decode(),
        slot_ms=int(float(slot)),
        now_ms=now_ms,
        anchor_ms=int(float(anchor or 0)),
        fired=int(fired or 0),
        is_held=bool(holds),
        is_running=is_running == 1,
        last_job=(last or b"").decode("utf-8", "replace"),
        payload=payload or b"",
    )
