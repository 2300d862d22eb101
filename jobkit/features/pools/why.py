"""Reasons why a waiting job has no worker yet, in terms of the pools that serve its queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from jobkit.features.pools.pool_info import PoolInfo
from jobkit.features.pools.store import PoolUnit
from jobkit.model.limits import resources_text

#: What a unit is called on its engine, before the id.
_KINDS = {
    "slurm": "Slurm job",
    "kubernetes": "Kubernetes Job",
    "ray": "Ray actor",
    "dask": "Dask task",
    "ssh": "the worker on",
    "local": "process",
}


def pool_reason(pools: Sequence[PoolInfo], queue: str, use: Mapping[str, float], *, is_lacking: bool = True) -> str:
    """Return the sentence for a job that waits for a worker; "" if no pool serves its queue.

    "waits for Slurm job 4711: PENDING (Priority), expected 14:20", "pool gpu: sbatch refused: invalid partition".

    Args:
        use: the resources that it needs. is_lacking: no worker has them, even if nothing uses them.
    """
    serving = [pool for pool in pools if pool.spec and queue in pool.spec.queues and not pool.is_removed]
    fitting = [pool for pool in serving if pool.spec and _fits(pool.spec.resources, use)]
    if serving and not fitting and is_lacking:
        has = "; ".join(
            f"{pool.name} has {resources_text(pool.spec.resources) or 'none'}" for pool in serving if pool.spec
        )
        return f"no pool of queue {queue} has workers with {resources_text(use)}: {has}"
    found = [reason for pool in fitting if (reason := _of_pool(pool))]
    return min(found)[1] if found else ""


def _fits(has: Mapping[str, float], use: Mapping[str, float]) -> bool:
    return all(has.get(name, 0.0) >= amount for name, amount in use.items())


def _of_pool(pool: PoolInfo) -> tuple[int, str] | None:
    """Return a sentence and its rank: a worker that comes soon says more than a pool that is full."""
    assert pool.spec is not None
    coming = sorted((unit for unit in pool.units if unit.is_pending or unit.phase == "starting"), key=_soonest)
    if coming and coming[0].phase == "starting":
        return 0, f"waits for {_name(pool, coming[0])}, which starts{_on(coming[0])}"
    if coming and (pool.manager or coming[0].phase == "pending"):
        unit = coming[0]
        said = f": {unit.reason}" if unit.reason else ""
        expected = f", expected {_clock(unit.expected_ms, pool.now_ms)}" if unit.expected_ms > pool.now_ms else ""
        return 1, f"waits for {_name(pool, unit)}{said}{expected}"
    if pool.state in ("paused", "no autoscaler", "failing"):
        return 3, f"pool {pool.name}: {pool.sentence}"
    if pool.running >= pool.spec.max:
        which = "its one worker is" if pool.spec.max == 1 else f"all of its {pool.spec.max} workers are"
        return 4, f"waits for a worker of pool {pool.name}: {which} busy"
    if pool.wanted > pool.running:
        return 2, f"pool {pool.name} is about to start a worker"
    return None


def _soonest(unit: PoolUnit) -> tuple[bool, bool, int, int]:
    return unit.is_pending, not unit.expected_ms, unit.expected_ms, unit.made_ms


def _name(pool: PoolInfo, unit: PoolUnit) -> str:
    return f"{_KINDS.get(pool.engine, pool.engine)} {unit.id}" if unit.id else f"worker {unit.unit} of pool {pool.name}"


def _on(unit: PoolUnit) -> str:
    return f" on {unit.host}" if unit.host else ""


def _clock(at_ms: int, now_ms: int) -> str:
    """Return "14:20", with the day if it is not today, in the time zone of this machine."""
    at, now = datetime.fromtimestamp(at_ms / 1000), datetime.fromtimestamp(now_ms / 1000)
    return f"{at:%H:%M}" if at.date() == now.date() else f"{at:%d %b %H:%M}"
