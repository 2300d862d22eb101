"""Encodes arguments of the functions in Redis; decodes their replies and the records.

Values are bytes; unknown fields are ignored.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from jobkit.model import EventType, JobEvent, JobSnapshot, JobSpec, JobState, LogLine
from jobkit.model.batch import BatchSpec
from jobkit.model.load import WorkerLoad
from jobkit.model.snapshot import WIRE, changes, progress
from jobkit.store.query import Candidate
from jobkit.store.values import (
    INLINE_RESULT_BYTES,
    ArtifactInfo,
    AttemptNews,
    Claimed,
    Ending,
    Kept,
    Renewal,
    Submission,
    SubmitReply,
    WorkerInfo,
)

logger = logging.getLogger("jobkit.store")

_json = msgspec.json.encode
_unjson = msgspec.json.decode

#: Exceptions while decoding data that jobkit has not written like this.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, msgspec.MsgspecError)


def text(raw: bytes | None) -> str:
    """Decode a text, "" for None."""
    return (raw or b"").decode("utf-8", "replace")


def job_id(raw: bytes) -> str:
    """Decode a job's id; "" for what is none."""
    return raw.decode() if _ID.fullmatch(raw) else ""


def number(raw: bytes | None) -> int:
    """Decode a whole number; 0 for None, and for what is none."""
    try:
        return int(float(raw or 0))
    except (ValueError, OverflowError):
        return 0


def seconds(raw: bytes) -> float:
    """Decode a duration. Raises ValueError if it is not valid."""
    value = float(raw)
    if not 0 <= value < 1e12:
        raise ValueError(f"not a duration: {value}")
    return value


def artifact(name: str, raw: bytes) -> ArtifactInfo:
    """Decode the metadata of an artifact."""
    return msgspec.convert({**mapping(raw), "name": name}, ArtifactInfo)


def mapping(raw: bytes) -> dict[str, Any]:
    """Decode a JSON object. Raises TypeError if it is another type."""
    value = _unjson(raw)
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} instead of an object")
    return value


def amounts(raw: bytes) -> dict[str, float]:
    """Decode amounts of resources by name. Raises ValueError or TypeError."""
    return {name: float(amount) for name, amount in mapping(raw).items()}


def load(raw: bytes) -> WorkerLoad:
    """Decode the load of a worker. Raises ValueError or TypeError."""
    return WorkerLoad.from_wire(mapping(raw))


# -- arguments and replies of the verbs -------------------------------------------------------------------------------

#: What a job's id may be, see `settings.checked_name`.
_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,200}")

#: How the head of a claim begins, in `lua/lib/queue.lua`.
_CLAIM = re.compile(rb'\{"token":"([\w.:-]{1,300})","id":"([\w.:-]{1,200})","attempt":(\d{1,9}),', re.ASCII)


def options(**values: Any) -> bytes:
    """Return the options of a verb as JSON. Those that are None are left out, for Lua takes null for true."""
    return _json({name: value for name, value in values.items() if value is not None})


#: The submit of a job that needs more others leaves them to `settle`.
_NEEDS_MOST = 1_000


class _SubmitFields(msgspec.Struct, omit_defaults=True):
    """Options of a submit, of which most have none. `terms` is JSON text, `many` the ids of many needs."""

    priority: int = 0
    delay_ms: int = 0
    at_ms: int = 0
    needs: tuple[str, ...] = ()
    terms: str = ""
    many: str = ""
    blobs: tuple[str, ...] = ()
    batch: str = ""


def submit_args(jobs: Sequence[Submission], *, is_part: bool = False) -> list[Any]:
    """Arguments of `Lifecycle.submit`, in `lua/lib/lifecycle.lua`. `is_part`: they are sent with their batch."""
    args: list[Any] = []
    for job in jobs:
        spec, constraints = job.spec, job.spec.constraints()
        terms = _json(constraints).decode() if constraints else ""
        needs, many = ((), ",".join(spec.needs)) if len(spec.needs) > _NEEDS_MOST else (spec.needs, "")
        blobs = tuple(blob.name for blob in job.blobs)
        batch = "" if is_part else spec.batch
        given = _json(_SubmitFields(spec.priority, spec.delay_ms, spec.at_ms, needs, terms, many, blobs, batch))
        args += [spec.id, _json(spec), job.payload, spec.queue, b"" if given == b"{}" else given]
    return args


def part_args(spec: BatchSpec | None, place: int, ttl_ms: int) -> bytes:
    """Argument of `submit` for the part of a batch that begins at `place`; empty for jobs of no batch."""
    if spec is None:
        return b""
    part = {"id": spec.id, "spec": _json(spec).decode(), "rule": spec.rule, "stop": spec.stop}
    return _json({**part, "place": place, "ttl_ms": ttl_ms})


def has_many_needs(jobs: Sequence[Submission]) -> bool:
    """Return True if the submit of these jobs leaves something over."""
    return any(len(job.spec.needs) > _NEEDS_MOST for job in jobs)


def answers(jobs: Sequence[Submission], reply: Sequence[Any]) -> list[SubmitReply]:
    """Decode the reply of `submit`: per job its time of submit (0 if its id is known), or another job's id."""
    return [_answer(job.spec.id, answer) for job, answer in zip(jobs, reply, strict=True)]


def _answer(own_id: str, answer: Any) -> SubmitReply:
    if isinstance(answer, int):
        return SubmitReply(own_id, answer)
    kind, name = answer[0], answer[1].decode()
    if kind == b"lacks":
        return SubmitReply("", lacks=name)
    return SubmitReply("", reseal_for=name) if kind == b"seal for" else SubmitReply(name)


def finish_args(endings: Sequence[Ending]) -> list[Any]:
    """Arguments of `finish`."""
    args: list[Any] = []
    for ending in endings:
        data = options(
            error=ending.error.to_wire() if ending.error else None,
            reason=ending.reason or None,
            summary=ending.summary or None,
            usage=_json(dict(ending.usage)).decode() if ending.usage else None,
            max_losses=ending.max_losses if ending.outcome == "lost" else None,
            shared=ending.is_shared or None,
        )
        about = ending.given
        given = options(
            data=msgspec.Raw(data),
            ttl_ms=max(1, ending.ttl_ms),
            inline_bytes=INLINE_RESULT_BYTES,
            delay_ms=ending.delay_ms or None,
            unstarted=ending.is_unstarted or None,
            folder=ending.folder or None,
            given=about.facts if about else None,
        )
        args += [ending.job_id, ending.token, ending.outcome, given, ending.result, ending.preview]
        args.append(about.body if about else b"")
    return args


def progress_args(news: Sequence[AttemptNews]) -> list[Any]:
    """Arguments of `progress`."""
    args: list[Any] = []
    for item in news:
        numbers = b""
        if item.has_numbers:
            fields: dict[str, Any] = {"completed": item.completed, "total": item.total, "message": item.message}
            if item.typical_s is not None:
                fields["typical_s"] = item.typical_s
            if item.awaits:
                fields["awaits"] = item.awaits
            fields |= item.more
            numbers = _json(fields)[1:-1]
        lines = _json([line.to_wire() for line in item.lines]) if item.lines else b""
        hidden = sum(line.count - 1 for line in item.lines)
        args += [item.job_id, item.token, numbers, lines, len(item.lines), len(lines), item.number, hidden]
    return args


def _facts_of(info: ArtifactInfo) -> bytes:
    return _json({"media_type": info.media_type, "size_bytes": info.size_bytes, "at_ms": info.at_ms})


def keep_args(artifacts: Sequence[Kept]) -> list[Any]:
    """Arguments of `keep`."""
    args: list[Any] = []
    for kept in artifacts:
        info = kept.info
        name, facts = (f"\n{kept.kind}\n{info.name}", kept.facts) if kept.kind else (info.name, _facts_of(info))
        args += [kept.job_id, kept.token, name, facts, kept.body, kept.folder, kept.number]
    return args


_claimed = msgspec.json.Decoder(Claimed).decode


def read_claimed(message: bytes) -> Claimed:
    """Read the message of a claim or a hand-over: a JSON head, a newline, the payload.

    Raises:
        ValueError: it is nothing that a store would send.
    """
    head, _, payload = message.partition(b"\n")
    try:
        return msgspec.structs.replace(_claimed(head), payload=payload)
    except UNREADABLE as error:
        found = _CLAIM.match(message)
        if found is None:
            raise ValueError(f"not a claim: {message[:100]!r}") from None
        token, job_id = found[1].decode(), found[2].decode()
        problem = f"the record of job {job_id} cannot be read: {type(error).__name__}: {error}"[:500]
        return Claimed(JobSpec(job_id, ""), token, int(found[3]), problem=problem)


def read_claim(reply: Sequence[Any]) -> tuple[list[Claimed], float]:
    """Jobs, and seconds until the next is due (infinity where nothing is known).

    A message without a readable head is left out: the lease of its job ends by itself.
    """
    wait_ms, claimed = reply[0], []
    for message in reply[1:]:
        try:
            claimed.append(read_claimed(message))
        except ValueError as error:
            logger.warning("a claimed job is left out: %s", error)
    return claimed, float("inf") if wait_ms < 0 else wait_ms / 1000


def renew_args(
    worker: str,
    facts: Mapping[str, Any],
    held: Mapping[str, str],
    lease_ms: int,
    max_losses: int,
    ttl_ms: int,
    barred: Collection[str] = (),
) -> list[Any]:
    """Arguments of `renew`, a worker's heartbeat. `held` is job id to token."""
    given = options(
        lease_ms=lease_ms,
        max_losses=max_losses,
        ttl_ms=ttl_ms,
        facts={name: str(value) for name, value in facts.items()},
        barred=sorted(barred) or None,
    )
    args: list[Any] = [worker, given]
    for pair in held.items():
        args += pair
    return args


def read_renewal(reply: Sequence[Any]) -> Renewal:
    stop, lost, cancelled, left, barred, asked = reply
    lost, cancelled, asked = (
        tuple(id.decode() for id in ids) for ids in (lost, cancelled, asked)
    )  # they came from here
    names = frozenset(name.decode("utf-8", "replace") for name in barred)
    return Renewal(lost, cancelled, asked, stop.decode("utf-8", "replace"), bool(left), names)


# -- records ----------------------------------------------------------------------------------------------------------

#: Fields of a record that contain JSON; the others contain text or numbers.
_JSON_FIELDS = frozenset({"error", "usage", "asking"})


def snapshot(record: Mapping[bytes, bytes], *, has_history: bool = True) -> JobSnapshot:
    """Return the snapshot in a job's hash, with its history unless told otherwise."""
    fields: dict[str, Any] = {}
    events: list[JobEvent] = []
    for key, value in record.items():
        name = key.decode()
        if name in WIRE:
            fields[name] = _unjson(value) if name in _JSON_FIELDS else value.decode()
        elif name[0] == "e" and name[1:].isdigit():
            events.append(JobEvent.from_wire(_unjson(value)))
    news = progress(_unjson(b"{" + record[b"p"] + b"}") if b"p" in record else {})
    if record[b"state"] != b"running":
        news["awaits"] = ""
    spec, seq, rev = _spec(record[b"spec"]), int(record[b"seq"]), int(record.get(b"rev", 0))
    past = history(spec.id, seq, fields, events) if has_history else ()
    return JobSnapshot(spec=spec, seq=seq, rev=rev, history=past, **news, **changes(fields))


def snapshot_of(job_id: str, record: Mapping[bytes, bytes]) -> JobSnapshot:
    """Return the snapshot in the hash of this job."""
    return _checked(job_id, snapshot(record))


def _checked(job_id: str, found: JobSnapshot) -> JobSnapshot:
    if found.spec.id != job_id:
        raise ValueError(f"its spec has the id {found.spec.id!r:.100}")
    return found


_spec = msgspec.json.Decoder(JobSpec).decode

#: The fields of a record that `candidate` decodes.
CANDIDATE = (
    "spec", "us", "seq", "state", "submitted", "started", "finished", "worker", "attempt", "p", "summary", "error",
    "asking", "batch", "again",
)  # fmt: skip
_CANDIDATE = [name.encode() for name in CANDIDATE]


def candidate(job_id: str, fields: Sequence[bytes | None]) -> Candidate:
    """Decode the fields `CANDIDATE` of a job's record."""
    record = {name: value for name, value in zip(_CANDIDATE, fields, strict=True) if value is not None}
    return Candidate(int(record[b"us"]), _checked(job_id, snapshot(record, has_history=False)))


#: The start of the only attempt is among so many first events if it is implied, in `lua/lib/queue.lua`.
_FIRST_EVENTS = 20


def history(job_id: str, seq: int, fields: Mapping[str, Any], stored: Iterable[JobEvent]) -> tuple[JobEvent, ...]:
    """Return a job's events in order: the stored ones, and those that are implied by the other fields of its record.

    These are the submit of a queued job, the start of its only attempt, and the successful end of that attempt.
    """
    events = {event.seq: event for event in stored}

    def add(seq: int, kind: EventType, state: JobState, time: str, data: Mapping[str, Any]) -> None:
        if seq not in events and time in fields:
            at_ms = int(fields[time])
            events[seq] = JobEvent(job_id, seq, kind, at_ms, {"state": state.value, **data, time: at_ms})

    add(1, EventType.SUBMITTED, JobState.QUEUED, "submitted", {})
    if fields.get("attempt") == "1":
        if fields["state"] == JobState.SUCCEEDED:
            outcome = {name: fields[name] for name in ("summary", "usage") if name in fields}
            add(seq, EventType.SUCCEEDED, JobState.SUCCEEDED, "finished", outcome)
        missing = [n for n in range(2, min(seq, _FIRST_EVENTS) + 1) if n not in events]
        if len(missing) == 1:
            attempt = {"attempt": 1, "worker": fields.get("worker", "")}
            add(missing[0], EventType.STARTED, JobState.RUNNING, "started", attempt)
    return tuple(events[n] for n in sorted(events))


def event(id: str, entry: Mapping[bytes, bytes]) -> JobEvent:
    """Decode an entry of the event stream."""
    return JobEvent.from_wire(_unjson(entry[b"e"]), id)


def lines(after: int, entry: Mapping[bytes, bytes]) -> list[LogLine]:
    """Return the lines of a log chunk with numbers above `after`."""
    first, count = int(entry[b"f"]), int(entry[b"c"])
    if first + count - 1 <= after:
        return []
    return [LogLine.from_wire(w, n=first + i) for i, w in enumerate(_unjson(entry[b"l"])) if first + i > after]


def worker(id: str, record: Mapping[bytes, bytes], now_ms: int) -> WorkerInfo:
    """Decode a worker's hash; it is alive until its lease expires."""
    fields = texts(record)
    age_s = max(0.0, (now_ms - int(fields.get("beat", 0))) / 1000)
    decoded = {
        "id": id,
        "queues": fields.get("queues", "").split(","),
        "tasks": list(filter(None, fields.get("tasks", "").split(","))),
        "started_ms": fields.get("started", 0),
        "cpu_percent": fields.get("cpu", 0),
        "rss_bytes": fields.get("rss", 0),
        "memory_bytes": fields.get("memory", 0),
        "beat_age_s": age_s,
        "is_alive": age_s * 1000 < int(fields.get("lease", 15_000)),
        "is_draining": fields.get("draining") == "1",
        "weights": _unjson(fields.get("weights") or "{}"),
        "resources": _unjson(fields.get("has") or "{}"),
        "gpus": _unjson(fields.get("gpus") or "[]"),
        "lost_jobs": _lost_jobs(fields.get("beat", ""), fields.get("lost", "")),
    }
    return msgspec.convert({**fields, **decoded}, WorkerInfo, strict=False)


def _lost_jobs(beat: str, text: str) -> dict[str, int]:
    """Return the attempts of lost jobs by id; {} if a heartbeat came after these losses."""
    since, *lost = text.split("\n")
    pairs = [entry.partition(":") for entry in lost if since == beat]
    return {job_id: int(attempt) for attempt, _, job_id in pairs if attempt.isdecimal()}


def texts(record: Mapping[bytes, bytes]) -> dict[str, str]:
    """Decode a hash of texts."""
    return {name.decode("utf-8", "replace"): text.decode("utf-8", "replace") for name, text in record.items()}
