"""`Nouns`: what a kit has under the names of features."""

from __future__ import annotations

from jobkit.client.forms import in_thread, on_loop
from jobkit.feature import NounOf
from jobkit.features.archive.kit import Archive
from jobkit.features.failures.kit import Failures
from jobkit.features.pools.kit import Pool, Pools, PoolVerbs
from jobkit.features.schedules.kit import Schedule, Schedules, ScheduleVerbs

__all__ = ["Nouns", "Pool", "Schedule"]


class Nouns:
    """Base of the kit, with a line for each feature that has a noun."""

    archive = NounOf(Archive)
    failures = NounOf(Failures)
    pools = NounOf(Pools)
    pool = on_loop("pools._verbs", PoolVerbs.pool)
    schedules = NounOf(Schedules)
    schedule = in_thread("schedules._verbs", ScheduleVerbs.schedule)
