"""Workers in the store: which there are, which have died, and requests to end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

from msgspec.structs import replace

from jobkit.model.limits import sums
from jobkit.model.load import WorkerLoad
from jobkit.store import wire
from jobkit.store.namespace import RedisNamespace
from jobkit.store.values import WorkerInfo

#: Running jobs that one call counts (about 2 ms of the server). Ids that it returns for each worker and queue.
_COUNTED, LISTED = 1000, 8


class RunningAt(NamedTuple):
    """Running jobs of one worker and queue: their number, and the ids of the first `LISTED` in the order of submit."""

    worker: str
    queue: str
    size: int
    ids: list[str]


class WorkerRecords(RedisNamespace):
    """Workers of a namespace. Their claims and heartbeats are in `RedisStore`, because these move jobs."""

    async def workers(self) -> list[WorkerInfo]:
        """Return the workers, those with the newest heartbeat first, also lost ones: see `WorkerInfo.state`.

        The cost is bounded: if more than `_COUNTED` jobs run, `running` is that of each worker's last heartbeat.
        """
        return (await self._workers(_COUNTED))[0]

    async def workers_and_jobs(self) -> tuple[list[WorkerInfo], list[RunningAt]]:
        """Return the workers, and where jobs run.

        Jobs begin and end between two heartbeats, so busy slots are counted by the records of running jobs. Only the
        worker knows how many of its jobs wait for others and lend their slots.
        """
        return await self._workers()

    async def _workers(self, most: float = math.inf) -> tuple[list[WorkerInfo], list[RunningAt]]:
        ids, total, lending = await self.many(
            [("ZREVRANGE", "workers", 0, -1), ("ZCARD", "state:running"), ("ZRANGE", "lending", 0, -1)]
        )
        names = self.names("workers", ids)
        found = await self.records("worker", names, partial(wire.worker, now_ms=await self.now_ms()))
        workers = [worker for worker in found if worker is not None]
        if total > most:
            return await self._with_resources(workers), []
        jobs = await self._running(total)
        busy, lenders = Counter[str](), set(self.names("lending", lending))
        for some in jobs:
            busy[some.worker] += some.size
        lends = [each.is_alive and each.id in lenders for each in workers]
        workers = [w if own else replace(w, running=busy[w.id]) for w, own in zip(workers, lends, strict=True)]
        return await self._with_resources(workers), jobs

    async def _running(self, total: int) -> list[RunningAt]:
        """Count the running jobs, in as many calls as it takes: each is atomic, the whole is not."""
        calls = [("running", [rank, rank + _COUNTED - 1, LISTED]) for rank in range(0, total, _COUNTED)]
        with self.reaching():
            replies = await self.functions.run_many(calls)
        jobs: dict[tuple[bytes, bytes], RunningAt] = {}
        for worker, queue, size, *ids in chain(*replies):
            known = jobs.get((worker, queue)) or RunningAt(wire.text(worker), wire.text(queue), 0, [])
            listed = [*known.ids, *map(wire.text, ids)][:LISTED]
            jobs[worker, queue] = known._replace(size=known.size + size, ids=listed)
        return list(jobs.values())

    async def _with_resources(self, workers: list[WorkerInfo]) -> list[WorkerInfo]:
        having = [worker.id for worker in workers if worker.is_alive and worker.resources]
        if not having:
            return workers
        using = await self.many([("HGETALL", f"using:{id}") for id in having])
        used = {id: self._amounts(f"using:{id}", jobs) for id, jobs in zip(having, using, strict=True)}
        return [replace(worker, in_use=used.get(worker.id, {})) for worker in workers]

    def _amounts(self, key: str, jobs: Mapping[bytes, bytes]) -> dict[str, float]:
        """Return the sum of the resources that the jobs of a worker use."""
        return sums(self.all_readable(key, lambda _, raw: wire.amounts(raw), jobs.items()))

    async def loads(self, worker_ids: Sequence[str]) -> dict[str, WorkerLoad]:
        """Return what workers use, without those that have not told it lately."""
        keys = [f"load:{id}" for id in worker_ids]
        raws = await self.many([("GET", key) for key in keys]) if keys else []
        loads = [self.readable(key, wire.load, raw) for key, raw in zip(keys, raws, strict=True)]
        return {id: load for id, load in zip(worker_ids, loads, strict=True) if load is not None}

    async def handed(self, worker_id: str) -> int:
        """Return the number of jobs handed to a worker since it subscribed; the last may still be in transit."""
        return wire.number(await self.ask("HGET", f"worker:{worker_id}", "handed"))

    async def leave(self, worker_id: str, *, stays: bool = False) -> int:
        """Deregister a worker that shuts down, so that no queue offers it.

        Return the number of jobs handed to it since it subscribed; the last may still be in transit.

        Args:
            stays: it still runs jobs, so its record stays.
        """
        handed: int = await self.run("leave", [worker_id, int(stays)])
        return handed

    async def report_dead(self, has_died: Callable[[str], bool]) -> list[str]:
        """End the leases of workers whose processes have died, which will not renew them; return their ids.

        Args:
            has_died: says so of a process, by the field `process` of a worker's record.
        """
        ids = [id.decode("utf-8", "replace") for id in await self.ask("ZRANGE", "workers", 0, -1)]
        processes = await self.many([("HGET", f"worker:{id}", "process") for id in ids])
        marks = [(process or b"").decode("utf-8", "replace") for process in processes]
        dead = [id for id, mark in zip(ids, marks, strict=True) if mark and has_died(mark)]
        if dead:
            await self.run("died", dead)
        return dead

    async def stop_workers(self, worker_ids: Sequence[str], how: str) -> int:
        """Request workers to end; return how many are known.

        Args:
            how: "drain" finishes their jobs within the drain time, "retire" however long they take, "now" releases
                them.
        """
        asked: int = await self.run("stop", [how, *worker_ids])
        return asked

    async def stop_idle(self, worker_ids: Sequence[str]) -> list[bool]:
        """Request workers to end if they have no job; True for each that gets none from now on."""
        return [asked == 1 for asked in await self.run("stop_idle", worker_ids)] if worker_ids else []
