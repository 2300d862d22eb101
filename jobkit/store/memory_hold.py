"""Limits of the store in memory: what `lua/hold.lua` is to the Lua scripts, which says how they work.

Whoever calls holds the lock of `MemoryStore`. Nothing is handed over here, so a job that is let go comes back to its
line.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jobkit.model import EventType, Gate, JobEvent, JobState, Waiting
from jobkit.model.limits import parked_text, resources_text
from jobkit.store.ordered import Ordered

if TYPE_CHECKING:
    from jobkit.store.memory_jobs import Jobs, Record

#: As in `lua/hold.lua`.
_FREED_MS = 10_000


class Hold:
    """Who has a place, who waits for one, and what was set for tasks and queues (`rules`)."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.rules: dict[str, dict[str, Any]] = {}
        self.parked: defaultdict[str, Ordered] = defaultdict(Ordered)
        self.held: defaultdict[str, Ordered] = defaultdict(Ordered)
        self.holders: defaultdict[str, Ordered] = defaultdict(Ordered)
        self._starts: defaultdict[str, deque[int]] = defaultdict(deque)
        self._freed: defaultdict[str, Ordered] = defaultdict(Ordered)
        #: By queue: gates that open at a time (ms).
        self.wakes: defaultdict[str, Ordered] = defaultdict(Ordered)
        self._using: defaultdict[str, dict[str, Mapping[str, float]]] = defaultdict(dict)
        self._waiting: deque[str] = deque()
        self._is_pumping = False

    # -- gates ------------------------------------------------------------------------------------------------------

    def gates(self, record: Record) -> Iterator[tuple[Gate, bool]]:
        """A job's gates, the narrowest first, and whether each is paused."""
        spec = record.snapshot.spec
        task = f"task:{spec.task}"
        declared = {gate.name: gate for gate in spec.limits}
        for gate in spec.limits:
            yield self._ruled(gate)
        for name in (task, f"queue:{spec.queue}"):
            if name in self.rules and name not in declared:
                yield self._ruled(Gate(name))

    def is_paused(self, record: Record) -> bool:
        """Whether its queue or task is paused, whatever else holds it back."""
        return bool(self.rules) and any(is_paused for _, is_paused in self.gates(record))

    def _ruled(self, gate: Gate) -> tuple[Gate, bool]:
        rule = self.rules.get(gate.name, {})
        count, period_ms = (rule["count"], rule["period_ms"]) if rule.get("count") else (gate.count, gate.period_ms)
        return Gate(gate.name, rule.get("n") or gate.n, count, period_ms), bool(rule.get("paused"))

    def _shut(self, gate: Gate, is_paused: bool, pending: int) -> tuple[bool, float | None]:
        """Whether it lets nobody more start; where only time keeps it shut, also when that is over (us)."""
        if is_paused or (gate.n and len(self.holders[gate.name]) + pending >= gate.n):
            return True, None
        starts = self._starts[gate.name]
        if gate.count and pending >= gate.count:
            return True, None
        if gate.count and len(starts) >= gate.count - pending:
            open_us = starts[pending - gate.count] + gate.period_ms * 1000
            if open_us > self._jobs.now_us:
                return True, open_us
        return False, None

    def _pending(self, name: str) -> int:
        return sum(at >= self._jobs.now - _FREED_MS for _, at in self._freed[name].below(math.inf))

    # -- starting ---------------------------------------------------------------------------------------------------

    def admit(
        self, record: Record, score: float, worker: str = "", has: Mapping[str, float] | None = None
    ) -> bool | None:
        """True: it may start; None: it is parked now; False: its whole queue has to wait. As in `lua/hold.lua`."""
        spec = record.snapshot.spec
        for gate, is_paused in self.gates(record):
            is_new = not worker and record.freed != gate.name
            is_whole = gate.name == f"queue:{spec.queue}"
            shut, open_us = self._shut(gate, is_paused, self._pending(gate.name) if is_new and not is_whole else 0)
            if is_whole:
                if shut:
                    self._arm(gate.name, spec.queue, open_us)
                    return False
            elif shut or (is_new and len(self.parked[gate.name])):
                self._park(record, gate.name, score, parked_text(gate.name, gate, is_paused))
                return None
        if spec.resources and (not worker or not self._fits(worker, has or {}, spec.resources)):
            name = f"res:{spec.queue}:{resources_text(spec.resources)}"
            self._park(record, name, score, parked_text(name, None))
            return None
        return True

    def take(self, record: Record, worker: str) -> None:
        """With the start of an attempt, after `admit`."""
        spec = record.snapshot.spec
        record.gates = tuple(gate.name for gate, _ in self.gates(record))
        for gate, _ in self.gates(record):
            self.holders[gate.name].add(spec.id, self._jobs.now)
            if gate.count:
                starts = self._starts[gate.name]
                starts.append(self._jobs.now_us)
                while len(starts) > gate.count:
                    starts.popleft()
        if spec.resources:
            self._using[worker][spec.id] = spec.resources
        self._freed[record.freed].remove(spec.id)
        record.freed = record.said = ""
        for gate, _ in self.gates(record):
            if gate.count and len(self.parked[gate.name]):
                self.pump(gate.name)

    def leave_places(self, record: Record) -> None:
        """With the end of an attempt; `pump` then lets others go."""
        job_id = record.snapshot.id
        for name in record.gates:
            self.holders[name].remove(job_id)
            self._waiting.append(name)
        record.gates = ()
        self._using[record.snapshot.worker].pop(job_id, None)

    def _fits(self, worker: str, has: Mapping[str, float], use: Mapping[str, float]) -> bool:
        left = dict(has)
        for taken in self._using[worker].values():
            for name, amount in taken.items():
                left[name] = left.get(name, 0) - amount
        return all(left.get(name, 0) >= amount - 1e-9 for name, amount in use.items())

    # -- waiting ----------------------------------------------------------------------------------------------------

    def _park(self, record: Record, name: str, score: float, message: str) -> None:
        spec = record.snapshot.spec
        self._jobs.ready[spec.queue].remove(spec.id)
        self.parked[name].add(spec.id, score)
        self.held[spec.queue].add(spec.id, score)
        record.parked = name
        if record.said != message:
            self._say(record, message)
        freed, record.freed = record.freed, ""
        self._freed[freed].remove(spec.id)
        if freed and freed != name:
            self.pump(freed)
        if not name.startswith("res:") and len(self.parked[name]) == 1:
            self.pump(name)

    def _say(self, record: Record, message: str) -> None:
        snapshot, record.said = record.snapshot, message
        data = {"rev": snapshot.rev + 1, "done": None, "total": None, "message": message}
        self._jobs.tell(record, JobEvent(snapshot.id, snapshot.seq, EventType.PROGRESSED, self._jobs.now, data))

    def unpark(self, record: Record, name: str, is_let_go: bool) -> float:
        """Out of the gate's line; its place there."""
        spec = record.snapshot.spec
        score = self.parked[name].score(spec.id)
        self.parked[name].remove(spec.id)
        self.held[spec.queue].remove(spec.id)
        record.parked = ""
        if is_let_go:
            record.freed = name
            self._freed[name].add(spec.id, self._jobs.now)
        return score

    def leave_line(self, record: Record) -> None:
        """A queued job leaves the lines for good."""
        job_id, queue = record.snapshot.id, record.snapshot.spec.queue
        for name, lines in ((record.parked, self.parked), (record.freed, self._freed)):
            if name:
                lines[name].remove(job_id)
                self._waiting.append(name)
        self.held[queue].remove(job_id)
        record.parked = record.freed = ""
        if record.said:
            self._say(record, "")

    def pump(self, *names: str) -> None:
        """Lets go whom a gate no longer holds."""
        self._waiting.extend(names)
        if self._is_pumping:
            return
        self._is_pumping = True
        while self._waiting:
            self._pump_one(self._waiting.popleft())
        self._is_pumping = False

    def _pump_one(self, name: str) -> None:
        while name in self.parked and not name.startswith(("queue:", "res:")):
            first = self.parked[name].first(1)
            if not first:
                return
            record = self._jobs.records[first[0]]
            gate = next((one for one in self.gates(record) if one[0].name == name), None)
            if gate is not None:
                shut, open_us = self._shut(*gate, self._pending(name))
                self._arm(name, record.snapshot.spec.queue, open_us)
                if shut:
                    return
            self._jobs.back(record, self.unpark(record, name, gate is not None))

    def _arm(self, name: str, queue: str, open_us: float | None) -> None:
        if open_us is not None:
            self.wakes[queue].add(name, math.ceil(open_us / 1000))

    def wake(self, queue: str) -> None:
        """Gates whose time has come."""
        for name, _ in self.wakes[queue].until(self._jobs.now, 1000):
            self.wakes[queue].remove(name)
            self.pump(name)

    def look(self) -> None:
        """With each heartbeat: those that were let go into a line that nobody serves do not hold up others."""
        self.pump(*[name for name in self.parked if len(self.parked[name])])

    def bring(self, queue: str, worker: str, has: Mapping[str, float], free: int) -> None:
        """For a worker that has resources: the first of those that wait for such ones come to the line."""
        for name in [name for name in self.parked if name.startswith(f"res:{queue}:")]:
            for job_id in self.parked[name].first(free):
                record = self._jobs.records[job_id]
                if self._fits(worker, has, record.snapshot.spec.resources):
                    self._jobs.ready[queue].add(job_id, self.unpark(record, name, False))

    # -- rules ------------------------------------------------------------------------------------------------------

    def set_rule(self, gate: str, change: Mapping[str, Any] | None) -> tuple[dict[str, Any], int]:
        """The rule that holds now, and how many attempts have a place."""
        rule = {**self.rules.pop(gate, {}), **(change or {})} if change is not None else {}
        rule = {name: value for name, value in rule.items() if value is not None}
        if isinstance(rule.get("paused"), dict):
            rule["paused"] = {"at": self._jobs.now, **rule["paused"]}
        self.rules.pop(gate, None)
        if rule:
            self.rules[gate] = rule
            kind, _, name = gate.partition(":")
            for job_id in self._jobs.leases:
                record = self._jobs.records[job_id]
                spec = record.snapshot.spec
                if gate not in record.gates and name == (spec.queue if kind == "queue" else spec.task):
                    record.gates = (*record.gates, gate)
                    self.holders[gate].add(job_id, self._jobs.now)
        self.pump(gate)
        self._jobs.tell_control()
        return rule, len(self.holders[gate])

    def waiting(self, record: Record) -> Waiting | None:
        """What a queued job waits for; see `lua/waiting.lua`."""
        spec = record.snapshot.spec
        if record.snapshot.state is not JobState.QUEUED:
            return None
        name = record.parked
        for gate, is_paused in self.gates(record):
            if gate.name == name or (not name and gate.name == f"queue:{spec.queue}"):
                shut, open_us = self._shut(gate, is_paused, 0)
                if not name and not shut:
                    continue
                line = self.parked[name] if name else self._jobs.ready[spec.queue]
                open_ms = None if open_us is None else max(0, math.ceil(open_us / 1000) - self._jobs.now)
                held = len(self.holders[gate.name])
                paused = self.rules.get(gate.name, {}).get("paused")
                paused = paused if isinstance(paused, dict) else {"at": self._jobs.now}
                return Waiting(
                    gate.name, line.rank(spec.id), held, gate.n, gate.count, gate.period_ms, open_ms, is_paused,
                    paused_by=paused.get("by", ""), paused_ms=self._jobs.now - paused["at"],
                )  # fmt: skip
        if name.startswith("res:"):
            return Waiting(name, self.parked[name].rank(spec.id), use=spec.resources)
        return None
