"""Lines of `jobkit doctor` about pools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from jobkit.cli.findings import Finding, ok, warn
from jobkit.features.pools.pool_info import PoolInfo, pool_infos
from jobkit.keys import codec_of
from jobkit.store.redis import RedisStore


async def findings(store: RedisStore) -> Iterable[Finding]:
    """Return a line for each pool."""
    return states(await pool_infos(store, codec_of(store.settings)))


def states(pools: Sequence[PoolInfo]) -> Iterator[Finding]:
    """Yield a line for each pool."""
    for pool in pools:
        level = ok if pool.state in ("active", "removed") else warn
        text = pool.sentence or f"{pool.running} running, {pool.pending} pending"
        yield level("pool", f"{pool.name}: {text}")
