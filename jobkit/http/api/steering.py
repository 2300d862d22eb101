"""Handlers for schedules, pauses, groups of failures and the audit trail."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

from msgspec.structs import asdict

from jobkit.http.api.jobs import accepted
from jobkit.http.api.shapes import AuditQuery, FailureQuery
from jobkit.http.auth import access
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.tail import on_loop
from jobkit.http.messages import Response
from jobkit.model import FailureGroup, ScheduleSnapshot
from jobkit.model.limits import Pause
from jobkit.model.people import Role
from jobkit.model.plain import iso

#: Jobs of a group that one request retries; the next request continues.
AT_ONCE = 1000


async def schedules(call: ApiCall) -> Any:
    """List schedules by name, with their last runs."""
    found = await on_loop(call.kit.verbs.store.schedules.snapshots())
    return {"schedules": [one.to_json() for one in found if call.grant.sees(one.spec.job)]}


async def schedule(call: ApiCall) -> Any:
    """Read one schedule."""
    return (await _schedule(call)).to_json()


async def pause_schedule(call: ApiCall) -> Any:
    """Pause a schedule."""
    return await _steered(call, call.kit.aio.pause_schedule)


async def resume_schedule(call: ApiCall) -> Any:
    """Resume a schedule: it fires at its next time from now."""
    return await _steered(call, call.kit.aio.resume_schedule)


async def run_schedule(call: ApiCall) -> Any:
    """Run a schedule once, now."""
    found = await _schedule(call)
    return accepted(call, (await call.kit.aio.run_schedule(found.name)).id)


async def remove_schedule(call: ApiCall) -> Any:
    """Delete a schedule; its jobs stay."""
    found = await _schedule(call)
    await call.kit.aio.remove_schedule(found.name)
    return Response(204)


async def _steered(call: ApiCall, verb: Any) -> Any:
    await verb((await _schedule(call)).name)
    return await schedule(call)


async def _schedule(call: ApiCall) -> ScheduleSnapshot:
    async def read(name: str) -> ScheduleSnapshot | None:
        return next(iter(await on_loop(call.kit.verbs.store.schedules.snapshots([name]))), None)

    return await call.find("name", "schedule", read, lambda found: call.grant.sees(found.spec.job))


# -- pausing ------------------------------------------------------------------------------------------------------


async def paused(call: ApiCall) -> Any:
    """List paused queues and tasks."""
    found: list[Pause] = await call.kit.aio.paused()
    queues = {one.name for one in found}
    if call.grant.tasks:  # those that jobs of the token's tasks go to
        tasks = [one for name, one in (await call.kit.aio.tasks()).items() if call.grant.covers(name)]
        queues = {call.kit.settings.queue_for(one.name, one.options.queue or "default") for one in tasks}
    seen = [one for one in found if (one.name in queues if one.kind == "queue" else call.grant.covers(one.name))]
    return {"paused": [asdict(one) | {"at": iso(one.at)} for one in seen]}


async def pause_queue(call: ApiCall) -> Any:
    """Pause a queue: no further job of it starts, running jobs go on."""
    return {"changed": await call.kit.aio.pause(call.params["name"], by=call.grant.subject)}


async def resume_queue(call: ApiCall) -> Any:
    """Resume a paused queue."""
    return {"changed": await call.kit.aio.resume(call.params["name"])}


async def pause_task(call: ApiCall) -> Any:
    """Pause a task: no further job of it starts, in any queue."""
    call.require_task(call.params["name"])
    return {"changed": await call.kit.aio.pause_task(call.params["name"], by=call.grant.subject)}


async def resume_task(call: ApiCall) -> Any:
    """Resume a paused task; its jobs keep their places in the queue."""
    call.require_task(call.params["name"])
    return {"changed": await call.kit.aio.resume_task(call.params["name"])}


# -- failures -----------------------------------------------------------------------------------------------------


async def failures(call: ApiCall) -> Any:
    """List groups of failed jobs, the newest failure first."""
    asked: FailureQuery = call.query
    found = await call.kit.aio.failures(state=asked.state or None, task=asked.task or None, limit=asked.limit)
    return {"failures": [group.to_json() for group in found if call.grant.covers(group.task)]}


async def failure(call: ApiCall) -> Any:
    """Read one group of failed jobs."""
    return (await _group(call)).to_json()


async def retry_failures(call: ApiCall) -> Any:
    """Retry the jobs of a group that have not been retried yet, at most 1000 per request."""
    group = await _group(call)

    def retry() -> Any:
        ids = list(islice(call.kit.failed_jobs(group.id, is_repeated=False), AT_ONCE))
        return call.kit.retry_many(ids, owner=call.grant.subject)

    made = await asyncio.to_thread(retry)
    left = max(0, group.waiting - len(made.jobs) - len(made.refused))
    return {"jobs": made.jobs, "refused": made.refused, "left": left}


async def mute_failures(call: ApiCall) -> Any:
    """Mute a group: it is counted, but no longer shown."""
    return await _changed_group(call, call.kit.aio.mute)


async def resolve_failures(call: ApiCall) -> Any:
    """Resolve a group: it is shown as regressed if it fails again."""
    return await _changed_group(call, call.kit.aio.resolve)


async def reopen_failures(call: ApiCall) -> Any:
    """Reopen a muted or resolved group."""
    return await _changed_group(call, call.kit.aio.reopen)


async def _changed_group(call: ApiCall, verb: Any) -> Any:
    await verb((await _group(call)).id, by=call.grant.subject)
    return await failure(call)


async def _group(call: ApiCall) -> FailureGroup:
    async def read(id: str) -> FailureGroup | None:
        return await on_loop(call.kit.verbs.store.failures.group(id))

    noun = "group of failures"
    return await call.find("id", "failure", read, lambda found: call.grant.covers(found.task), noun=noun)


# -- the audit trail ----------------------------------------------------------------------------------------------


async def audit(call: ApiCall) -> Any:
    """List the audit trail, newest first; for administrators."""
    asked: AuditQuery = call.query
    if not call.grant.is_open and call.grant.role != Role.ADMIN:
        raise access.insufficient("the audit trail is for people who log in with the role admin", "admin")
    found = await call.kit.aio.audit(asked.limit, asked.before)
    entries = [entry.to_json() for entry in found]
    return {"entries": entries, "next_before": found[-1].id if found else None}
