"""The verbs of the store in memory that look at jobs, queues, workers, tasks and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from jobkit.model import JobEvent, JobSnapshot
from jobkit.store import records
from jobkit.store.memory_jobs import Record
from jobkit.store.memory_part import MemoryPart
from jobkit.store.values import LogSlice, WorkerInfo, event_key, expired, is_before


class MemoryLook(MemoryPart):
    _workers: dict[str, dict[str, str]]
    _tasks: dict[str, bytes]

    async def snapshots(self, job_ids: Sequence[str]) -> list[JobSnapshot | None]:
        with self._moving():
            return [record.snapshot if (record := self._jobs.find(job_id)) else None for job_id in job_ids]

    async def result(self, job_id: str) -> bytes | None:
        with self._moving():
            record = self._result_record(job_id)
            return record.result if record else None

    def _result_record(self, job_id: str) -> Record | None:
        """The job's, or that of the job whose kept result it has."""
        record = self._jobs.find(job_id)
        return record if record is None else self._jobs.find(record.snapshot.result_id)

    async def payload(self, job_id: str) -> bytes | None:
        with self._moving():
            record = self._jobs.find(job_id)
            return record.payload if record else None

    async def preview(self, job_id: str) -> bytes | None:
        with self._moving():
            record = self._result_record(job_id)
            return record.preview if record else None

    async def logs(self, job_id: str, *, after: int = 0, tail: int | None = None) -> LogSlice:
        with self._moving():
            record = self._jobs.find(job_id)
            return record.log.read(after, tail) if record else LogSlice(())

    async def counts(self) -> dict[str, int]:
        with self._moving():
            return {str(state): len(ids) for state, ids in self._jobs.states.items()}

    async def queues(self) -> dict[str, dict[str, int]]:
        workers = [worker for worker in await self.workers() if worker.is_alive]
        with self._moving():
            running = Counter(self._jobs.records[job_id].snapshot.spec.queue for job_id in self._jobs.leases)
            return {
                name: {
                    "queued": len(self._jobs.ready[name]) + len(self._jobs.hold.held[name]),
                    "scheduled": len(self._jobs.due[name]),
                    "running": running[name],
                    "workers": sum(name in worker.queues for worker in workers),
                }
                for name in sorted(self._queues.union(*(worker.queues for worker in workers)))
            }

    async def workers(self) -> list[WorkerInfo]:
        with self._moving():
            known = [(id, fields) for id, fields in self._workers.items() if "beat" in fields]
            known.sort(key=lambda item: (int(item[1]["beat"]), item[0]), reverse=True)
            return [
                records.worker(id, self._jobs.now, {name.encode(): value.encode() for name, value in fields.items()})
                for id, fields in known
            ]

    async def publish_tasks(self, tasks: Mapping[str, bytes]) -> None:
        with self._moving():
            self._tasks |= tasks

    async def tasks(self) -> dict[str, bytes]:
        with self._moving():
            return dict(sorted(self._tasks.items()))

    async def events(self, after: str = "", limit: int = 1000) -> list[JobEvent]:
        start = event_key(after) if after else (-1, -1)
        with self._moving():
            kept = self._jobs.events
            if kept and is_before(after, kept[0].id) and len(kept) == kept.maxlen:
                raise expired(after, kept[0].id)
            return [event for event in self._jobs.events if event_key(event.id) > start][:limit]

    async def last_event_id(self) -> str:
        """Id of the newest event, "0-0" where there is none."""
        with self._moving():
            return self._jobs.events[-1].id if self._jobs.events else "0-0"
