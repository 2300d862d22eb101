"""`/api/metrics`: jobs, queues, workers and requests in Prometheus's text format."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from jobkit.features.prometheus.endings import Endings
from jobkit.http.api.routing import see
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.tail import on_loop
from jobkit.http.messages import Response
from jobkit.store.values import Fleet, event_key


async def metrics(call: ApiCall) -> Response:
    """Read the metrics for Prometheus."""
    endings = call.api.kept(Endings)
    counts, (queues, workers, _), position, _ = await asyncio.gather(
        call.kit.aio.counts(),
        on_loop(call.kit.verbs.store.overview()),
        on_loop(call.kit.verbs.store.last_event_id()),
        on_loop(endings.read(call.kit.verbs.store)),
    )
    outcomes = [
        ({"task": task, "state": state, "kind": kind}, n) for (task, state, kind), n in endings.outcomes.items()
    ]
    alive, fleet = [worker for worker in workers if worker.is_alive], Fleet.of(workers)
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
            ("workers", "gauge", "Live workers.", [({}, fleet.workers)]),
            ("workers_lost", "gauge", "Workers that died in the last hour.", [({}, fleet.lost)]),
            (
                "worker_slots",
                "gauge",
                "Slots of live workers; of draining ones, the busy ones.",
                [({}, fleet.slots)],
            ),
            ("worker_running", "gauge", "Running jobs of a worker.", of_workers("running")),
            ("worker_resident_bytes", "gauge", "Resident memory of a worker and its jobs.", of_workers("rss_bytes")),
            ("worker_jobs_total", "counter", "Jobs that a worker has finished.", of_workers("done")),
            ("task_jobs_total", "counter", "Ended jobs of a task, by state and kind of the error.", outcomes),
            (
                "task_duration_seconds",
                "histogram",
                "Run times of the last attempts of ended jobs.",
                endings.histogram(),
            ),
            ("last_event_timestamp_seconds", "gauge", "Time of the newest event.", [({}, newest_s)]),
            ("http_streams", "gauge", "Open event streams of this process.", [({}, call.api.streams)]),
            ("http_requests_total", "counter", "Requests answered by this process.", requests),
        ]
    )
    headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8", "Cache-Control": "no-store"}
    return Response(200, text.encode(), headers)


#: Labels and value; of a histogram with the suffix of the name, too.
Sample = tuple[Mapping[str, str], float] | tuple[Mapping[str, str], float, str]

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def exposition(metrics: Iterable[tuple[str, str, str, Iterable[Sample]]]) -> str:
    """Return metrics in Prometheus's text format (0.0.4). Each has a name, kind, help text and samples."""
    lines = []
    for name, kind, help, samples in metrics:
        lines += [f"# HELP jobkit_{name} {help}", f"# TYPE jobkit_{name} {kind}"]
        for labels, value, *suffix in samples:
            written = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
            number = int(value) if value == int(value) else value
            lines.append(f"jobkit_{name}{''.join(suffix)}{f'{{{written}}}' if written else ''} {number}")
    return "\n".join([*lines, ""])


ROUTES = (see("/api/metrics", metrics, "text/plain", about="all", tag="service"),)
