"""Queues and workers of a namespace: their numbers, rules, what keeps jobs waiting, and requests to workers to end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from jobkit.features import DOORS
from jobkit.model import Rule, Waiting
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


#: Maximum number of queues that one look at blocked jobs considers; of jobs at either end, and of gates, in each.
_QUEUES, _JOBS, _GATES = 50, 10, 10


class BlockedJobs(msgspec.Struct, frozen=True):
    """Queued jobs of one queue that cannot start for the same reason.

    Attributes:
        count: number of these jobs; of a gate of several queues at most, 0 if the whole queue waits at its own gate.
        waiting: the reason, as the first of them has it; None for jobs that wait at other gates than the first few.
    """

    queue: str
    count: int
    waiting: Waiting | None


class QueueRecords(RedisNamespace):
    """Queues and workers. Claims and heartbeats are in `RedisStore`, because these move jobs."""

    # -- workers ------------------------------------------------------------------------------------------------------

    async def workers(self) -> list[WorkerInfo]:
        """Return the workers, those with the newest heartbeat first, also lost ones: see `WorkerInfo.state`.

        The cost is bounded: if more than `_COUNTED` jobs run, `running` is that of each worker's last heartbeat.
        """
        return (await self.workers_and_jobs(_COUNTED))[0]

    async def key_ids(self, workers: Iterable[WorkerInfo]) -> dict[str, tuple[str, ...]]:
        """Return the ids of the signing keys of workers, () for one without a key."""
        ids = [worker.id for worker in workers]
        found = await self.many([("HGET", f"worker:{id}", "keys") for id in ids]) if ids else []
        texts = {id: wire.text(keys) for id, keys in zip(ids, found, strict=True) if keys is not None}
        return {id: tuple(filter(None, text.split(","))) for id, text in texts.items()}

    async def workers_and_jobs(self, most: float = math.inf) -> tuple[list[WorkerInfo], list[RunningAt]]:
        """Return the workers, and where jobs run; if more than `most` run, [] and what the heartbeats say.

        Jobs begin and end between two heartbeats, so busy slots are counted by the records of running jobs. Only the
        worker knows how many of its jobs wait for others and lend their slots.
        """
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
        used = {
            id: sums(self.all_readable(f"using:{id}", lambda _, raw: wire.amounts(raw), jobs.items()))
            for id, jobs in zip(having, using, strict=True)
        }
        return [replace(worker, in_use=used.get(worker.id, {})) for worker in workers]

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
        ids = [wire.text(id) for id in await self.ask("ZRANGE", "workers", 0, -1)]
        marks = [wire.text(mark) for mark in await self.many([("HGET", f"worker:{id}", "process") for id in ids])]
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

    # -- queues -------------------------------------------------------------------------------------------------------

    async def rules(self) -> list[Rule]:
        """Return the rules that were set for tasks and queues, by the gate's name."""
        found = await self.ask("HGETALL", "rules")
        rules = self.all_readable("rules", lambda gate, raw: Rule.from_wire(gate, wire.mapping(raw)), found.items())
        rules.sort(key=lambda rule: rule.gate)
        held = await self.many([("ZCARD", f"holders:{rule.gate}") for rule in rules])
        return [replace(rule, held=n) for rule, n in zip(rules, held, strict=True)]

    async def doors_of(self, workers: Sequence[WorkerInfo]) -> dict[str, str]:
        """Return the door (see `Door`) of each worker that has one, by its id."""
        doors = await self.many([("HGET", f"worker:{worker.id}", "door") for worker in workers])
        return {worker.id: door.decode() for worker, door in zip(workers, doors, strict=True) if door}

    async def only_doors(self, workers: Sequence[WorkerInfo]) -> list[str]:
        """Return the doors of the live workers; none if one of these runs jobs of jobkit's own clients."""
        alive = [worker for worker in workers if worker.is_alive]
        doors = await self.doors_of(alive)
        return sorted(set(doors.values())) if len(doors) == len(alive) else []

    async def door_queues(self, names: Sequence[str]) -> dict[str, str]:
        """Return the door by which jobs have come into a queue, by the queue's name, for those that have one."""
        pairs = [(name, door) for name in names for door in DOORS]
        found = await self.many([("EXISTS", f"{door}:{name}") for name, door in pairs])
        return dict(pair for pair, is_known in zip(pairs, found, strict=True) if is_known)

    async def queues(self) -> dict[str, dict[str, int]]:
        """Return for each queue `queued`, `scheduled`, `running` and `workers` (alive and serving it)."""
        return (await self.overview())[0]

    async def overview(self) -> tuple[dict[str, dict[str, int]], list[WorkerInfo], list[RunningAt]]:
        """Return queues, workers and where jobs run, as `queues` and `workers_and_jobs` do, as of one moment."""
        workers, jobs = await self.workers_and_jobs()
        members = await self.ask("SMEMBERS", "queues")
        names = sorted(
            {name.decode("utf-8", "replace") for name in members} | {q for w in workers if w.is_alive for q in w.queues}
        )
        lines = [("ZCARD", f"{kind}:{name}") for name in names for kind in ("ready", "due", "held")]
        *sizes, gates = await self.many([*lines, ("HVALS", "armed")])  # gates in `due` that wait for a time
        armed = Counter(gates)
        running = Counter[str]()
        for some in jobs:
            running[some.queue] += some.size
        return (
            {
                name: {
                    "queued": sizes[3 * i] + sizes[3 * i + 2],
                    "scheduled": max(0, sizes[3 * i + 1] - armed[name.encode()]),
                    "running": running[name],
                    "workers": sum(w.takes_jobs and name in w.queues for w in workers),
                }
                for i, name in enumerate(names)
            },
            workers,
            jobs,
        )

    async def waiting(self, job_ids: Sequence[str]) -> list[Waiting | None]:
        """Return why each queued job cannot start yet, ignoring free slots; None if nothing blocks it."""
        answers = await self.run_each("waiting", job_ids)
        return [Waiting.from_wire(msgspec.json.decode(answer)) if answer else None for answer in answers]

    async def blocked(self, queues: Iterable[str]) -> list[BlockedJobs]:
        """Return what keeps queued jobs from starting, apart from slots; costs the same for any number of jobs.

        The gates of a queue are those of its first and last jobs, and all of its resources. Five round trips.
        """
        names = sorted(queues)[:_QUEUES]
        if not names:
            return []
        found = await self.many(
            [
                read
                for q in names
                for read in (
                    ("ZRANGE", f"held:{q}", 0, _JOBS - 1),
                    ("ZRANGE", f"held:{q}", -_JOBS, -1),
                    ("ZCARD", f"held:{q}"),
                    ("SMEMBERS", f"wanted:{q}"),
                    ("ZRANGE", f"ready:{q}", 0, 0),
                )
            ]
        )
        looks = {q: found[5 * i : 5 * i + 5] for i, q in enumerate(names)}
        held = {q: self.names(f"held:{q}", dict.fromkeys([*look[0], *look[1]])) for q, look in looks.items()}
        ids = [*chain(*held.values())]
        parked = dict(zip(ids, await self.fields(("parked",), ids), strict=True))
        lines: list[tuple[str, str, str]] = []  # queue, gate, its first job if known; no gate: the queue's own
        for q, (_, _, _, wanted, ready) in looks.items():
            gates: dict[str, str] = {}
            for job_id in held[q]:
                if raw := parked[job_id]:
                    gates.setdefault(wire.text(raw[0]), job_id)
            for gate in sorted(self.names(f"wanted:{q}", wanted)):
                gates.setdefault(gate, "")
            lines += [(q, gate, job_id) for gate, job_id in [*gates.items()][:_GATES]]
            lines += [(q, "", job_id) for job_id in self.names(f"ready:{q}", ready)]
        sizes = await self.many([("ZCARD", f"parked:{gate}") for _, gate, _ in lines])
        heads = await self.many([("ZRANGE", f"parked:{gate}", 0, 0) for _, gate, _ in lines])
        jobs = [job_id or "".join(self.names("parked", head)) for (*_, job_id), head in zip(lines, heads, strict=True)]
        blocked, left = [], {q: look[2] for q, look in looks.items()}
        for (q, gate, _), size, reason in zip(lines, sizes, await self.waiting(jobs), strict=True):
            if reason is not None and reason.gate == (gate or f"queue:{q}"):
                count = min(size, left[q]) if gate else 0
                left[q] -= count
                blocked.append(BlockedJobs(q, count, reason))
        return [*blocked, *(BlockedJobs(q, count, None) for q, count in left.items() if count > 0)]
