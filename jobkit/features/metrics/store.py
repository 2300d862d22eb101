"""Metrics of jobs in the store; their jobs keep them by news of the kind "metrics"."""

from __future__ import annotations

from collections.abc import Sequence

from jobkit.store.namespace import RedisNamespace


async def lines_of(store: RedisNamespace, job_ids: Sequence[str]) -> list[list[bytes]]:
    """Return the lines of each job's metrics, see `Curves`."""
    found = await store.many([("LRANGE", f"metrics:{job_id}", 0, -1) for job_id in job_ids])
    return [lines or [] for lines in found]
