"""Handlers for the whole namespace: tasks, queues, workers, totals, health, Prometheus metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from jobkit.http.core.handling import ApiCall, without_places
from jobkit.http.core.tail import on_loop
from jobkit.http.messages import Problem, Response, json_response, printable
from jobkit.model import StoreUnavailable
from jobkit.store.values import event_key
from jobkit.tasks.info import TaskInfo


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
        raise Problem(404, "unknown_task", refused or f"there is no task {printable(name)!r}", "name")
    return _task(call, info)


def _task(call: ApiCall, info: TaskInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "title": info.title,
        "doc": info.doc,
        "queue": call.kit.settings.queue_for(info.name, info.options.queue or "default"),
        "isolation": info.isolation,
        "schema": info.json_schema(),
    }


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


async def metrics(call: ApiCall) -> Response:
    """Read the metrics for Prometheus."""
    counts, queues, workers, position = await asyncio.gather(
        call.kit.aio.counts(),
        call.kit.aio.queues(),
        call.kit.aio.workers(),
        on_loop(call.kit.verbs.store.last_event_id()),
    )
    alive = [worker for worker in workers if worker.is_alive]
    states = ("queued", "scheduled", "running")
    waiting = [({"queue": name, "state": state}, queue[state]) for name, queue in queues.items() for state in states]
    newest_s = event_key(position)[0] / 1000
    answered = sorted(call.api.answered.items())
    requests = [({"route": route, "status": str(status)}, n) for (route, status), n in answered]
    serving = [({"queue": name}, queue["workers"]) for name, queue in queues.items()]

    def of_workers(name: str) -> list[Sample]:
        return [({"worker": worker.id}, getattr(worker, name)) for worker in alive]

    text = exposition(
        [
            ("jobs", "gauge", "Kept jobs, by state.", [({"state": state}, n) for state, n in counts.items()]),
            ("queue_jobs", "gauge", "Unfinished jobs of a queue, by state.", waiting),
            ("queue_workers", "gauge", "Live workers that serve a queue.", serving),
            ("workers", "gauge", "Live workers.", [({}, len(alive))]),
            ("worker_slots", "gauge", "Slots of all live workers.", [({}, sum(worker.slots for worker in alive))]),
            ("worker_running", "gauge", "Running jobs of a worker.", of_workers("running")),
            ("worker_resident_bytes", "gauge", "Resident memory of a worker and its jobs.", of_workers("rss_bytes")),
            ("worker_jobs_total", "counter", "Jobs that a worker has finished.", of_workers("done")),
            ("last_event_timestamp_seconds", "gauge", "Time of the newest event.", [({}, newest_s)]),
            ("http_streams", "gauge", "Open event streams of this process.", [({}, call.api.streams)]),
            ("http_requests_total", "counter", "Requests answered by this process.", requests),
        ]
    )
    headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8", "Cache-Control": "no-store"}
    return Response(200, text.encode(), headers)


Sample = tuple[Mapping[str, str], float]

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def exposition(metrics: Iterable[tuple[str, str, str, Iterable[Sample]]]) -> str:
    """Return metrics in Prometheus's text format (0.0.4). Each has a name, kind, help text and samples."""
    lines = []
    for name, kind, help, samples in metrics:
        lines += [f"# HELP jobkit_{name} {help}", f"# TYPE jobkit_{name} {kind}"]
        for labels, value in samples:
            written = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
            number = int(value) if value == int(value) else value
            lines.append(f"jobkit_{name}{f'{{{written}}}' if written else ''} {number}")
    return "\n".join([*lines, ""])
