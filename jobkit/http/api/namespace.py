"""Handlers for all but jobs: tasks, queues, workers and health."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import asdict

from jobkit.http.api.shapes import TaskJson
from jobkit.http.core.handling import ApiCall, without_places
from jobkit.http.core.tail import on_loop
from jobkit.http.messages import Problem, Response, json_response, printable
from jobkit.model import StoreUnavailable
from jobkit.model.limits import Pause
from jobkit.model.plain import iso
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.registry import unknown_task

#: Failed jobs that one request retries; the next request continues.
AT_ONCE = 1000


async def tasks(call: ApiCall) -> Any:
    """List tasks, with the JSON Schema of their arguments."""
    found: dict[str, TaskInfo] = await call.kit.aio.tasks()
    return {"tasks": [_task(call, info) for name, info in found.items() if call.grant.covers(name)]}


async def task(call: ApiCall) -> Any:
    """Read one task."""
    found: dict[str, TaskInfo] = await call.kit.aio.tasks()
    name = call.params["name"]
    info = found.get(name)
    if info is None or not call.grant.covers(name):
        refused = call.kit.verbs.refused_tasks.get(name) if call.grant.covers(name) else None
        known = [each for each in found if call.grant.covers(each)]
        raise Problem(404, "unknown_task", refused or unknown_task(printable(name), known), "name")
    return _task(call, info)


def _task(call: ApiCall, info: TaskInfo) -> TaskJson:
    queue = call.kit.settings.queue_for(info.name, info.options.queue or "default")
    return TaskJson(info.name, info.title, info.doc, queue, info.isolation, info.json_schema())


async def queues(call: ApiCall) -> Any:
    """List queues, with their numbers of jobs and workers."""
    return {"queues": await call.kit.aio.queues()}


async def workers(call: ApiCall) -> Any:
    """List workers."""
    return {"workers": [worker.to_json() for worker in await call.kit.aio.workers()]}


async def stats(call: ApiCall) -> Any:
    """Read the totals: jobs by state, queues, workers."""
    found = await call.kit.aio.stats()
    return found | {"refused": without_places(found["refused"], call.kit.settings)}


# -- pausing -----------------------------------------------------------------------------------------------------------


async def paused(call: ApiCall) -> Any:
    """List paused queues and tasks."""
    found: list[Pause] = await on_loop(call.kit.verbs.pauses())
    queues = {one.name for one in found}
    if call.grant.tasks:  # those that jobs of the token's tasks go to
        tasks = [one for name, one in (await call.kit.aio.tasks()).items() if call.grant.covers(name)]
        queues = {call.kit.settings.queue_for(one.name, one.options.queue or "default") for one in tasks}
    seen = [one for one in found if (one.name in queues if one.kind == "queue" else call.grant.covers(one.name))]
    return {"paused": [asdict(one) | {"at": iso(one.at)} for one in seen]}


async def pause_queue(call: ApiCall) -> Any:
    """Pause a queue: no further job of it starts, running jobs go on."""
    return {"changed": await call.kit.aio.queues.pause(call.params["name"], by=call.grant.subject)}


async def resume_queue(call: ApiCall) -> Any:
    """Resume a paused queue."""
    return {"changed": await call.kit.aio.queues.resume(call.params["name"])}


async def pause_task(call: ApiCall) -> Any:
    """Pause a task: no further job of it starts, in any queue."""
    call.require_task(call.params["name"])
    return {"changed": await call.kit.aio.tasks.pause(call.params["name"], by=call.grant.subject)}


async def resume_task(call: ApiCall) -> Any:
    """Resume a paused task; its jobs keep their places in the queue."""
    call.require_task(call.params["name"])
    return {"changed": await call.kit.aio.tasks.resume(call.params["name"])}


# -- health ------------------------------------------------------------------------------------------------------------


async def health(call: ApiCall) -> Response:
    """Check the server: 200 if the store answers within 2 seconds, else 503."""
    from jobkit import __version__

    try:
        async with asyncio.timeout(2):
            await call.kit.aio.counts()
        is_well = True
    except (StoreUnavailable, TimeoutError):
        is_well = False
    body = {"status": "ok" if is_well else "unavailable", "live": call.kit.hub.is_live, "version": __version__}
    return json_response(body, 200 if is_well else 503, {"Cache-Control": "no-store"})
