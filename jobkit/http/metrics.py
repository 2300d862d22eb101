"""Prometheus's text format (0.0.4), from what the store says now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jobkit.store.values import WorkerInfo, event_key

Sample = tuple[Mapping[str, str], float]


def exposition(
    counts: Mapping[str, int],
    queues: Mapping[str, Mapping[str, int]],
    workers: Sequence[WorkerInfo],
    answered: Mapping[tuple[str, int], int],
    streams: int,
    last_event: str,
) -> str:
    """All metrics as text.

    Args:
        counts: jobs by state. queues: see `Kit.queues`. workers: see `Kit.workers`.
        answered: requests by route and status. streams: open ones.
        last_event: id of the newest event.
    """
    alive = [worker for worker in workers if worker.is_alive]
    waiting = [
        ({"queue": name, "state": state}, float(queue[state]))
        for name, queue in queues.items()
        for state in ("queued", "scheduled", "running")
    ]
    parts = [
        _metric("jobkit_jobs", "gauge", "Jobs that are kept, by state.", _by("state", counts)),
        _metric("jobkit_queue_jobs", "gauge", "Jobs of a queue that have not ended, by state.", waiting),
        _metric(
            "jobkit_queue_workers",
            "gauge",
            "Living workers that serve a queue.",
            _by("queue", {name: queue["workers"] for name, queue in queues.items()}),
        ),
        _metric("jobkit_workers", "gauge", "Living workers.", [({}, len(alive))]),
        _metric(
            "jobkit_worker_slots", "gauge", "Jobs that living workers can run at once.", [({}, _sum(alive, "slots"))]
        ),
        _metric(
            "jobkit_worker_running", "gauge", "Jobs that a worker runs.", [({"worker": w.id}, w.running) for w in alive]
        ),
        _metric(
            "jobkit_worker_resident_bytes",
            "gauge",
            "Memory of a worker and its jobs.",
            [({"worker": w.id}, w.rss_bytes) for w in alive],
        ),
        _metric(
            "jobkit_worker_jobs_total",
            "counter",
            "Jobs that a worker has ended.",
            [({"worker": w.id}, w.done) for w in alive],
        ),
        _metric(
            "jobkit_last_event_timestamp_seconds",
            "gauge",
            "When the newest event was.",
            [({}, event_key(last_event)[0] / 1000)],
        ),
        _metric("jobkit_http_streams", "gauge", "Open event streams of this process.", [({}, streams)]),
        _metric(
            "jobkit_http_requests_total",
            "counter",
            "Requests that this process has answered.",
            [({"route": route, "status": str(status)}, n) for (route, status), n in sorted(answered.items())],
        ),
    ]
    return "".join(parts)


def _by(label: str, values: Mapping[str, int]) -> list[Sample]:
    return [({label: name}, float(value)) for name, value in values.items()]


def _sum(workers: Iterable[WorkerInfo], name: str) -> float:
    return float(sum(getattr(worker, name) for worker in workers))


def _metric(name: str, kind: str, help: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{written}}} {_number(value)}" if written else f"{name} {_number(value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return repr(float(value)) if value != int(value) else str(int(value))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
