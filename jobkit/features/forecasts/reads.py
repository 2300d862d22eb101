"""Places in line, holders of gates and usual run times, read for a forecast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from jobkit.store import wire
from jobkit.store.lines import MOST_RUNNING
from jobkit.store.query import took_ms
from jobkit.store.redis import RedisStore

#: Maximum number of ended jobs that are read for the run times of short tasks.
_RECENT = 100


async def ranks(store: RedisStore, jobs: Sequence[tuple[str, str]]) -> list[int | None]:
    """Return for each job, given by its queue and id, the number of ready jobs before it; None if it is not ready."""
    return await store.many([("ZRANK", f"ready:{queue}", job_id) for queue, job_id in jobs]) if jobs else []


async def holders(store: RedisStore, gates: Sequence[str]) -> dict[str, list[str]]:
    """Return the ids of the jobs that hold a place of each gate."""
    found = await store.many([("ZRANGE", f"holders:{gate}", 0, MOST_RUNNING - 1) for gate in gates]) if gates else []
    return {gate: store.names(f"holders:{gate}", ids) for gate, ids in zip(gates, found, strict=True)}


async def timed_as(store: RedisStore, job_ids: Sequence[str]) -> dict[str, str]:
    """Return `JobSpec.timed_as` of each job that is kept."""
    found = await store.finder.candidates(job_ids)
    return {one.job.id: one.job.spec.timed_as for one in found if one is not None}


async def usual_s(store: RedisStore, tasks: Iterable[str]) -> dict[str, float]:
    """Return the usual run time of tasks in seconds, if known: as workers store it, or the median of recent runs.

    Workers store those above a second only.
    """
    wanted = sorted({*tasks} - {""})
    if not wanted:
        return {}
    raws = await store.ask("HMGET", "took", *wanted)
    stored = store.all_readable("took", lambda task, raw: (task, wire.seconds(raw)), _given(wanted, raws))
    known = dict(stored)
    if len(known) < len(wanted):
        ids = store.names("state:succeeded", await store.ask("ZREVRANGE", "state:succeeded", 0, _RECENT - 1))
        runs: dict[str, list[float]] = {}
        for one in filter(None, await store.finder.candidates(ids)):
            if (took := took_ms(one.job)) is not None:
                runs.setdefault(one.job.spec.timed_as, []).append(took / 1000)
        known |= {task: median(runs[task]) for task in wanted if task in runs and task not in known}
    return known


def _given(names: Sequence[str], raws: Sequence[bytes | None]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), raw) for name, raw in zip(names, raws, strict=True) if raw]
