"""What is answered about the whole: tasks, queues, workers, figures, health, Prometheus metrics."""

from __future__ import annotations

import asyncio
from typing import Any

from jobkit.http.api import Call, on_loop, without_places
from jobkit.http.messages import Response, json_response
from jobkit.http.metrics import exposition
from jobkit.model import StoreUnavailable
from jobkit.tasks.info import TaskInfo


async def tasks(call: Call) -> Response:
    """Tasks that may be submitted, each with the JSON Schema of its arguments."""
    found: dict[str, TaskInfo] = await call.kit.aio.tasks()
    return json_response({"tasks": [_task(call, info) for name, info in found.items() if call.grant.covers(name)]})


async def task(call: Call) -> Response:
    """One of them."""
    from jobkit.http.messages import Problem
    from jobkit.http.routing import printable

    found: dict[str, TaskInfo] = await call.kit.aio.tasks()
    info = found.get(call.params["name"])
    if info is None or not call.grant.covers(info.name):
        name = call.params["name"]
        refused = call.kit.verbs.refused_tasks.get(name) if call.grant.covers(name) else None
        raise Problem(404, "unknown_task", refused or f"there is no task {printable(name)!r}", "name")
    return json_response(_task(call, info))


def _task(call: Call, info: TaskInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "title": info.title,
        "doc": info.doc,
        "queue": call.kit.settings.queue_for(info.name, info.options.queue or "default"),
        "isolation": info.isolation,
        "schema": info.json_schema(),
    }


async def queues(call: Call) -> Response:
    call.require_all()
    return json_response({"queues": await call.kit.aio.queues()})


async def workers(call: Call) -> Response:
    call.require_all()
    return json_response({"workers": [worker.to_json() for worker in await call.kit.aio.workers()]})


async def stats(call: Call) -> Response:
    call.require_all()
    found = await call.kit.aio.stats()
    return json_response(found | {"refused": without_places(found["refused"], call.kit.settings)})


async def health(call: Call) -> Response:
    """200 while the store answers."""
    from jobkit import __version__

    try:
        async with asyncio.timeout(2):
            await call.kit.aio.counts()
        is_well = True
    except (StoreUnavailable, TimeoutError):
        is_well = False
    body = {"status": "ok" if is_well else "unavailable", "live": call.kit.hub.is_live, "version": __version__}
    return json_response(body, 200 if is_well else 503, Cache_Control="no-store")


async def metrics(call: Call) -> Response:
    """For Prometheus."""
    call.require_all()
    counts, queues, workers, position = await asyncio.gather(
        call.kit.aio.counts(),
        call.kit.aio.queues(),
        call.kit.aio.workers(),
        on_loop(call.kit.verbs.store.last_event_id()),
    )
    text = exposition(counts, queues, workers, call.api.answered, call.api.streams, position)
    return Response(
        200, text.encode(), {"Content-Type": "text/plain; version=0.0.4; charset=utf-8", "Cache-Control": "no-store"}
    )
