"""Queues in the store: their numbers, their rules, and what keeps their jobs waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec
from msgspec.structs import replace

from jobkit.model import Rule, Waiting
from jobkit.store import wire
from jobkit.store.workers import WorkerRecords

#: Maximum number of queues that one look at blocked jobs considers, and of jobs and gates in each.
_QUEUES, _JOBS, _GATES = 50, 20, 10


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
        workers = await self.workers()
        members, started = await self.many([("SMEMBERS", "queues"), ("ZRANGE", "state:running", 0, -1)])
        names = sorted(
            {name.decode("utf-8", "replace") for name in members} | {q for w in workers if w.is_alive for q in w.queues}
        )
        lines = [("ZCARD", f"{kind}:{name}") for name in names for kind in ("ready", "due", "held")]
        *sizes, gates = await self.many([*lines, ("HVALS", "armed")])  # gates in `due` that wait for a time
        armed = Counter(gates)
        jobs = await self.fields(("queue",), started)
        running = Counter(raw[0] for raw in jobs if raw)
        return {
            name: {
                "queued": sizes[3 * i] + sizes[3 * i + 2],
                "scheduled": max(0, sizes[3 * i + 1] - armed[name.encode()]),
                "running": running[name.encode()],
                "workers": sum(w.takes_jobs and name in w.queues for w in workers),
            }
            for i, name in enumerate(names)
        }

    async def waiting(self, job_ids: Sequence[str]) -> list[Waiting | None]:
        """Return why each queued job cannot start yet, ignoring free slots; None if nothing blocks it."""
        answers = await self.run_each("waiting", job_ids)
        return [Waiting.from_wire(msgspec.json.decode(answer)) if answer else None for answer in answers]

    async def blocked(self, queues: Iterable[str]) -> list[BlockedJobs]:
        """Return what keeps queued jobs from starting, apart from slots; costs the same for any number of jobs.

        The gates of a queue are those of its first jobs, and all of its resources. Four round trips.
        """
        names = sorted(queues)[:_QUEUES]
        if not names:
            return []
        reads = [
            (("ZRANGE", f"held:{q}", 0, _JOBS - 1), ("ZCARD", f"held:{q}"), ("SMEMBERS", f"wanted:{q}")) for q in names
        ]
        firsts = [("ZRANGE", f"ready:{q}", 0, 0) for q in names]
        found = await self.many([*chain.from_iterable(reads), *firsts])
        held = {q: self.names(f"held:{q}", found[3 * i]) for i, q in enumerate(names)}
        parked = dict(zip(ids := [*chain(*held.values())], await self.fields(("parked",), ids), strict=True))
        heads: list[tuple[str, str, str]] = []  # queue, gate, its first job; no gate for the queue's own
        for i, q in enumerate(names):
            gates = {
                raw[0].decode("utf-8", "replace"): job_id for job_id in reversed(held[q]) if (raw := parked[job_id])
            }
            gates |= {gate: gates.get(gate, "") for gate in sorted(self.names(f"wanted:{q}", found[3 * i + 2]))}
            heads += [(q, gate, job_id) for gate, job_id in [*gates.items()][:_GATES]]
            heads += [(q, "", job_id) for job_id in self.names(f"ready:{q}", found[3 * len(names) + i])]
        sizes = await self.many(
            [c for _, gate, _ in heads for c in (("ZCARD", f"parked:{gate}"), ("ZRANGE", f"parked:{gate}", 0, 0))]
        )
        known = [job_id or "".join(self.names("parked", sizes[2 * i + 1])) for i, (*_, job_id) in enumerate(heads)]
        reasons = await self.waiting(known)
        blocked, counted = [], Counter[str]()
        most = {q: found[3 * i + 1] for i, q in enumerate(names)}
        for i, ((q, gate, _), reason) in enumerate(zip(heads, reasons, strict=True)):
            if reason is not None and reason.gate == (gate or f"queue:{q}"):
                count = min(sizes[2 * i], most[q]) if gate else 0
                counted[q] += count
                blocked.append(BlockedJobs(q, count, reason))
        rest = [BlockedJobs(q, most[q] - counted[q], None) for q in names if most[q] > counted[q]]
        return [*blocked, *rest]
