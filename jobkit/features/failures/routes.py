"""`/api/failures`: groups of failed jobs."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Annotated, Any, Literal

from msgspec import Struct

from jobkit.features.failures.group import FailureGroup
from jobkit.features.failures.kit import Failures
from jobkit.http.api.namespace import AT_ONCE
from jobkit.http.api.routing import act, deeds, see
from jobkit.http.api.shapes import Limit, RepeatedJson, answer, doc
from jobkit.http.core.handling import ApiCall


class FailureQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Filter of the groups of failures."""

    state: Annotated[
        list[Literal["open", "regressed", "muted", "resolved"]], doc("Only in these states; may be repeated.")
    ] = []
    task: Annotated[str, doc("Only of this task.", max_length=200)] = ""
    limit: Limit = 100


class FailureJson(FailureGroup, frozen=True):
    """Failed jobs of one task, with the same type of error at the same place."""

    title: str = ""


FailuresJson = answer("FailuresJson", failures=list[FailureJson])

#: See `MODELS` of the shapes.
MODELS = (FailureJson,)


async def failures(call: ApiCall) -> Any:
    """List groups of failed jobs, the newest failure first."""
    asked: FailureQuery = call.query
    found = await call.kit.aio.failures(state=asked.state or None, task=asked.task or None, limit=asked.limit)
    return {"failures": [group.to_json() for group in found if call.grant.covers(group.task)]}


async def failure(call: ApiCall) -> Any:
    """Read one group of failed jobs."""
    return (await _group(call)).to_json()


async def retry_group(call: ApiCall) -> Any:
    """Retry the jobs of a group that have not been retried yet, at most 1000 per request."""
    group = await _group(call)

    def retry() -> Any:
        ids = list(islice(call.kit.failures.jobs(group.id, is_repeated=False), AT_ONCE))
        return call.kit.retry_many(ids, owner=call.grant.subject)

    made = await asyncio.to_thread(retry)
    left = max(0, group.waiting - len(made.jobs) - len(made.refused))
    return {"jobs": made.jobs, "refused": made.refused, "left": left}


async def _group(call: ApiCall) -> FailureGroup:
    return await call.find(
        "id",
        "failure",
        call.kit.aio.failures.get,
        lambda found: call.grant.covers(found.task),
        noun="group of failures",
    )


ROUTES = (
    see("/api/failures", failures, FailuresJson, query=FailureQuery, about="owners"),
    see("/api/failures/{id}", failure, FailureJson, about="owners"),
    act("/api/failures/{id}/retry", retry_group, 202, RepeatedJson, on=Failures.ON, about="owners"),
    *deeds("/api/failures/{id}", Failures, _group, failure, FailureJson, about="owners"),
)
