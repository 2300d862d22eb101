"""A fake engine and what decisions are made of, for tests and the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from jobkit.features.pools.decide import PoolView, Tempo
from jobkit.features.pools.launcher import EngineUnavailable, Launcher, LaunchRefused, Unit, WorkerOrder
from jobkit.features.pools.spec import PoolSpec
from jobkit.features.pools.store import Demand, PoolUnit
from jobkit.store.values import WorkerInfo

#: Times of tests, which call `tick` themselves.
TEMPO = Tempo(list=0.0, grow=0.0, cancel=0.0, backoff=1.0, backoff_most=4.0)


def spec(name: str = "gpu", **fields: Any) -> PoolSpec:
    return PoolSpec(**{"name": name, "engine": "made_up", "queues": (name,), "max": 10, **fields})


def view(name: str = "gpu", units: Sequence[PoolUnit] = (), **fields: Any) -> PoolView:
    options = {key: fields.pop(key) for key in list(fields) if key in PoolSpec.__struct_fields__}
    return PoolView(spec=spec(name, **options), units=tuple(units), **fields)


def unit(name: str, phase: str = "up", **fields: Any) -> PoolUnit:
    return PoolUnit(**{"unit": name, "phase": phase, "worker": f"w-{name}", **fields})


def worker(name: str, queue: str = "gpu", slots: int = 1, running: int = 0, **fields: Any) -> WorkerInfo:
    return WorkerInfo(
        **{"id": f"w-{name}", "unit": name, "queues": (queue,), "slots": slots, "running": running, **fields}
    )


def waiting(jobs: int, queue: str = "gpu", **use: float) -> Demand:
    return Demand(queue, use, jobs)


class MadeUpOptions(msgspec.Struct, frozen=True):
    size: int = 1


class MadeUpLauncher(Launcher):
    """An engine in this process. All instances share `units`, as an engine outlives an autoscaler."""

    Options: ClassVar[type[msgspec.Struct]] = MadeUpOptions
    units: ClassVar[dict[str, Unit]] = {}
    orders: ClassVar[dict[str, WorkerOrder]] = {}
    stopped: ClassVar[list[tuple[str, bool]]] = []
    refuses: ClassVar[str] = ""
    is_away: ClassVar[bool] = False
    dies: ClassVar[str] = ""
    """Reason with which each new unit ends at once."""

    def __init__(self, pool: str, options: MadeUpOptions) -> None:
        self.pool = pool

    async def start(self, orders: Sequence[WorkerOrder]) -> list[Unit]:
        self._check()
        if self.refuses:
            raise LaunchRefused(self.refuses)
        for order in orders:
            state = "ended" if self.dies else "pending"
            self.units[order.unit] = Unit(order.unit, f"job {order.unit}", state, "PENDING (Priority)", error=self.dies)  # type: ignore[arg-type]
            self.orders[order.unit] = order
        return [self.units[order.unit] for order in orders]

    async def list(self) -> list[Unit]:
        self._check()
        return [*self.units.values()]

    async def stop(self, units: Sequence[str], *, now: bool = False) -> None:
        self._check()
        for name in units:
            self.stopped.append((name, now))
            self.units.pop(name, None)

    def _check(self) -> None:
        if self.is_away:
            raise EngineUnavailable("the engine does not answer")
