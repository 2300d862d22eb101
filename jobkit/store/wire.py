"""Arguments and replies of the functions in Redis, one encoder or decoder a verb."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobkit.model import JobSpec
from jobkit.store import records
from jobkit.store.values import INLINE_RESULT_BYTES, AttemptNews, Claimed, Ending, Kept, Renewal, Submission, WorkerInfo

_json = msgspec.json.encode
_unjson = msgspec.json.decode

#: How the head of a claim begins, in `lua/lib/queue.lua`.
_CLAIM = re.compile(rb'\{"token":"([\w.:-]{1,300})","id":"([\w.:-]{1,200})","attempt":(\d{1,9}),', re.ASCII)


def submit_args(jobs: Sequence[Submission]) -> list[Any]:
    """Arguments of `Lifecycle.submit`, in `lua/lib/lifecycle.lua`."""
    args: list[Any] = []
    for job in jobs:
        spec = job.spec
        options: dict[str, Any] = {}
        if spec.priority:
            options["priority"] = spec.priority
        if spec.delay_ms:
            options["delay_ms"] = spec.delay_ms
        if spec.at_ms:
            options["at_ms"] = spec.at_ms
        if spec.needs:
            options["needs"] = spec.needs
        if constraints := spec.constraints():
            options["terms"] = _json(constraints).decode()
        args += [spec.id, _json(spec.to_wire()), job.payload, spec.queue, _json(options) if options else b""]
    return args


def claim_args(
    worker: WorkerInfo,
    free: int,
    received: int,
    *,
    lease_ms: int,
    max_losses: int,
    ttl_ms: int,
    awaited: Sequence[str] = (),
    lent: int = 0,
) -> list[Any]:
    """Arguments of `claim`. A message of at most 100 jobs, or events of them, is made at once."""
    options: dict[str, Any] = {
        "queues": worker.queues,
        "lease_ms": lease_ms,
        "max_losses": max_losses,
        "ttl_ms": ttl_ms,
        "limit": 100,
    }
    if worker.weights:
        options["weights"] = dict(worker.weights)
    if worker.resources:
        options["has"] = dict(worker.resources)
    if awaited:
        options |= {"awaited": awaited, "lent": lent}
    return [worker.id, free, received, _json(options)]


def finish_args(endings: Sequence[Ending]) -> list[Any]:
    """Arguments of `finish`."""
    args: list[Any] = []
    for ending in endings:
        options: dict[str, Any] = {
            "data": ending.data(),
            "ttl_ms": max(1, ending.ttl_ms),
            "inline_bytes": INLINE_RESULT_BYTES,
        }
        if ending.delay_ms:
            options["delay_ms"] = ending.delay_ms
        if ending.folder:
            options["folder"] = ending.folder
        args += [ending.job_id, ending.token, ending.outcome, _json(options), ending.result, ending.preview]
    return args


def progress_args(news: Sequence[AttemptNews]) -> list[Any]:
    """Arguments of `progress`."""
    args: list[Any] = []
    for item in news:
        numbers = b""
        if item.has_numbers:
            fields: dict[str, Any] = {"done": item.done, "total": item.total, "message": item.message}
            if item.typical_s is not None:
                fields["typical_s"] = item.typical_s
            if item.awaits:
                fields["awaits"] = item.awaits
            numbers = _json(fields)[1:-1]
        lines = _json([line.to_wire() for line in item.lines]) if item.lines else b""
        args += [item.job_id, item.token, numbers, lines, len(item.lines), len(lines)]
    return args


def keep_args(artifacts: Sequence[Kept]) -> list[Any]:
    """Arguments of `keep`."""
    args: list[Any] = []
    for kept in artifacts:
        info = kept.info
        meta = _json({"media_type": info.media_type, "size_bytes": info.size_bytes, "at_ms": info.at_ms})
        args += [kept.job_id, kept.token, info.name, meta, kept.body, kept.folder]
    return args


def read_claimed(message: bytes) -> Claimed:
    """Read the message of a claim or a hand-over: a JSON head, a newline, the payload.

    Raises:
        ValueError: it is nothing that a store would send.
    """
    try:
        return _read_claimed(message)
    except records.UNREADABLE as error:
        found = _CLAIM.match(message)
        if found is None:
            raise ValueError(f"not a claim: {message[:100]!r}") from None
        token, job_id = found[1].decode(), found[2].decode()
        problem = f"the record of job {job_id} cannot be read: {type(error).__name__}: {error}"[:500]
        return Claimed(JobSpec(job_id, ""), token, int(found[3]), b"", problem=problem)


def _read_claimed(message: bytes) -> Claimed:
    head, _, payload = message.partition(b"\n")
    wire = _unjson(head)
    return Claimed(
        spec=records.spec(wire["spec"]),
        token=wire["token"],
        attempt=wire["attempt"],
        payload=payload,
        retried=wire["retried"],
        losses=wire["losses"],
        started_ms=wire["started"],
        us=wire["us"],
    )


def read_claim(reply: Sequence[Any]) -> tuple[list[Claimed], float]:
    """Jobs, and seconds until the next is due (infinity where nothing is known)."""
    wait_ms = reply[0]
    return [read_claimed(message) for message in reply[1:]], float("inf") if wait_ms < 0 else wait_ms / 1000


def prune_args(limit: int, keep: int | None) -> list[Any]:
    """Arguments of `prune`."""
    return [_json({"limit": limit} if keep is None else {"limit": limit, "keep": keep})]


def renew_args(
    worker: str, facts: Mapping[str, Any], held: Mapping[str, str], lease_ms: int, max_losses: int, ttl_ms: int
) -> list[Any]:
    """Arguments of `renew`, a worker's heartbeat. `held` is job id to token."""
    options = {
        "lease_ms": lease_ms,
        "max_losses": max_losses,
        "ttl_ms": ttl_ms,
        "facts": {name: str(value) for name, value in facts.items()},
    }
    args: list[Any] = [worker, _json(options)]
    for pair in held.items():
        args += pair
    return args


def read_renewal(reply: Sequence[Any]) -> Renewal:
    stop, lost, cancelled = reply
    return Renewal(tuple(i.decode() for i in lost), tuple(i.decode() for i in cancelled), stop.decode())
