"""The part of a failed job's card that leads to its group."""

from __future__ import annotations

from collections.abc import Mapping

from jobkit.features.failures.store import FailureStore
from jobkit.model import JobSnapshot, JobState
from jobkit.model.plain import dumps
from jobkit.store.redis import RedisStore


async def about(store: RedisStore, snapshot: JobSnapshot) -> Mapping[str, str]:
    """Return the card's text "alike": the link to the jobs that have failed like this one; {} without any."""
    if snapshot.state is not JobState.FAILED:
        return {}
    failures = store.part(FailureStore)
    (group_id,) = await failures.groups_of([snapshot.id])
    group = await failures.group(group_id)
    if group is None or group.jobs < 2:
        return {}
    link = {"to": "failures", "id": group.id, "text": f"{group.jobs - 1:,} more like this"}
    return {"alike": dumps({"job": snapshot.id, **link, "title": "The group of failures"})}
