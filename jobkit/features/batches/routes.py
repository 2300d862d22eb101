"""`/api/batches`: list, read, cancel, retry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from msgspec import Struct

from jobkit.features.batches.store import BatchStore
from jobkit.http.api.namespace import AT_ONCE
from jobkit.http.api.routing import act, see
from jobkit.http.api.shapes import Cancel, Limit, RepeatedJson, State, answer, doc, json_of
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.tail import on_loop
from jobkit.http.messages import Problem
from jobkit.model import JobSnapshot, JobState
from jobkit.model.batch import OPEN, BatchInfo, BatchSpec

#: Batches read for one list, if a token covers only some of them.
_MOST_BATCHES = 10_000


class BatchList(Struct, forbid_unknown_fields=True, kw_only=True):
    """Filter of the list of batches."""

    name: Annotated[str, doc("Only of this name.", max_length=200)] = ""
    limit: Limit = 50


BatchJson = json_of(
    "BatchJson",
    "A batch: the jobs of one map or sweep, by state. Of `size` jobs `came` were submitted so far.",
    BatchInfo(BatchSpec("", "", 0)),
    BatchSpec,
    state=State,
)

BatchesJson = answer("BatchesJson", batches=list[BatchJson])  # type: ignore[valid-type]  # made at run time


async def batches(call: ApiCall) -> Any:
    """List batches, newest first."""
    asked: BatchList = call.query
    most = asked.limit if call.grant.sees_all else _MOST_BATCHES
    found = await call.kit.aio.batches.infos(most, name=asked.name or None, owner=call.grant.owner)
    return {"batches": [info.to_json() for info in found if call.grant.sees(info.spec)][: asked.limit]}


async def batch(call: ApiCall) -> Any:
    """Read one batch: its definition, and its jobs by state."""
    return (await _batch(call)).to_json()


async def cancel_batch(call: ApiCall) -> Any:
    """Ask the open jobs of a batch to stop."""
    found = await _batch(call)
    runs = [found.id] if found.leader in OPEN else []  # it submits others
    open_jobs = [*runs, *(job.id for job in await _jobs(call, found) if job.state in OPEN)]
    if not open_jobs:
        raise Problem(409, "ended", f"all jobs of batch {found.id} have ended; there is nothing to cancel", "id")
    await call.kit.aio.cancel_many(open_jobs, call.body.reason, by=call.grant.subject)
    return (await _batch(call)).to_json()


async def retry_batch(call: ApiCall) -> Any:
    """Retry the failed jobs of a batch, at most 1000 per request; the new jobs take their places."""
    failed = [job.id for job in await _jobs(call, await _batch(call)) if job.state is JobState.FAILED]
    made: Any = await asyncio.to_thread(call.kit.retry_many, failed[:AT_ONCE], owner=call.grant.subject)
    return {"jobs": made.jobs, "refused": made.refused, "left": max(0, len(failed) - AT_ONCE)}


async def _batch(call: ApiCall) -> BatchInfo:
    read: Callable[[str], Awaitable[BatchInfo]] = call.kit.aio.batches.info
    return await call.find("id", "batch", read, lambda found: call.grant.sees(found.spec))


async def _jobs(call: ApiCall, batch: BatchInfo) -> list[JobSnapshot]:
    """Return the jobs of a batch that the caller may see: it may share some with batches of others."""
    store, found = call.kit.verbs.store, list[JobSnapshot]()
    ids = [job_id for job_id, _ in await on_loop(store.part(BatchStore).members(batch.id))]
    for start in range(0, len(ids), 500):
        snapshots = await on_loop(store.snapshots(ids[start : start + 500]))
        found += [job for job in snapshots if job is not None and call.grant.sees(job.spec)]
    return found


ROUTES = (
    see("/api/batches", batches, BatchesJson, query=BatchList),
    see("/api/batches/{id}", batch, BatchJson),
    act("/api/batches/{id}/cancel", cancel_batch, 200, BatchJson, body=Cancel, on="batch"),
    act("/api/batches/{id}/retry", retry_batch, 202, RepeatedJson, on="batch", others=()),
)
