"""What stores and workers say to each other about schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from jobkit.model import ScheduleRun, ScheduleSnapshot, ScheduleSpec

if TYPE_CHECKING:
    from jobkit.store.values import Submission, SubmitReply

#: The job id under which a hub tells of a change of any schedule; the event's data has its `name`.
CHANGED = "schedules"


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule whose slot has come, for whoever asked first; others find it again half a second later.

    Attributes:
        slot_ms: the slot. `now_ms`: the store's clock.
        is_held: it has waited for the end of the run before it. `is_running`: that run has not ended.
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
    """What shall become of a slot, if it is still the next one.

    Attributes:
        rev, slot_ms: as they were read; the store refuses where either is another one now. A slot of 0 is a run by
            hand, which moves nothing.
        jobs: to be submitted. `runs`: to be kept with the schedule, oldest first.
        next_ms: the next slot; 0 for none: then the schedule has ended. `look_ms`: when to look again.
        holds_for: id of a job whose end the slot waits for: then nothing but that is written.
        left_out: so many slots have no job.
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
        """The store's clock, in milliseconds."""
        ...

    async def put_schedule(self, spec: ScheduleSpec, payload: bytes, next_ms: int) -> bool:
        """Keep a schedule, or change the one of its name; pauses and past runs stay.

        Args:
            payload: its sealed arguments.
            next_ms: its next slot, and for `every_ms` one interval after the moment from which slots are counted. Not
                looked at where the timing is what it was.

        Returns:
            False where it comes from the code (`spec.module`) and somebody has changed it at run time: that stays.
        """
        ...

    async def schedules(self, names: Sequence[str] | None = None) -> list[ScheduleSnapshot]:
        """All schedules, or those of these names that are kept; by name."""
        ...

    async def schedule_payload(self, name: str) -> bytes | None:
        """The sealed arguments."""
        ...

    async def due_schedules(self, limit: int = 20) -> tuple[list[DueSchedule], float]:
        """Schedules whose slot has come, and the seconds until somebody should look again (infinity: none known)."""
        ...

    async def fire(self, firing: Firing) -> list[SubmitReply] | None:
        """Submit the jobs of a slot and set the next one, once however many try.

        Returns:
            The replies to the submits of its jobs; None if the slot is not the next one any more, or the schedule is
            paused, was changed or is gone.
        """
        ...

    async def pause_schedule(self, name: str) -> bool:
        """Fire nothing until it is resumed; False where there is none."""
        ...

    async def resume_schedule(self, name: str, rev: str, next_ms: int) -> bool:
        """Go on with the slot `next_ms` (0: none is left); False where there is none, or `rev` is another one now."""
        ...

    async def remove_schedule(self, name: str) -> bool:
        """Forget it; its jobs stay. False where there was none."""
        ...


def timing_text(spec: ScheduleSpec) -> bytes:
    """Two schedules with the same text have the same slots."""
    return msgspec.json.encode(spec.timing())


def snapshot_of(record: Mapping[bytes, bytes], runs: Sequence[ScheduleRun], now_ms: int) -> ScheduleSnapshot:
    """The snapshot in a schedule's hash.

    Raises:
        ValueError, KeyError, TypeError: something else is written there.
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
    """The same with `(state, started_ms)` of the runs whose jobs have not ended."""
    runs = tuple(
        replace(run, state=states[run.job_id][0], started_ms=states[run.job_id][1]) if run.job_id in states else run
        for run in snapshot.runs
    )
    return replace(snapshot, runs=runs)


def put_args(spec: ScheduleSpec, payload: bytes, next_ms: int) -> list[Any]:
    """Arguments of `schedule_put`."""
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
    """What `schedule_due` says of one; see there.

    Raises:
        ValueError, KeyError, TypeError: something else is written there.
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
