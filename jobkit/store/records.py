"""Redis hashes to the model's types. Values come as bytes; unknown fields (of a newer version) are left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from jobkit.model import JobEvent, JobSnapshot, JobSpec
from jobkit.model.snapshot import WIRE, changes, tame
from jobkit.store.base import WorkerInfo

_unjson = msgspec.json.decode

#: Fields of a record that hold JSON; the others hold text or numbers.
_JSON_FIELDS = frozenset({"error", "usage"})


def spec(wire: Mapping[str, Any]) -> JobSpec:
    return JobSpec.from_wire(wire)


def snapshot(record: Mapping[bytes, bytes]) -> JobSnapshot:
    """The snapshot in a job's hash, with its whole kept history."""
    fields: dict[str, Any] = {}
    history: list[JobEvent] = []
    for key, value in record.items():
        name = key.decode()
        if name in WIRE:
            fields[name] = _unjson(value) if name in _JSON_FIELDS else value.decode()
        elif name[0] == "e" and name[1:].isdigit():
            history.append(JobEvent.from_wire(_unjson(value)))
    history.sort(key=lambda event: event.seq)
    numbers = _unjson(b"{" + record[b"p"] + b"}") if b"p" in record else {}
    return JobSnapshot(
        spec=spec(_unjson(record[b"spec"])),
        seq=int(record[b"seq"]),
        rev=int(record.get(b"rev", 0)),
        done=tame(numbers.get("done")),
        total=tame(numbers.get("total")),
        message=str(numbers.get("message") or ""),
        history=tuple(history),
        **changes(fields),
    )


def worker(id: str, record: Mapping[bytes, bytes], now_ms: int) -> WorkerInfo:
    """A worker's hash; it is alive while its own lease has not run out."""
    fields = {key.decode(): value.decode("utf-8", "replace") for key, value in record.items()}
    age_s = max(0.0, (now_ms - int(fields.get("beat", 0))) / 1000)
    return WorkerInfo(
        id=id,
        host=fields.get("host", ""),
        pid=int(fields.get("pid", 0)),
        queues=tuple(fields.get("queues", "").split(",")),
        slots=int(fields.get("slots", 1)),
        running=int(fields.get("running", 0)),
        started_ms=int(fields.get("started", 0)),
        version=fields.get("version", ""),
        python=fields.get("python", ""),
        cpu_percent=float(fields.get("cpu", 0)),
        rss_bytes=int(fields.get("rss", 0)),
        done=int(fields.get("done", 0)),
        tasks=tuple(filter(None, fields.get("tasks", "").split(","))),
        beat_age_s=age_s,
        is_alive=age_s * 1000 < int(fields.get("lease", 15_000)),
        is_draining=fields.get("draining") == "1",
    )
