"""The verbs of the store in memory about schedules: what `lua/schedule*.lua` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from jobkit.model import EventType, JobEvent, JobSpec, ScheduleRun, ScheduleSnapshot, ScheduleSpec
from jobkit.model.schedule import RUNS_KEPT
from jobkit.store import records
from jobkit.store.memory_part import MemoryPart
from jobkit.store.ordered import Ordered
from jobkit.store.schedules import CHANGED, DueSchedule, Firing, timing_text
from jobkit.store.values import SubmitReply

#: As in `redis_schedules`.
_FIRING_MS = 500


@dataclass(slots=True)
class Entry:
    """One schedule. `look_ms`: when somebody should look; it is forgotten at `expires_ms`."""

    snapshot: ScheduleSnapshot
    payload: bytes
    last_job: str = ""
    expires_ms: float = float("inf")


class MemorySchedules(MemoryPart):
    def _submit(self, spec: JobSpec, payload: bytes, client: str, n: int) -> int | str:
        raise NotImplementedError

    def _begin_schedules(self) -> None:
        self._schedules: dict[str, Entry] = {}
        self._looks = Ordered()
        self._jobs.on_end = self._schedule_ended

    async def clock(self) -> int:
        with self._moving():
            return self._jobs.now

    async def put_schedule(self, spec: ScheduleSpec, payload: bytes, next_ms: int) -> bool:
        spec = ScheduleSpec.from_wire(msgspec.json.decode(msgspec.json.encode(spec.to_wire())))  # a copy
        with self._moving():
            entry = self._find(spec.name)
            old = entry.snapshot if entry is not None else ScheduleSnapshot(spec)
            if spec.module and entry is not None:
                if not old.spec.module:
                    return False
                if old.spec == spec and entry.payload == payload:
                    return True
            now = replace(old, spec=spec, rev=str(self._jobs.now_us), holds_for="", next_ms=old.next_ms or 0)
            is_kept = entry is not None and not old.ended_ms and timing_text(old.spec) == timing_text(spec)
            if not is_kept:
                anchor_ms = next_ms - spec.every_ms if spec.every_ms else 0
                now = replace(now, next_ms=next_ms, anchor_ms=anchor_ms, fired=0, left_out=0, ended_ms=0)
            if now.paused_ms:
                now = replace(now, next_ms=0)
            last_job = entry.last_job if entry is not None else ""
            self._schedules[spec.name] = Entry(now, payload, last_job)
            self._looks.add(spec.name, now.next_ms or float("inf"))
            self._tell_changed(spec.name)
            return True

    async def schedules(self, names: Sequence[str] | None = None) -> list[ScheduleSnapshot]:
        with self._moving():
            found = [entry for name in sorted(names or self._schedules) if (entry := self._find(name)) is not None]
            if names is not None and not names:
                return []
            return [
                replace(entry.snapshot, runs=tuple(map(self._living, entry.snapshot.runs)), now_ms=self._jobs.now)
                for entry in found
            ]

    def _living(self, run: ScheduleRun) -> ScheduleRun:
        """A run with the state of its job, where that has not ended."""
        if not run.job_id or run.finished_ms:
            return run
        record = self._jobs.find(run.job_id)
        if record is None:
            return replace(run, state="", started_ms=0)
        started = record.snapshot.started_at
        return replace(run, state=str(record.snapshot.state), started_ms=_ms(started.timestamp()) if started else 0)

    async def schedule_payload(self, name: str) -> bytes | None:
        with self._moving():
            entry = self._find(name)
            return entry.payload if entry is not None else None

    async def due_schedules(self, limit: int = 20) -> tuple[list[DueSchedule], float]:
        due: list[DueSchedule] = []
        with self._moving():
            now_ms = self._jobs.now
            for name, _ in self._looks.until(now_ms, limit):
                entry = self._find(name)
                if entry is None:
                    continue
                snapshot = entry.snapshot
                if not snapshot.next_ms:
                    self._looks.add(name, float("inf") if snapshot.is_paused else now_ms + 60_000)
                    continue
                self._looks.add(name, now_ms + _FIRING_MS)
                due.append(
                    DueSchedule(
                        spec=snapshot.spec,
                        rev=snapshot.rev,
                        slot_ms=snapshot.next_ms,
                        now_ms=now_ms,
                        anchor_ms=snapshot.anchor_ms,
                        fired=snapshot.fired,
                        is_held=bool(snapshot.holds_for),
                        is_running=self._is_running(entry.last_job),
                        last_job=entry.last_job,
                        payload=entry.payload,
                    )
                )
            look = self._looks.lowest()
            return due, float("inf") if look is None else max(0.0, look - now_ms) / 1000

    def _is_running(self, job_id: str) -> bool:
        record = self._jobs.find(job_id)
        return record is not None and not record.snapshot.is_terminal

    async def fire(self, firing: Firing) -> list[SubmitReply] | None:
        specs = [JobSpec.from_wire(msgspec.json.decode(msgspec.json.encode(job.spec.to_wire()))) for job in firing.jobs]
        with self._moving():
            entry = self._find(firing.name)
            if entry is None:
                return None
            was = entry.snapshot
            if firing.slot_ms and (was.rev != firing.rev or was.next_ms != firing.slot_ms or was.is_paused):
                return None
            if firing.holds_for:
                entry.snapshot = replace(was, holds_for=firing.holds_for)
                is_running = self._is_running(firing.holds_for)
                self._looks.add(firing.name, firing.look_ms if is_running else self._jobs.now)
                if was.holds_for != firing.holds_for:
                    self._tell_changed(firing.name)
                return []
            runs = (*reversed(firing.runs), *was.runs)[:RUNS_KEPT]
            for run in firing.runs:
                entry.last_job = run.job_id or entry.last_job
            fired = was.fired + (len(specs) if firing.slot_ms else 0)
            entry.snapshot = replace(was, runs=runs, fired=fired, left_out=was.left_out + firing.left_out)
            if firing.slot_ms:
                entry.snapshot = replace(entry.snapshot, next_ms=firing.next_ms, holds_for="")
                if firing.next_ms:
                    self._looks.add(firing.name, firing.look_ms)
                else:
                    self._end(entry)
            self._tell_changed(firing.name)
            both = list(zip(specs, firing.jobs, strict=True))
            answers = [self._submit(spec, job.payload, "", n) for n, (spec, job) in enumerate(both)]
            self._jobs.now_us += len(specs)
            return records.answers(firing.jobs, answers)

    def _end(self, entry: Entry) -> None:
        entry.snapshot = replace(entry.snapshot, ended_ms=self._jobs.now, next_ms=0, holds_for="")
        entry.expires_ms = self._jobs.now + self._ttl_ms
        self._looks.add(entry.snapshot.name, entry.expires_ms + 1000)

    async def pause_schedule(self, name: str) -> bool:
        with self._moving():
            entry = self._find(name)
            if entry is None:
                return False
            if not entry.snapshot.is_paused and not entry.snapshot.ended_ms:
                entry.snapshot = replace(entry.snapshot, paused_ms=self._jobs.now, next_ms=0, holds_for="")
                self._looks.add(name, float("inf"))
                self._tell_changed(name)
            return True

    async def resume_schedule(self, name: str, rev: str, next_ms: int) -> bool:
        with self._moving():
            entry = self._find(name)
            if entry is None or entry.snapshot.rev != rev:
                return False
            if entry.snapshot.is_paused:
                entry.snapshot = replace(entry.snapshot, paused_ms=0, next_ms=next_ms)
                if next_ms:
                    self._looks.add(name, next_ms)
                else:
                    self._end(entry)
                self._tell_changed(name)
            return True

    async def remove_schedule(self, name: str) -> bool:
        with self._moving():
            entry = self._find(name)
            if entry is None:
                return False
            self._forget_schedule(name)
            self._tell_changed(name)
            return True

    def _find(self, name: str) -> Entry | None:
        entry = self._schedules.get(name)
        if entry is not None and entry.expires_ms <= self._jobs.now:
            self._forget_schedule(name)
            return None
        return entry

    def _forget_schedule(self, name: str) -> None:
        self._schedules.pop(name, None)
        self._looks.remove(name)

    def _schedule_ended(self, spec: JobSpec, state: str, started_ms: int) -> None:
        """The job of a schedule has ended; called by whatever ended it."""
        entry = self._find(spec.schedule)
        if entry is None:
            return
        now_ms = self._jobs.now
        runs = tuple(
            replace(run, state=state, started_ms=started_ms, finished_ms=now_ms) if run.job_id == spec.id else run
            for run in entry.snapshot.runs
        )
        entry.snapshot = replace(entry.snapshot, runs=runs)
        if entry.snapshot.holds_for == spec.id:
            self._looks.add(spec.schedule, now_ms)
        self._tell_changed(spec.schedule)

    def _tell_changed(self, name: str) -> None:
        self._jobs.outbox.append((JobEvent(CHANGED, 1, EventType.LOGGED, self._jobs.now, {"name": name}), ""))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
