"""The part of a failed job's card that leads to its group."""

from __future__ import annotations

from collections.abc import Mapping

from jobkit.features.failures.store import FailureStore
from jobkit.model import JobSnapshot, JobState
from jobkit.model.plain import dumps
from jobkit.store.redis import RedisStore


async def about(store: RedisStore, snapshot: JobSnapshot) -> Mapping[str, str]:
    """Return how many more have failed like this job, for the card's text "alike"; {} for one that has not failed."""
    if snapshot.state is not JobState.FAILED:
        return {}
    failures = store.part(FailureStore)
    (group_id,) = await failures.groups_of([snapshot.id])
    group = await failures.group(group_id)
    if group is None:
        return {}
    return {"alike": dumps({"job": snapshot.id, "to": "failures", "group": group.id, "more": group.jobs - 1})}
