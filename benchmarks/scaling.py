"""Pools: decisions of the autoscaler over a day's trace, simulated; and the cost of reading the demand of a long queue.

The simulator runs the real decision (`jobkit.features.pools.decide`) on an engine that is slow to start workers. It knows no
store and no clock: a day takes seconds.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from benchmarks.place import SECRET, Place
from benchmarks.table import Row, most
from jobkit.features.pools.decide import PoolView, Tempo, decide
from jobkit.features.pools.spec import PoolSpec
from jobkit.features.pools.store import Demand, PoolStore, PoolUnit
from jobkit.model import JobSpec
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import Submission, WorkerInfo

DAY_S = 86_400

#: Seconds of the trace between two decisions.
STEP_S = 10


@dataclass(order=True)
class TraceJob:
    """A job of a trace: time of its submit and its length, in seconds."""

    at_s: float
    length_s: float = field(compare=False)


def day_trace(seed: int = 1, length_s: int = DAY_S) -> list[TraceJob]:
    """Return a day of a group: bursts in office hours, a sweep in the evening, few long jobs at night."""
    draw = random.Random(seed)
    jobs: list[TraceJob] = []
    for hour in range(length_s // 3600):
        is_office = 8 <= hour % 24 < 19
        for _ in range(draw.randint(1, 3) if is_office else 0):  # bursts
            begin = hour * 3600 + draw.uniform(0, 3600)
            jobs += [
                TraceJob(begin + draw.uniform(0, 30), draw.lognormvariate(4.5, 0.8)) for _ in range(draw.randint(5, 80))
            ]
        jobs += [
            TraceJob(hour * 3600 + draw.uniform(0, 3600), draw.uniform(20, 400)) for _ in range(8 if is_office else 1)
        ]
        if hour % 24 == 20:
            jobs += [TraceJob(hour * 3600 + n * 0.5, draw.uniform(240, 360)) for n in range(200)]
        if not is_office and draw.random() < 0.5:
            jobs.append(TraceJob(hour * 3600 + draw.uniform(0, 3600), draw.uniform(3600, 10_000)))
    return sorted(jobs)


@dataclass
class SimulatedUnit:
    """A worker from its order to its end; `starts_s`: when the engine starts it."""

    name: str
    ordered_s: float
    starts_s: float
    running: int = 0
    idle_s: float = 0.0
    done: int = 0


@dataclass
class DayFigures:
    """Outcome of a simulation.

    Waits in seconds; hours are worker-hours, `ideal_hours` those of the jobs alone. `flaps` are orders within a minute
    after an end, `vain` workers that ran no job.
    """

    waits: list[float] = field(default_factory=list)
    hours: float = 0.0
    ideal_hours: float = 0.0
    flaps: int = 0
    vain: int = 0
    orders: int = 0
    most: int = 0
    unfinished: int = 0
    decisions: int = 0
    seconds: float = 0.0

    @property
    def mean_wait_s(self) -> float:
        return sum(self.waits) / max(1, len(self.waits))

    def wait_s(self, share: float) -> float:
        return sorted(self.waits)[int(share * (len(self.waits) - 1))] if self.waits else 0.0


def simulate(
    jobs: Iterable[TraceJob], spec: PoolSpec, *, pending_s: tuple[float, float] = (60, 300), tempo: Tempo | None = None
) -> DayFigures:
    """Return how a pool would have served a trace.

    Args:
        pending_s: the engine starts a worker after a time between these two.
    """
    draw, tempo, figures = random.Random(7), tempo or Tempo(), DayFigures()
    coming, waiting = deque(sorted(jobs)), deque[TraceJob]()
    ends: list[tuple[float, str]] = []  # of running jobs, with their worker
    units: dict[str, SimulatedUnit] = {}
    short_ms = over_ms = 0
    let_go_s = float("-inf")
    figures.ideal_hours = sum(job.length_s for job in coming) / spec.slots / 3600
    now_s = 0.0
    began = time.perf_counter()
    while coming or waiting or ends or units:
        while ends and ends[0][0] <= now_s:
            at_s, name = heapq.heappop(ends)
            unit = units[name]
            unit.running, unit.done, unit.idle_s = unit.running - 1, unit.done + 1, at_s
        while coming and coming[0].at_s <= now_s:
            waiting.append(coming.popleft())
        for unit in units.values():
            while waiting and unit.starts_s <= now_s and unit.running < spec.slots:
                job = waiting.popleft()
                figures.waits.append(now_s - job.at_s)
                unit.running += 1
                heapq.heappush(ends, (now_s + job.length_s, unit.name))
        now_ms = int(now_s * 1000) + 1
        view = PoolView(
            spec=spec, units=tuple(_record(u, now_s) for u in units.values()), short_ms=short_ms, over_ms=over_ms
        )
        workers = [_worker(u, spec) for u in units.values() if u.starts_s <= now_s]
        demand = [Demand(spec.queues[0], {}, len(waiting))] if waiting else []
        plan = decide([view], demand, workers, now_ms, tempo)[spec.name]
        figures.decisions += 1
        short_ms, over_ms = plan.short_ms, plan.over_ms
        for name in (*plan.cancel, *plan.retire):
            unit = units.pop(name)
            assert unit.running == 0, f"{name} was ended with a job"
            figures.hours += max(0.0, now_s - unit.starts_s) / 3600
            figures.vain += unit.done == 0 and unit.starts_s <= now_s
            let_go_s = now_s
        for _ in range(plan.start):
            figures.orders += 1
            figures.flaps += now_s - let_go_s < 60
            name = f"u{figures.orders}"
            starts_s = now_s + draw.uniform(*pending_s)
            units[name] = SimulatedUnit(name, now_s, starts_s, idle_s=starts_s)
        figures.most = max(figures.most, len(units))
        assert len(units) <= spec.max
        now_s += STEP_S
        if now_s > 10 * DAY_S:
            figures.unfinished = len(waiting) + len(coming)
            break
    figures.seconds = time.perf_counter() - began
    return figures


def _record(unit: SimulatedUnit, now_s: float) -> PoolUnit:
    if unit.starts_s > now_s:
        return PoolUnit(unit=unit.name, phase="pending", made_ms=int(unit.ordered_s * 1000))
    idle_ms = 0 if unit.running else int(unit.idle_s * 1000) + 1
    return PoolUnit(unit=unit.name, phase="up", worker=unit.name, running=unit.running, idle_ms=idle_ms)


def _worker(unit: SimulatedUnit, spec: PoolSpec) -> WorkerInfo:
    return WorkerInfo(id=unit.name, unit=unit.name, queues=spec.queues, slots=spec.slots, running=unit.running)


def day_spec(**fields: object) -> PoolSpec:
    """Return the pool of the simulations: up to 30 workers of 2 slots that end after 10 idle minutes."""
    given = {"name": "gpu", "engine": "simulated", "queues": ("gpu",), "max": 30, "slots": 2}
    return msgspec.convert({**given, **fields}, PoolSpec)


def measure(place: Place) -> list[Row]:
    """A day with a slow engine; then the demand of long queues."""
    figures = simulate(day_trace(length_s=place.pick(DAY_S, 6 * 3600)), day_spec())
    rows = [
        Row("a simulated day, wait of a job, mean", "jobkit", figures.mean_wait_s, "s"),
        Row("a simulated day, wait of a job, p95", "jobkit", figures.wait_s(0.95), "s"),
        most("a simulated day, worker-hours per hour of jobs", [figures.hours / figures.ideal_hours], "x", 4),
        most("a simulated day, workers without a job", [figures.vain], "", 20),
        Row("a simulated day, orders within a minute after an end", "jobkit", figures.flaps, ""),
        most("a decision", [1000 * figures.seconds / figures.decisions], "ms", 5),
    ]
    sizes = (1_000, 100_000) if place.pick(1, 0) else (500,)
    return [*rows, *asyncio.run(_demand(place, sizes))]


async def _demand(place: Place, sizes: Sequence[int]) -> list[Row]:
    place.flush()
    store = RedisStore(Settings(url=place.url, namespace="scaling", secret=SECRET).checked())
    rows, n = [], 0
    try:
        for size in sizes:
            while n < size:
                jobs = [Submission(JobSpec(id=f"s{n + i}", task="work", queue="gpu"), b"") for i in range(500)]
                await store.submit(jobs)
                n += 500
            taken = []
            for _ in range(20):
                began = time.perf_counter()
                await store.part(PoolStore).demand(["gpu"])
                taken.append(1000 * (time.perf_counter() - began))
            rows.append(most(f"demand of {size:,} waiting jobs", [sorted(taken)[10]], "ms", 5))
    finally:
        await store.close()
    return rows
