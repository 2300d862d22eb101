"""What goes into a store and comes out of it, beside the model: submissions, claims, endings, workers, log slices."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobkit.model import EventsExpired, InvalidParams, JobEvent, JobSpec, LogLine
from jobkit.model.snapshot import JobError

#: Called with each event, in the store's own thread; must not block and must not raise.
Listener = Callable[[JobEvent], None]

#: What to listen to (as if it were a job's id) for news of what is no job's: groups of failures, what is paused. No id
#: has a space.
CONTROL = "control news"

#: Results up to this size ride on the event that ends the job, to the client that submitted it.
INLINE_RESULT_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Submission:
    """One job to store: its spec and its sealed arguments."""

    spec: JobSpec
    payload: bytes


class SubmitReply(NamedTuple):
    """The store's reply to the submit of one job.

    Attributes:
        job_id: the job that the submission is now: its own id, or that of a job that already does the same work; "" if
            it has to be sent again.
        created_ms: time of the submit (ms since the epoch) if a new job was stored, 0 if the job was known, replaced
            another one's arguments, or ended at once with a kept result.
        reseal_for: not None if nothing was stored: seal the arguments for this id and submit again. That replaces the
            arguments of the waiting job with this id; "" asks for a new id, because that job has started meanwhile.
    """

    job_id: str
    created_ms: int = 0
    reseal_for: str | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """The right to run one attempt.

    Attributes:
        token: the fence, `worker:attempt`; each write of this attempt carries it.
        attempt: from 1. `retried`, `losses`: how often it came back before.
        started_ms: the store's clock at the claim.
    """

    spec: JobSpec
    token: str
    attempt: int
    payload: bytes
    retried: int = 0
    losses: int = 0
    started_ms: int = 0
    us: int = 0
    """When it was submitted, in microseconds by the store's clock: with its id, the name of this one submission."""
    problem: str = ""
    """Its record cannot be read, and this says why: it can only be ended."""


@dataclass(frozen=True, slots=True)
class Progress:
    """News of a running attempt: the newest numbers, new log lines, or both.

    `size_bytes` is what `lines` count towards the log's bound. `typical_s` is how long runs of the task usually take,
    `awaits` names the jobs that it waits for with its slot lent; both go with the numbers.
    """

    job_id: str
    token: str
    has_numbers: bool = False
    done: float | None = None
    total: float | None = None
    message: str = ""
    lines: Sequence[LogLine] = ()
    typical_s: float | None = None
    awaits: str = ""


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """What is known of an artifact without reading it. `at_ms` is the worker's clock."""

    name: str
    media_type: str
    size_bytes: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Kept:
    """An artifact of a running attempt. `body` is sealed: itself, or the reference to its file in `folder`."""

    job_id: str
    token: str
    info: ArtifactInfo
    body: bytes
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended.

    Attributes:
        outcome: "succeeded", "failed", "cancelled", "retried" (run again after `delay_ms`), "released" (given back) or
            "lost" (what it ran in died under it): run again, but not more than `max_losses` times.
        error: for failed and retried. `reason`: one sentence for cancelled and released.
        result: the sealed value, for succeeded. `preview`: what pages may show of it, sealed JSON. `summary`: one line
            of it.
        usage: `cpu_s`, `peak_rss_bytes`, `exit`.
        ttl_ms: how long the ended job is kept.
        folder: where the job's files are (see `jobkit.files`), where it has some.
    """

    job_id: str
    token: str
    outcome: str
    error: JobError | None = None
    reason: str = ""
    result: bytes = b""
    preview: bytes = b""
    summary: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    delay_ms: int = 0
    ttl_ms: int = 604_800_000
    folder: str = ""
    max_losses: int = 0

    def data(self) -> dict[str, Any]:
        """What the event that ends the attempt carries, in wire form; of a lost attempt also the bound of losses."""
        data: dict[str, Any] = {}
        if self.error is not None:
            data["error"] = self.error.to_wire()
        if self.reason:
            data["reason"] = self.reason
        if self.summary:
            data["summary"] = self.summary
        if self.usage:
            data["usage"] = dict(self.usage)
        if self.outcome == "lost":
            data["max_losses"] = self.max_losses
        return data


#: Of the jobs that running jobs wait for so many are looked at in one claim.
AWAITED_MOST = 200

#: Answers of `finish`, one per ending.
FINISHED, ALREADY, FENCED = 1, 2, 0


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a heartbeat learns: job ids whose lease this worker no longer holds, and those asked to stop."""

    lost: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    stop: str = ""
    """"" to go on, "drain" or "now" when somebody asked this worker to stop."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker as others see it. `beat_age_s` is how long ago it last renewed, by the store's clock; one that
    `is_draining` finishes what it has and takes no more."""

    id: str
    host: str = ""
    pid: int = 0
    queues: tuple[str, ...] = ("default",)
    slots: int = 1
    running: int = 0
    started_ms: int = 0
    version: str = ""
    python: str = ""
    cpu_percent: float = 0.0
    rss_bytes: int = 0
    done: int = 0
    rejected: int = 0
    """Payloads that it refused: not sealed for their job by a key that it holds, or not to be read."""
    tasks: tuple[str, ...] = ()
    beat_age_s: float = 0.0
    is_alive: bool = True
    is_draining: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    """How its queues share its slots; {} where they are served in their order."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """What it has for jobs that need such things, by name."""

    @property
    def takes_jobs(self) -> bool:
        return self.is_alive and not self.is_draining

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(getattr(self, name)) for name in self.__slots__}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value


def by_turns(worker: WorkerInfo, turns: dict[str, float]) -> Iterator[str]:
    """Which of a worker's weighted queues is next, again and again: the one that has had least turns.

    Whoever asks adds a job's turn to `turns`, or takes the queue out of it where nothing waits there; that one comes
    back with as many turns as the others have, so that it does not make up for the time. As in `lua/verbs/claim.lua`.
    """
    open_queues = [queue for queue in worker.queues if worker.weights]
    while open_queues:
        least = min(turns.values(), default=0.0)
        for queue in open_queues:
            turns.setdefault(queue, least)
        chosen = min(open_queues, key=turns.__getitem__)
        yield chosen
        if chosen not in turns:
            open_queues.remove(chosen)


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Lines of a job's log, oldest first, each with its number `n`.

    Attributes:
        total: lines ever written. `dropped`: lines that are not kept: in the middle in the store, at the beginning of
            a file.
        matched: of a search, the lines that match, as far as was searched. `is_all`: that was the whole log.
        cursor: where a search that stopped early goes on, as `after` (or, backwards, as `before`); 0 if it did not.
    """

    lines: tuple[LogLine, ...]
    total: int = 0
    dropped: int = 0
    matched: int = 0
    is_all: bool = True
    cursor: int = 0


def event_key(id: str) -> tuple[int, int]:
    """An event's id, in the order of events."""
    ms, _, n = id.partition("-")
    return int(ms), int(n or 0)


#: As Redis writes the id of an entry of a stream; a part has 64 bits.
_STREAM_ID = re.compile(r"(0|[1-9]\d{0,19})-(0|[1-9]\d{0,19})", re.ASCII)


def parse_stream_id(text: str) -> tuple[int, int] | None:
    """Both parts of the id of a stream's entry, `ms-n`; None if it is none."""
    found = _STREAM_ID.fullmatch(text)
    parts = (int(found[1]), int(found[2])) if found else (2**64, 0)
    return None if max(parts) >= 2**64 else parts


def checked_stream_id(name: str, text: str) -> tuple[int, int]:
    """The same.

    Raises:
        InvalidParams: it is none; names the parameter.
    """
    parts = parse_stream_id(text)
    if parts is None:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise InvalidParams(f"{name} must be an id like '1764000000000-0', not {shown!r}", name)
    return parts


def is_before(after: str, oldest: str) -> bool:
    """Whether events may be missing for who has seen those up to `after`, and the oldest kept is `oldest`."""
    return bool(after) and (0, 0) < event_key(after) < event_key(oldest)


def expired(after: str, oldest: str) -> EventsExpired:
    return EventsExpired(
        f"events after {after} are no longer kept; the oldest is {oldest}: read the jobs again, and go on with "
        'after="0-0"',
        oldest,
    )
