"""Pools as the starters of workers, about which the kernel asks; see `jobkit/feature.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobkit.codec import Codec
from jobkit.features.pools.pool_info import PoolInfo, pool_infos
from jobkit.features.pools.store import PoolStore
from jobkit.features.pools.why import pool_reason
from jobkit.store.redis import RedisStore


class PoolSource:
    """Pools as what starts workers; see `jobkit.client.waits.WorkerSource`."""

    def __init__(self, pools: Sequence[PoolInfo]) -> None:
        self._pools = pools

    def serves(self, queue: str) -> bool:
        """Return whether a pool starts workers for a queue."""
        return any(pool.spec and not pool.is_removed and queue in pool.spec.queues for pool in self._pools)

    def reason(self, queue: str, use: Mapping[str, float], *, is_lacking: bool = True) -> str:
        """Return why such a job waits for a worker of a pool; see `pool_reason`."""
        return pool_reason(self._pools, queue, use, is_lacking=is_lacking)


async def source(store: RedisStore, codec: Codec) -> PoolSource:
    """Return what the pools of a namespace do now."""
    return PoolSource(await pool_infos(store, codec))


def is_grave(reason: str) -> bool:
    """Return whether a reason of `PoolSource` does not pass by itself."""
    is_problem = reason.startswith("pool ") and ":" in reason  # "pool gpu: sbatch refused: invalid partition"
    return is_problem or reason.startswith("no pool ")


async def ends_idle(store: RedisStore) -> bool:
    """Return whether an autoscaler lives, which decides when idle workers end."""
    return bool(await store.part(PoolStore).manager())
