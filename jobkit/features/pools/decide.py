"""The autoscaler's decision: how many workers each pool starts, and which it lets go. Pure; knows no engine.

Waiting jobs are placed, those with the most resources first, into the room of workers that live, then of those that
were ordered, then of new ones. Workers into which nothing was placed are not needed. So a worker that is on its way
counts from its order on, and jobs that no new worker could run start none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from jobkit.features.pools.spec import PoolSpec
from jobkit.features.pools.store import Demand, PoolUnit
from jobkit.store.values import WorkerInfo


class Tempo(msgspec.Struct, frozen=True):
    """Times of the autoscaler in seconds; tests use shorter ones.

    Attributes:
        tick: between two decisions. list: between two lists of an engine.
        grow: time for which workers must be too few before more are started.
        cancel: time for which pending workers must be unnecessary before they are cancelled.
        well: a worker that lives so long, or has ended a job, was started successfully.
        start: a unit whose worker is not known after so long has failed. lost: one whose worker is gone is stopped.
        failures: so many failed starts in a row pause a pool.
        backoff, backoff_most: pause after the first failed start, which doubles, and its limit.
        batch: most workers that one decision starts.
    """

    tick: float = 2.0
    list: float = 10.0
    grow: float = 2.0
    cancel: float = 30.0
    well: float = 30.0
    start: float = 600.0
    lost: float = 90.0
    failures: int = 20
    backoff: float = 5.0
    backoff_most: float = 300.0
    batch: int = 50


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """One pool for a decision.

    Attributes:
        may_start: neither paused nor removed, its engine answers, and no backoff is running.
        is_paused: it gets no workers, also not its `min`; pending ones are cancelled.
        most_starts: largest number of starts now: one at a time after a failure.
        fixed: number of workers that a user has set; None for as many as needed.
    """

    spec: PoolSpec
    units: tuple[PoolUnit, ...] = ()
    may_start: bool = True
    is_paused: bool = False
    most_starts: int = 1_000
    fixed: int | None = None
    short_ms: int = 0
    over_ms: int = 0


class PoolPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Decision for one pool.

    Attributes:
        wanted: number of workers after it. start: number of units to order.
        cancel: pending units to cancel. retire: idle units whose workers end, unless they get a job before.
        drain: units whose workers finish their jobs and end, because a user wants fewer.
        short_ms, over_ms: see `PoolStatus`, for the next decision.
    """

    wanted: int = 0
    start: int = 0
    cancel: tuple[str, ...] = ()
    retire: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    short_ms: int = 0
    over_ms: int = 0


@dataclass(slots=True)
class _Room:
    """Free room of a worker that lives, is pending or would be started. `unit`: of a pool."""

    queues: Sequence[str]
    slots: int
    has: dict[str, float]
    unit: str = ""
    is_used: bool = False

    def take(self, queue: str, use: Mapping[str, float], jobs: int) -> int:
        """Place up to `jobs` jobs; return how many."""
        if queue not in self.queues:
            return 0
        n = min(jobs, self.slots, *(_times(self.has.get(name, 0.0), amount) for name, amount in use.items()))
        if n > 0:
            self.slots -= n
            self.is_used = True
            for name, amount in use.items():
                self.has[name] = self.has.get(name, 0.0) - n * amount
        return n


#: More jobs than any worker runs at a time.
_ENOUGH = 10**9


def _times(has: float, amount: float) -> int:
    return math.floor(min(has / amount + 1e-9, _ENOUGH)) if amount > 0 else _ENOUGH


@dataclass(slots=True)
class _Growth:
    """Workers that a pool would start."""

    view: PoolView
    most: int
    rooms: list[_Room] = field(default_factory=list)

    def take(self, queue: str, use: Mapping[str, float], jobs: int) -> int:
        """Place up to `jobs` jobs into workers that would be started; return how many."""
        spec, left = self.view.spec, jobs
        for room in self.rooms:
            left -= room.take(queue, use, left)
        while left and len(self.rooms) < self.most:
            room = _Room(spec.queues, spec.slots, dict(spec.resources))
            if not (n := room.take(queue, use, left)):
                break
            left -= n
            self.rooms.append(room)
        return jobs - left


def decide(
    pools: Sequence[PoolView], demand: Sequence[Demand], workers: Sequence[WorkerInfo], now_ms: int, tempo: Tempo
) -> dict[str, PoolPlan]:
    """Return a plan for each pool.

    Args:
        demand: of all queues of the pools. workers: all of the namespace, also those that no pool started.
    """
    ending = {unit.unit for view in pools for unit in view.units if unit.phase in ("ending", "ended")}
    taking = (worker for worker in workers if worker.takes_jobs and worker.unit not in ending)
    rooms = [_room_of(worker) for worker in taking if worker.running < worker.slots]
    for view in pools:
        on_their_way = (unit for unit in view.units if unit.is_pending or unit.phase == "starting")
        rooms += [_Room(view.spec.queues, unit.slots, dict(unit.resources), unit.unit) for unit in on_their_way]
    growths = sorted((_growth_of(view) for view in pools), key=_cost)
    for each in sorted(demand, key=lambda one: (-sum(one.use.values()), one.queue)):
        left = each.jobs
        for take in (*(room.take for room in rooms), *(growth.take for growth in growths)):
            if not left:
                break
            left -= take(each.queue, each.use, left)
    used = {room.unit for room in rooms if room.is_used}
    new = {growth.view.spec.name: len(growth.rooms) for growth in growths}
    return {view.spec.name: _plan(view, new[view.spec.name], used, now_ms, tempo) for view in pools}


def _room_of(worker: WorkerInfo) -> _Room:
    has = {name: amount - worker.in_use.get(name, 0.0) for name, amount in worker.resources.items()}
    return _Room(worker.queues, worker.slots - worker.running, has, worker.unit)


def _growth_of(view: PoolView) -> _Growth:
    room = view.spec.max - len(_living(view))
    is_free = view.may_start and not view.is_paused and view.fixed is None
    return _Growth(view, max(0, room) if is_free else 0)


def _cost(growth: _Growth) -> tuple[float, str]:
    """Return the order in which pools start workers: first those with few resources, which others may need."""
    spec = growth.view.spec
    return sum(spec.resources.values()), spec.name


def _living(view: PoolView) -> list[PoolUnit]:
    return [unit for unit in view.units if unit.phase != "ended"]


def _plan(view: PoolView, needed: int, used: set[str], now_ms: int, tempo: Tempo) -> PoolPlan:
    spec = view.spec
    kept = [unit for unit in _living(view) if unit.phase != "ending"]
    pending = [unit for unit in kept if unit.is_pending]
    idle = sorted((u for u in kept if u.phase == "up" and u.idle_ms and u.unit not in used), key=lambda u: u.idle_ms)
    if view.fixed is not None or view.is_paused:
        target = 0 if view.is_paused else min(view.fixed or 0, spec.max)
        surplus = max(0, len(kept) - target)
        cancel = [unit.unit for unit in reversed(pending)][:surplus]
        if view.is_paused:  # what runs goes on as long as it has jobs
            idle = [unit for unit in idle if _is_over(unit.idle_ms, spec.idle_s, now_ms)]
        retire = [unit.unit for unit in idle[: surplus - len(cancel)]]
        up = [] if view.is_paused else [unit.unit for unit in reversed(kept) if unit.phase == "up"]
        drain = [unit for unit in up if unit not in retire][: surplus - len(cancel) - len(retire)]
        room = spec.max - len(_living(view))
        start = min(max(0, target - len(kept)), max(0, room), _most(view, tempo))
        wanted = len(kept) - len(cancel) - len(retire) if view.is_paused else target
        return PoolPlan(wanted=wanted, start=start, cancel=tuple(cancel), retire=tuple(retire), drain=tuple(drain))

    short_ms = (view.short_ms or now_ms) if needed else 0
    is_time = bool(needed) and _is_over(short_ms, tempo.grow, now_ms)
    lacking = spec.min - len(kept)
    start = min(max(needed if is_time else 0, lacking, 0), max(0, spec.max - len(_living(view))), _most(view, tempo))
    spare = max(0, len(kept) - spec.min)
    unused = [unit.unit for unit in reversed(pending) if unit.unit not in used][:spare]
    over_ms = (view.over_ms or now_ms) if unused and not needed else 0
    cancel = unused if over_ms and _is_over(over_ms, tempo.cancel, now_ms) else []
    ripe = [] if needed else [unit.unit for unit in idle if _is_over(unit.idle_ms, spec.idle_s, now_ms)]
    retire = ripe[: spare - len(cancel)]
    wanted = len(kept) - len(cancel) - len(retire) + max(needed, lacking, 0)
    return PoolPlan(
        wanted=min(wanted, spec.max),
        start=start,
        cancel=tuple(cancel),
        retire=tuple(retire),
        short_ms=short_ms,
        over_ms=over_ms,
    )


def _most(view: PoolView, tempo: Tempo) -> int:
    return min(view.most_starts, tempo.batch) if view.may_start else 0


def _is_over(since_ms: int, seconds: float, now_ms: int) -> bool:
    return now_ms - since_ms >= seconds * 1000
