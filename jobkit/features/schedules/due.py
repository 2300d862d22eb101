"""Schedules whose time has come, for what has no worker: `sync://`, and the embedded server, which waits for them."""

from __future__ import annotations

from jobkit.codec import Codec
from jobkit.features.schedules.firing import decide, firing
from jobkit.features.schedules.store import ScheduleStore
from jobkit.store.redis import RedisStore
from jobkit.tasks.call import with_own_seed


async def waiting(store: RedisStore) -> int:
    """Return the number of schedules with a next slot."""
    return sum(each.next_ms > 0 for each in await store.part(ScheduleStore).snapshots())


async def submit_due(store: RedisStore, codec: Codec) -> list[str]:
    """Submit the jobs of all schedules that are due by the store's clock; return their ids."""
    schedules, made = store.part(ScheduleStore), []
    while due := (await schedules.due())[0]:
        for one in due:
            fired = firing(one, decide(one), codec, with_own_seed)
            if await schedules.fire(fired) is not None:
                made += [job.spec.id for job in fired.jobs]
    return made
