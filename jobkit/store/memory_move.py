"""The verb of the store in memory that moves waiting jobs: what `lua/move.lua` does."""

from __future__ import annotations

from collections.abc import Sequence

from jobkit.model import EventType, JobState
from jobkit.store.memory_jobs import PRIORITY_US
from jobkit.store.memory_part import MemoryPart


class MemoryMove(MemoryPart):
    async def move(
        self, job_ids: Sequence[str], queue: str | None = None, priority: int | None = None, reason: str = ""
    ) -> list[str]:
        with self._moving():
            answers = [self._move(job_id, queue, priority, reason) for job_id in job_ids]
            self._jobs.hold.pump()
            return answers

    def _move(self, job_id: str, queue: str | None, priority: int | None, reason: str) -> str:
        jobs = self._jobs
        record = jobs.find(job_id)
        if record is None:
            return "unknown"
        spec, state = record.snapshot.spec, record.snapshot.state
        if state not in (JobState.QUEUED, JobState.SCHEDULED):
            return str(state)
        to, level = queue or spec.queue, spec.priority if priority is None else priority
        if (to, level) == (spec.queue, spec.priority):
            return ""
        since = due = None
        if state is JobState.QUEUED:
            line = jobs.hold.parked[record.parked] if record.parked else jobs.ready[spec.queue]
            since = line.score(job_id) + spec.priority * PRIORITY_US
            jobs.ready[spec.queue].remove(job_id)
            jobs.hold.leave_line(record)
        elif job_id in jobs.due[spec.queue]:
            due = jobs.due[spec.queue].score(job_id)
            jobs.due[spec.queue].remove(job_id)
        self._queues.add(to)
        jobs.emit(record, EventType.MOVED, {"queue": to, "priority": level, "reason": reason})
        if since is not None:
            jobs.enqueue(record, since)
        elif due is not None:
            jobs.due[to].add(job_id, due)
        return ""
