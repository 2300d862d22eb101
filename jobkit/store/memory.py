"""The store in one process, behind `sync://`, and its hub.

It does what the Lua transitions do, with the same answers, events and order (`tests/store` runs one suite over both),
but for the hand-over to idle workers: nobody waits here. One lock makes each verb atomic. What a verb has to tell is
told when the lock is free again, in order, before the verb returns; see `memory_hub`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from jobkit.model import EventType, JobEvent, JobSnapshot, JobSpec, JobState, Rule, Waiting
from jobkit.model.audit import AuditEntry
from jobkit.model.snapshot import finite_or_none
from jobkit.settings import Settings
from jobkit.store import records
from jobkit.store.memory_audit import MemoryAudit
from jobkit.store.memory_failures import MemoryFailures
from jobkit.store.memory_files import MemoryFiles
from jobkit.store.memory_hub import MemoryHub
from jobkit.store.memory_jobs import Record
from jobkit.store.memory_list import MemoryList
from jobkit.store.memory_look import MemoryLook
from jobkit.store.memory_move import MemoryMove
from jobkit.store.memory_schedules import MemorySchedules
from jobkit.store.memory_web import MemoryWeb
from jobkit.store.values import (
    ALREADY,
    AWAITED_MOST,
    FENCED,
    FINISHED,
    INLINE_RESULT_BYTES,
    Claimed,
    Ending,
    Progress,
    Renewal,
    Submission,
    SubmitReply,
    WorkerInfo,
    by_turns,
)

__all__ = ["MemoryHub", "MemoryStore"]

_json = msgspec.json.encode
_unjson = msgspec.json.decode

#: As in `lua/renew.lua`.
_WORKER_KEPT_MS = 3_600_000

_ENDS = {
    "succeeded": EventType.SUCCEEDED,
    "failed": EventType.FAILED,
    "cancelled": EventType.CANCELLED,
}


class MemoryStore(
    MemoryLook, MemoryFiles, MemoryFailures, MemoryMove, MemoryList, MemorySchedules, MemoryWeb, MemoryAudit
):
    """See `jobkit.store.base.Store`. Thread-safe; no verb waits for anything."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        super().__init__(settings, clock)
        self._revoked: dict[str, float] = {}
        self._attending: dict[str, tuple[float, bytes]] = {}
        self._audit: dict[str, AuditEntry] = {}
        self._audit_last = (0, 0)
        self._audit_kinds: dict[str, tuple[int, str, float]] = {}
        self._begin_schedules()
        self._workers: dict[str, dict[str, str]] = {}
        self._turns: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._tasks: dict[str, bytes] = {}
        self._left: list[str] = []
        self._awaited: dict[str, tuple[str, ...]] = {}  # by worker: what the jobs wait for that lend their slots

    # -- moving jobs ------------------------------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[Submission], client: str = "") -> list[SubmitReply]:
        # A copy each, before anything is stored: a spec that a record cannot hold refuses all of them, as in Redis.
        specs = [JobSpec.from_wire(_unjson(_json(job.spec.to_wire()))) for job in jobs]
        both = list(zip(specs, jobs, strict=True))
        with self._moving():
            answers = [self._submit(spec, job.payload, client, n) for n, (spec, job) in enumerate(both)]
            self._jobs.now_us += len(jobs)  # the next verb comes after the last of these
            return records.answers(jobs, answers)

    def _submit(self, spec: JobSpec, payload: bytes, client: str, n: int) -> int | str:
        is_there = self._jobs.find(spec.id) is not None
        known, other = self._jobs.same.known_as(spec, is_there)
        if known:
            if other is not None:
                self._queues.add(spec.queue)
                self._jobs.same.replace(other, spec, payload)
            return known
        if is_there:
            return 0
        self._jobs.forget(spec.id)
        due = max(self._jobs.now + spec.delay_ms, spec.at_ms)
        is_due_later = due > self._jobs.now and other is None
        state = JobState.SCHEDULED if is_due_later or (spec.needs and other is None) else JobState.QUEUED
        record = Record(JobSnapshot(spec, 0, state), self._jobs.now_us + n, payload, client)
        self._jobs.records[spec.id] = record
        self._jobs.by_age.add(spec.id, record.us)
        self._queues.add(spec.queue)
        if spec.retry_of:
            self._jobs.failures.repeat(spec.retry_of)
            self._jobs.tell_control()
        data: dict[str, Any] = {"state": str(state), "submitted": self._jobs.now}
        if is_due_later:
            data["due"] = due
        self._jobs.emit(record, EventType.SUBMITTED, data)
        self._jobs.same.stand(spec)
        if other is not None:
            self._jobs.same.end_as(record, other)
            return spec.id
        if state is JobState.QUEUED:
            self._jobs.enqueue(record, record.us)
        elif not spec.needs:
            self._jobs.due[spec.queue].add(spec.id, due + min(n, 2000) / 2048)
        if spec.needs:
            self._jobs.need(record)
        return self._jobs.now

    async def claim(
        self, worker: WorkerInfo, free: int, received: int = 0, awaited: Sequence[str] = (), lent: int = 0
    ) -> tuple[list[Claimed], float]:
        claimed: list[Claimed] = []
        with self._moving():
            self._jobs.recover(100)
            claimed += self._take_awaited(worker, awaited, lent)
            for queue in worker.queues:
                self._jobs.promote(queue, 100)
                self._jobs.hold.wake(queue)
                if worker.resources and free > 0:
                    self._jobs.hold.bring(queue, worker.id, worker.resources, free - len(claimed))
                if not worker.weights:
                    claimed += self._take(worker, queue, free - len(claimed))
            turns = self._turns[worker.id]
            for queue in by_turns(worker, turns):
                if len(claimed) >= free:
                    break
                if found := self._take(worker, queue, 1):
                    claimed += found
                    turns[queue] += 1 / worker.weights[queue]
                else:
                    del turns[queue]
            facts = {"free": free - len(claimed), "lease": self._jobs.lease_ms, "queues": ",".join(worker.queues)}
            self._workers.setdefault(worker.id, {}).update({name: str(fact) for name, fact in facts.items()})
            lines = (self._jobs.due, self._jobs.hold.wakes)
            moments = [
                self._jobs.leases.lowest(),
                *(line[queue].lowest() for line in lines for queue in worker.queues),
            ]
            next_at = min((at for at in moments if at is not None), default=float("inf"))
            return claimed, max(0.0, next_at - self._jobs.now) / 1000

    def _take_awaited(self, worker: WorkerInfo, awaited: Sequence[str], most: int) -> list[Claimed]:
        """Up to `most` of the jobs that running jobs wait for, or of those whose results these need."""
        self._awaited.pop(worker.id, None)
        if not awaited:
            return []
        self._awaited[worker.id] = tuple(awaited)
        lines = [awaited, *(ids for id, ids in self._awaited.items() if id != worker.id)]
        open_ids, seen = [job_id for ids in reversed(lines) for job_id in reversed(ids)], set[str]()
        taken: list[Claimed] = []
        while open_ids and len(taken) < most and len(seen) < AWAITED_MOST:
            record = self._jobs.find(job_id := open_ids.pop())
            if record is None or job_id in seen:
                continue
            seen.add(job_id)
            spec = record.snapshot.spec
            if record.waits:
                open_ids += reversed(spec.needs)
            elif spec.queue in worker.queues and job_id in self._jobs.ready[spec.queue]:
                score = self._jobs.ready[spec.queue].score(job_id)
                hold = self._jobs.hold
                if self._jobs.takes(worker.id, record) and hold.admit(record, score, worker.id, worker.resources):
                    taken.append(self._jobs.start(record, worker.id))
        return taken

    def _take(self, worker: WorkerInfo, queue: str, most: int) -> list[Claimed]:
        """Up to `most` jobs of a queue."""
        taken: list[Claimed] = []
        for job_id in list(self._jobs.ready[queue]):
            if len(taken) >= most:
                break
            record = self._jobs.records[job_id]
            if not self._jobs.takes(worker.id, record):
                continue
            may = self._jobs.hold.admit(record, self._jobs.ready[queue].score(job_id), worker.id, worker.resources)
            if may is False:
                break
            if may:
                taken.append(self._jobs.start(record, worker.id))
        return taken

    async def claim_one(self, worker: WorkerInfo, job_id: str) -> Claimed | None:
        """The right to run this one job, whatever its place in the line or its due time.

        None unless it waits, and while its queue or task is paused.
        """
        with self._moving():
            record = self._jobs.find(job_id)
            if record is None or record.waits:
                return None
            if self._jobs.hold.is_paused(record):
                self._left.append(job_id)
                return None
            if record.snapshot.state is JobState.SCHEDULED:
                self._jobs.due[record.snapshot.spec.queue].remove(job_id)
                self._jobs.emit(record, EventType.QUEUED, {"state": "queued"})
            if record.snapshot.state is JobState.QUEUED:
                self._jobs.hold.leave_line(record)
            return self._jobs.start(record, worker.id) if record.snapshot.state is JobState.QUEUED else None

    def take_left(self) -> list[str]:
        """Jobs that should have run here and were not given out, since something was paused; in their order, once."""
        with self._lock:
            left, self._left = list(dict.fromkeys(self._left)), []
            return left

    def take_freed(self) -> str:
        """A job that has got all results it waited for; "" where there is none."""
        with self._lock:
            return self._jobs.freed.popleft() if self._jobs.freed else ""

    async def progress(self, news: Sequence[Progress]) -> list[bool]:
        with self._moving():
            return [self._progress(item) for item in news]

    def _progress(self, news: Progress) -> bool:
        record = self._jobs.held(news.job_id, news.token)
        if record is None:
            return False
        seq = record.snapshot.seq
        if news.has_numbers:
            shown: dict[str, Any] = {"done": news.done, "total": news.total, "message": news.message}
            if news.awaits:
                shown["awaits"] = news.awaits
            numbers = _unjson(_json(shown))
            data = {"rev": record.snapshot.rev + 1, **numbers}
            event = JobEvent(news.job_id, seq, EventType.PROGRESSED, self._jobs.now, data)
            record.snapshot = replace(
                record.snapshot,
                rev=data["rev"],
                done=finite_or_none(data["done"]),
                total=finite_or_none(data["total"]),
                message=news.message,
                awaits=news.awaits,
            )
            self._jobs.outbox.append((event, record.client))
        if news.lines:
            wire = [line.to_wire() for line in news.lines]
            data = {"first": record.log.add(wire, len(_json(wire))), "lines": wire}
            self._jobs.outbox.append(
                (JobEvent(news.job_id, seq, EventType.LOGGED, self._jobs.now, data), record.client)
            )
        return True

    async def finish(self, endings: Sequence[Ending]) -> list[int]:
        with self._moving():
            return [self._finish(ending) for ending in endings]

    def _finish(self, ending: Ending) -> int:
        record = self._jobs.find(ending.job_id)
        if record is not None and record.fin == ending.token:
            return ALREADY
        record = self._jobs.held(ending.job_id, ending.token)
        if record is None:
            return FENCED
        record.fin = ending.token
        if ending.folder:
            self._jobs.filed[ending.job_id] = ending.folder
        data = _unjson(_json(ending.data()))
        outcome, snapshot = ending.outcome, record.snapshot
        if snapshot.cancel_requested_at is not None and outcome in ("retried", "released"):
            outcome = "cancelled"
            data.pop("error", None)
        if outcome == "lost" or (outcome == "released" and snapshot.spec.on_lost == "fail"):
            self._jobs.lose(record, ending.max_losses or float("inf"), ending.reason, data.get("usage"))
            return FINISHED
        if outcome in _ENDS:
            record.result = ending.result or None
            record.preview = ending.preview or None
            rider = ending.result if len(ending.result) <= INLINE_RESULT_BYTES else b""
            self._jobs.conclude(record, _ENDS[outcome], data, max(1, ending.ttl_ms), rider)
            return FINISHED
        self._jobs.leases.remove(ending.job_id)
        self._jobs.hold.leave_places(record)
        record.token = ""
        data.pop("summary", None)
        if outcome == "retried":
            kind, data["retried"] = EventType.RETRIED, snapshot.retried + 1
        else:
            kind, data["releases"] = EventType.RELEASED, snapshot.releases + 1
        if ending.delay_ms > 0:
            data |= {"state": "scheduled", "due": self._jobs.now + ending.delay_ms}
            self._jobs.due[snapshot.spec.queue].add(ending.job_id, data["due"])
        else:
            data["state"] = "queued"
        self._jobs.emit(record, kind, data)
        if data["state"] == "queued":
            self._jobs.enqueue(record, record.us if kind is EventType.RELEASED else self._jobs.now_us)
        self._jobs.hold.pump()
        return FINISHED

    async def cancel(self, job_ids: Sequence[str], reason: str = "") -> list[str]:
        states = []
        with self._moving():
            for job_id in job_ids:
                record = self._jobs.find(job_id)
                if record is not None and record.snapshot.state in (JobState.QUEUED, JobState.SCHEDULED):
                    self._jobs.conclude(record, EventType.CANCELLED, {"reason": reason}, self._jobs.kept_ms(record))
                elif record is not None and record.snapshot.state is JobState.RUNNING:
                    self._request_cancel(record, reason)
                states.append(str(record.snapshot.state) if record else "")
        return states

    def _request_cancel(self, record: Record, reason: str) -> None:
        if not record.snapshot.is_cancelling:
            self._jobs.emit(record, EventType.CANCEL_REQUESTED, {"cancel": self._jobs.now, "reason": reason})

    async def delete(self, job_ids: Sequence[str]) -> list[bool]:
        gone = []
        with self._moving():
            for job_id in job_ids:
                record = self._jobs.find(job_id)
                ended = record is not None and record.snapshot.is_terminal
                if record is not None and ended:
                    self._jobs.emit(record, EventType.DELETED, {"reason": "removed"})
                    self._jobs.forget(job_id)
                gone.append(ended)
        return gone

    async def prune(self, limit: int = 200, keep: int | None = None) -> int:
        with self._moving():
            over = [job_id for job_id, _ in self._jobs.expiry.until(self._jobs.now, limit)]
            excess = 0 if keep is None else len(self._jobs.expiry) - keep
            if excess > len(over) and len(over) < limit:
                over = self._jobs.expiry.first(min(excess, limit))
            for job_id in over:
                event = JobEvent(job_id, 0, EventType.DELETED, self._jobs.now, {"reason": "expired"})
                self._jobs.outbox.append((event, ""))
                self._jobs.forget(job_id)
            return len(over)

    async def renew(self, worker_id: str, held: Mapping[str, str], facts: Mapping[str, Any]) -> Renewal:
        lost, cancelled = [], []
        with self._moving():
            known = self._workers.setdefault(worker_id, {})
            known |= {"beat": str(self._jobs.now), "lease": str(self._jobs.lease_ms)}
            known |= {name: str(value) for name, value in facts.items()}
            for job_id, token in held.items():
                record = self._jobs.held(job_id, token)
                if record is None:
                    lost.append(job_id)
                    continue
                self._jobs.leases.add(job_id, self._jobs.now + self._jobs.lease_ms)
                if record.snapshot.cancel_requested_at is not None:
                    cancelled.append(job_id)
            self._jobs.recover(64)
            for id, fields in list(self._workers.items()):
                if int(fields.get("beat", self._jobs.now)) <= self._jobs.now - _WORKER_KEPT_MS:
                    del self._workers[id]
            self._jobs.hold.look()
            return Renewal(tuple(lost), tuple(cancelled), known.get("stop", ""))

    async def set_rule(self, gate: str, change: Mapping[str, Any] | None) -> Rule:
        with self._moving():
            plain = None if change is None else _unjson(_json(change))
            return Rule.from_wire(gate, *self._jobs.hold.set_rule(gate, plain))

    async def rules(self) -> list[Rule]:
        with self._moving():
            hold = self._jobs.hold
            return [Rule.from_wire(gate, rule, len(hold.holders[gate])) for gate, rule in sorted(hold.rules.items())]

    async def waiting(self, job_ids: Sequence[str]) -> list[Waiting | None]:
        with self._moving():
            return [
                self._jobs.hold.waiting(record) if (record := self._jobs.find(job_id)) else None for job_id in job_ids
            ]

    async def leave(self, worker_id: str) -> int:
        with self._moving():
            self._workers.pop(worker_id, None)
            self._awaited.pop(worker_id, None)
        return 0  # nothing is handed over here

    async def stop_workers(self, worker_ids: Sequence[str], how: str) -> int:
        with self._moving():
            known = [self._workers[id] for id in worker_ids if id in self._workers]
            for fields in known:
                fields["stop"] = how
            return len(known)

    def attach(self, hub: Callable[[JobEvent, str], None]) -> Callable[[], None]:
        """Call `hub(event, client)` with every event from now on; returns a function that ends it."""
        return self._outbox.attach(hub)

    async def ping(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Nothing to close; what it holds goes with it."""
