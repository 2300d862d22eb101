"""Queues in the store: their numbers, their rules, and what keeps their jobs waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec
from msgspec.structs import replace

from jobkit.model import Rule, Waiting
from jobkit.store import wire
from jobkit.store.values import WorkerInfo
from jobkit.store.workers import RunningAt, WorkerRecords

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


class QueueRecords(WorkerRecords):
    """Queues of a namespace."""

    async def rules(self) -> list[Rule]:
        """Return the rules that were set for tasks and queues, by the gate's name."""
        found = await self.ask("HGETALL", "rules")
        rules = self.all_readable("rules", lambda gate, raw: Rule.from_wire(gate, wire.mapping(raw)), found.items())
        rules.sort(key=lambda rule: rule.gate)
        held = await self.many([("ZCARD", f"holders:{rule.gate}") for rule in rules])
        return [replace(rule, held=n) for rule, n in zip(rules, held, strict=True)]

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
