"""Arguments and return values of the store: submissions, claims, endings, workers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from jobkit.codec import Blob
from jobkit.model import InvalidParams, JobSpec, LogLine
from jobkit.model.format import many
from jobkit.model.plain import to_json
from jobkit.model.snapshot import JobError

#: Subscription key (in place of a job's id) for changes that do not belong to a job: failure groups, pauses. Job ids
#: have no spaces.
CONTROL = "control news"

#: Jobs that the record of a lost worker names, at most; see `lifecycle.lua`.
LOST_LISTED = 20

#: Results up to this size are sent with the job's last event to the client that submitted it.
INLINE_RESULT_BYTES = 16_384


class Submission(msgspec.Struct, frozen=True):
    """A job to store: its spec and its sealed arguments. `blobs`: the large parts that the sealed arguments name."""

    spec: JobSpec
    payload: bytes
    blobs: tuple[Blob, ...] = ()


class SubmitReply(NamedTuple):
    """The store's reply to the submit of one job.

    Attributes:
        job_id: the job of this submission: a new one, or an existing one that does the same work; "" if it must be sent
            again.
        created_ms: time of the submit (ms since the epoch) if a new job was stored; 0 if the job existed, if the
            arguments of another one were replaced, or if it ended at once with a cached result.
        reseal_for: not None if nothing was stored: seal the arguments for this id and submit again, which replaces the
            arguments of the waiting job with this id. "": use a new id, because that job has started.
        lacks: not "" if nothing was stored: the name of a large part of the arguments that is not kept.
    """

    job_id: str
    created_ms: int = 0
    reseal_for: str | None = None
    lacks: str = ""


class Claimed(msgspec.Struct, frozen=True, rename={"started_ms": "started"}):
    """The lease on one attempt.

    Attributes:
        token: the fence, `worker:attempt`; each write of this attempt carries it.
        attempt: from 1. `retried`, `losses`: numbers of earlier retries and losses.
        started_ms: time of the claim by the store's clock.
    """

    spec: JobSpec
    token: str
    attempt: int
    payload: bytes = b""
    retried: int = 0
    losses: int = 0
    started_ms: int = 0
    us: int = 0
    """Time of the submit in microseconds by the store's clock. Together with the id it identifies this submission."""
    problem: str = ""
    """Reason why its record cannot be read, in which case it can only be ended."""


class AttemptNews(msgspec.Struct, frozen=True):
    """News of a running attempt: any of progress and new log lines.

    `size_bytes` is the size of `lines` for the log's limit. `typical_s` is the usual run time of the task, `awaits`
    names the jobs that it waits for with its slot lent, `more` has what else its record says about the attempt (see
    `model.snapshot.progress`); all are sent with the progress. `number` counts the news of an attempt from 1 on: the
    store takes each number once; 0 for none.
    """

    job_id: str
    token: str
    has_numbers: bool = False
    completed: float | None = None
    total: float | None = None
    message: str = ""
    lines: Sequence[LogLine] = ()
    typical_s: float | None = None
    awaits: str = ""
    more: Mapping[str, Any] = {}
    number: int = 0


class ArtifactInfo(msgspec.Struct, frozen=True):
    """Metadata of an artifact. `at_ms` is by the worker's clock."""

    name: str
    media_type: str
    size_bytes: int
    at_ms: int


class Kept(msgspec.Struct, frozen=True):
    """An artifact of a running attempt. `body` is sealed: the content, or a reference to its file in `folder`.

    Or what its code gives to the Lua of a feature ("keeps"): a `kind`, with the `facts` about it.
    `number` counts the artifacts of an attempt as that of `AttemptNews` counts its news.
    """

    job_id: str
    token: str
    info: ArtifactInfo
    body: bytes
    folder: str = ""
    kind: str = ""
    facts: bytes = b""
    number: int = 0

    @classmethod
    def of_feature(
        cls, job_id: str, token: str, kind: str, name: str, facts: bytes, body: bytes, folder: str = ""
    ) -> Kept:
        """Return something for the Lua of a feature."""
        return cls(job_id, token, ArtifactInfo(name, "", len(body), 0), body, folder, kind, facts)


class Given(msgspec.Struct, frozen=True):
    """Data that a feature gives in the worker at the end of an attempt, for its Lua: `rec.given`, `rec.given_body`."""

    facts: Mapping[str, Any]
    body: bytes


class Ending(msgspec.Struct, frozen=True):
    """Outcome of an attempt.

    Attributes:
        outcome: "succeeded", "failed", "cancelled", "retried" (run again after `delay_ms`), "released" (given back),
            "asked" (run again when its question is answered) or "lost" (its process host died: run again, at most
            `max_losses` times). `is_shared`: other attempts were lost with it, so that it does not count against the
            job.
        is_unstarted: it is released before any of its code has run, so even one that must not run twice may run.
        error: for failed and retried. `reason`: one sentence for cancelled and released.
        result: the sealed value, for succeeded. `preview`: its display form, sealed JSON. `summary`: one line.
        problem: why the value of a success is not kept.
        usage: `cpu_s`, `peak_rss_bytes`, `exit`.
        ttl_ms: how long the ended job is kept.
        folder: folder of the job's files (see `jobkit.files`), if it has any.
        given: by the feature by whose door the job came.
        news, kept: of the attempt, as far as the store may not know them; only in the file of a worker (`Spool`).
    """

    job_id: str
    token: str
    outcome: str
    error: JobError | None = None
    reason: str = ""
    result: bytes = b""
    preview: bytes = b""
    summary: str = ""
    problem: str = ""
    usage: Mapping[str, Any] = {}
    delay_ms: int = 0
    is_unstarted: bool = False
    ttl_ms: int = 604_800_000
    folder: str = ""
    max_losses: int = 0
    is_shared: bool = False
    given: Given | None = None
    news: Sequence[AttemptNews] = ()
    kept: Sequence[Kept] = ()


#: Maximum number of awaited jobs that one claim considers.
AWAITED_MOST = 200

#: Replies of `finish`, one per ending.
FINISHED, ALREADY, FENCED, DAMAGED = 1, 2, 0, 3


class Renewal(msgspec.Struct, frozen=True):
    """Reply to a heartbeat: job ids whose lease this worker has lost, and ids of jobs to stop."""

    lost: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    """Ids of jobs to stop at a safe point."""
    stop: str = ""
    """"" to continue, "drain" or "now" if this worker was asked to stop."""
    has_left: bool = False
    """Calls have left something over, with which `settle` goes on."""
    barred: frozenset[str] = frozenset()
    """Functions that must not run on a worker's loop."""


class WorkerInfo(msgspec.Struct, frozen=True):
    """State of one worker.

    Attributes:
        running: number of its slots in which a job runs.
        beat_age_s: seconds since its last heartbeat, by the store's clock.
        is_draining: it finishes its jobs and takes no more.
        lost_jobs: of a lost worker, the jobs that it had (at most 20), each with its attempt there.
    """

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
    """% of one core, with its jobs; so is `rss_bytes`."""
    rss_bytes: int = 0
    done: int = 0
    rejected: int = 0
    """Number of rejected payloads: not sealed for their job with one of its keys, or unreadable."""
    problem: str = ""
    """Reason why it runs fewer jobs than it has slots: what its machine is short of."""
    tasks: tuple[str, ...] = ()
    beat_age_s: float = 0.0
    is_alive: bool = True
    is_draining: bool = False
    weights: Mapping[str, float] = {}
    """Weights of its queues; {} if they are served in order."""
    resources: Mapping[str, float] = {}
    """Amounts of resources that it has for jobs, by name."""
    pool: str = ""
    unit: str = ""
    """The pool that started it, and its id there; "" for a worker that no pool started."""
    engine: str = ""
    """Place in which its pool has started it: "slurm 4711"."""
    in_use: Mapping[str, float] = {}
    """Of these, what its jobs use."""
    gpus: tuple[str, ...] = ()
    """Names of the GPUs that it may use."""
    memory_bytes: int = 0
    """Memory of its machine or container; 0 if unknown."""
    lost_jobs: Mapping[str, int] = {}

    @property
    def takes_jobs(self) -> bool:
        return self.is_alive and not self.is_draining

    @property
    def state(self) -> str:
        """Return "working", "draining" or "lost": killed, or without contact. One that ended in order has no record."""
        return "lost" if not self.is_alive else "draining" if self.is_draining else "working"

    @property
    def lost_text(self) -> str:
        """Return the number of jobs that it was lost with: "3 jobs", "20 jobs or more", "" for none."""
        count = len(self.lost_jobs)
        return many(count, "job") + (" or more" if count >= LOST_LISTED else "") if count else ""

    def to_json(self) -> dict[str, Any]:
        json: dict[str, Any] = to_json(self)
        return json


class Fleet(msgspec.Struct, frozen=True):
    """Totals of workers: one count for pages, commands, HTTP and `kit.stats`.

    Attributes:
        workers: number of living workers, with those that drain. lost: of workers that died, while they are listed.
        busy: number of slots in which jobs run. slots: of all of them; a draining worker has only its busy ones.
    """

    workers: int = 0
    slots: int = 0
    busy: int = 0
    lost: int = 0

    @classmethod
    def of(cls, workers: Iterable[WorkerInfo]) -> Fleet:
        every = list(workers)
        living = [worker for worker in every if worker.is_alive]
        slots = sum(worker.slots if worker.takes_jobs else worker.running for worker in living)
        return cls(len(living), slots, sum(worker.running for worker in living), len(every) - len(living))

    @property
    def sentence(self) -> str:
        """Return "5 workers, 7 of 13 slots busy, 1 lost in the last hour"."""
        busy = f"{self.busy:,} of {many(self.slots, 'slot')} busy" if self.slots else "no worker takes jobs"
        lost = f", {self.lost:,} lost in the last hour" if self.lost else ""
        return f"{many(self.workers, 'worker')}, {busy}{lost}"


def event_key(id: str) -> tuple[int, int]:
    """Return an event's id as a sort key."""
    ms, _, n = id.partition("-")
    return int(ms), int(n or 0)


#: Redis's format of a stream id; each part has 64 bits.
_STREAM_ID = re.compile(r"(0|[1-9]\d{0,19})-(0|[1-9]\d{0,19})", re.ASCII)


def parse_stream_id(text: str) -> tuple[int, int] | None:
    """Return both parts of a stream id `ms-n`; None if it is not valid."""
    found = _STREAM_ID.fullmatch(text)
    parts = (int(found[1]), int(found[2])) if found else (2**64, 0)
    return None if max(parts) >= 2**64 else parts


def checked_stream_id(name: str, text: str) -> tuple[int, int]:
    """Return both parts of a stream id.

    Raises:
        InvalidParams: not valid; the message names the parameter.
    """
    parts = parse_stream_id(text)
    if parts is None:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise InvalidParams(f"{name} must be an id like '1764000000000-0', not {shown!r}", name)
    return parts
