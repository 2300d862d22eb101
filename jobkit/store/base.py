"""What a store does: the verbs that move jobs, and the ones that look at them.

Two stores pass the same tests: `RedisStore` (Lua transitions, shared by processes and machines) and `MemoryStore`
(in one process, behind `sync://`). Each verb that moves a job checks that the transition is allowed, bumps the job's
`seq`, keeps the event with the record and publishes it, as one atomic step; the store's clock is the only clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobkit.model import EventsExpired, FailureGroup, JobEvent, JobSnapshot, JobSpec, LogLine, Rule, Waiting
from jobkit.model.audit import AuditEntry
from jobkit.model.snapshot import JobError
from jobkit.store.query import Brief, Page, Query
from jobkit.store.schedules import Schedules

__all__ = ["Brief", "Page", "Query"]  # of `query`, which has no other home for who reads a store

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

    `size_bytes` is what `lines` count towards the log's bound. `typical_s` is how long runs of the task usually take;
    it goes with the numbers.
    """

    job_id: str
    token: str
    has_numbers: bool = False
    done: float | None = None
    total: float | None = None
    message: str = ""
    lines: Sequence[LogLine] = ()
    typical_s: float | None = None


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
        result: the sealed value, for succeeded. `preview`: what pages may show of it, JSON. `summary`: one line of it.
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
    preview: Mapping[str, Any] | None = None
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
    back with as many turns as the others have, so that it does not make up for the time. As in `lua/claim.lua`.
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
        total: lines ever written. `dropped`: lines in the middle that the bound removed.
    """

    lines: tuple[LogLine, ...]
    total: int = 0
    dropped: int = 0


def event_key(id: str) -> tuple[int, int]:
    """An event's id, in the order of events."""
    ms, _, n = id.partition("-")
    return int(ms), int(n or 0)


def is_before(after: str, oldest: str) -> bool:
    """Whether events may be missing for who has seen those up to `after`, and the oldest kept is `oldest`."""
    return bool(after) and (0, 0) < event_key(after) < event_key(oldest)


def expired(after: str, oldest: str) -> EventsExpired:
    return EventsExpired(
        f"events after {after} are no longer kept; the oldest is {oldest}: read the jobs again, and go on with "
        'after="0-0"',
        oldest,
    )


class Store(Schedules, Protocol):
    """See the module's docstring; the verbs about schedules are in `jobkit.store.schedules`.

    All verbs raise `StoreUnavailable` where the server does not answer."""

    # -- moving jobs ------------------------------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[Submission], client: str = "") -> list[int | str]:
        """Store each job once; its time of submit (ms), or 0 where its id was known (nothing changes then).

        Of one whose spec says `once` or has a `cache_key`, perhaps an id: of the job that it already is (nothing
        changes then), or its own, where it has taken the place of one that waits or has ended with a kept result. "?"
        and an id: it may take the place of that job, sealed for that id; "?" alone: not any more, a new id is due.

        `client` names the submitter's own channel: every event of the job after this one goes there too.
        """
        ...

    async def claim(self, worker: WorkerInfo, free: int, received: int = 0) -> tuple[list[Claimed], float]:
        """Up to `free` jobs for this worker, in the order of its queues, and the seconds until the next is due.

        First returns jobs with an expired lease to their queue and makes due ones ready. Registers what stays free,
        so that a submit may hand a job over without a further round trip; `received` counts the ones handed over
        that the worker has seen.
        """
        ...

    async def progress(self, news: Sequence[Progress]) -> list[bool]:
        """Store and publish news; False where the token no longer holds."""
        ...

    async def keep(self, artifacts: Sequence[Kept]) -> list[bool]:
        """Keep artifacts as long as their jobs; False where the token no longer holds."""
        ...

    async def finish(self, endings: Sequence[Ending]) -> list[int]:
        """End attempts: `FINISHED`, `ALREADY` (same token before: the reply was lost), or `FENCED`."""
        ...

    async def cancel(self, job_ids: Sequence[str], reason: str = "") -> list[str]:
        """Ask jobs to stop. For each: the state it is in now, or "" if unknown.

        A waiting job is "cancelled" at once; a running one stays "running" until its worker has stopped it; a
        terminal one keeps its state.
        """
        ...

    async def move(
        self, job_ids: Sequence[str], queue: str | None = None, priority: int | None = None, reason: str = ""
    ) -> list[str]:
        """Let waiting jobs wait in another queue or with another priority, from the same time on.

        "" for each that is there now, else why not: "unknown", "arq" (its queue is arq's own), or its state.
        """
        ...

    async def delete(self, job_ids: Sequence[str]) -> list[bool]:
        """Forget terminal jobs with everything they own; False for unknown or not terminal ones."""
        ...

    async def prune(self, limit: int = 200, keep: int | None = None) -> int:
        """Forget up to `limit` jobs whose time is over, or that are more than `keep` ended ones; how many.

        Of too many, those go first whose time would be over first.
        """
        ...

    async def set_rule(self, gate: str, change: Mapping[str, Any] | None) -> Rule:
        """What holds for a task or queue from now on, instead of what its task was declared with.

        Args:
            gate: "task:NAME" or "queue:NAME".
            change: parts of the rule: `n`, `count` with `period_ms`, `paused`; None for a part ends that part. {}
                changes nothing, None ends the whole rule.
        """
        ...

    # -- looking ----------------------------------------------------------------------------------------------------

    async def rules(self) -> list[Rule]:
        """What was set for tasks and queues, by the gate's name."""
        ...

    async def waiting(self, job_ids: Sequence[str]) -> list[Waiting | None]:
        """What keeps queued jobs from starting, apart from slots; None for a job that nothing does."""
        ...

    async def snapshots(self, job_ids: Sequence[str]) -> list[JobSnapshot | None]: ...

    async def briefs(self, job_ids: Sequence[str]) -> list[Brief | None]:
        """What it takes to find and to order jobs; None for unknown ones."""
        ...

    async def versions(self, below: str, limit: int) -> tuple[list[tuple[str, int, int]], str]:
        """`(id, us, seq)` of kept jobs, newest first, from a submit time (us) down; "" for the newest.

        Also the us to go on from, "" at the end. Looks at up to `limit` entries; leaves out those that have expired.
        """
        ...

    async def now_ms(self) -> int:
        """The store's clock, milliseconds since the epoch."""
        ...

    async def result(self, job_id: str) -> bytes | None:
        """The sealed value, or None."""
        ...

    async def payload(self, job_id: str) -> bytes | None:
        """The sealed arguments, kept as long as the job."""
        ...

    async def payloads(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """The same of several jobs."""
        ...

    async def artifacts(self, job_id: str) -> list[ArtifactInfo]:
        """A job's artifacts, oldest first."""
        ...

    async def artifact(self, job_id: str, name: str) -> bytes | None:
        """The sealed artifact (or sealed reference to its file), or None."""
        ...

    async def folder(self, job_id: str) -> str:
        """Where a job's files are, "" where it has none."""
        ...

    async def place(self) -> str:
        """The namespace's own folder among those of others that keep files in the same place: 16 hex digits."""
        ...

    async def litter(self, limit: int = 100) -> list[str]:
        """Some folders whose jobs are forgotten: to be removed by who reaches them."""
        ...

    async def swept(self, folders: Sequence[str]) -> None:
        """These folders are gone."""
        ...

    async def owned(self, submissions: Sequence[tuple[str, int]]) -> list[bool]:
        """For each job id and time of submit (microseconds): whether that very job is kept."""
        ...

    async def preview(self, job_id: str) -> dict[str, Any] | None: ...

    async def logs(self, job_id: str, *, after: int = 0, tail: int | None = None) -> LogSlice:
        """Lines numbered above `after`; with `tail`, only the last so many."""
        ...

    async def counts(self) -> dict[str, int]:
        """Number of kept jobs by state; every state is there."""
        ...

    async def queues(self) -> dict[str, dict[str, int]]:
        """Per queue: `queued`, `scheduled`, `running`, `workers` (alive and serving it)."""
        ...

    async def workers(self) -> list[WorkerInfo]: ...

    # -- groups of failed jobs ----------------------------------------------------------------------------------------

    async def failures(self, states: Sequence[str] = (), task: str = "", limit: int = 100) -> list[FailureGroup]:
        """Groups in any of these states (all where there are none) and of this task, that failed last first."""
        ...

    async def failure(self, group: str) -> FailureGroup | None: ...

    async def failed_jobs(
        self,
        group: str,
        *,
        before: str = "",
        limit: int = 100,
        oldest_first: bool = False,
        is_repeated: bool | None = None,
        until: float | None = None,
    ) -> tuple[list[str], str]:
        """Ids of a group's jobs, that failed last first, and the cursor for the next page: `before`, "" at the end.

        Args:
            is_repeated: only those that another job repeats, or only those that none does.
            until: with `oldest_first`, only those that failed up to this time (us).
        """
        ...

    async def judge(self, groups: Sequence[str], state: str, by: str = "") -> list[bool]:
        """Set what is thought of groups ("open", "muted", "resolved"), or forget those without jobs ("dropped").

        True for those that are known. `by` is who says so.
        """
        ...

    async def groups_of(self, job_ids: Sequence[str]) -> list[str]:
        """The group that each job is in, "" for those that are in none."""
        ...

    async def stop_workers(self, worker_ids: Sequence[str], how: str) -> int:
        """Ask workers to end: "drain" lets their jobs finish, "now" gives them back. Returns how many were known."""
        ...

    async def publish_tasks(self, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        """Make task definitions known to those who do not import them."""
        ...

    async def tasks(self) -> dict[str, dict[str, Any]]: ...

    async def events(self, after: str = "", limit: int = 1000) -> list[JobEvent]:
        """Numbered events of the whole namespace after an event id, oldest first; "" or "0-0" for the oldest kept on.

        Raises:
            EventsExpired: some after that id are no longer kept.
        """
        ...

    # Last, since `list` in an annotation below it would mean this verb.
    async def list(self, query: Query) -> Page:
        """A page of jobs. By age it costs what it shows, with other filters what it looks at; in another order it
        looks at all that match.

        Raises:
            InvalidParams: the order is none, or the cursor is of another order.
        """
        ...

    async def renew(self, worker_id: str, held: Mapping[str, str], facts: Mapping[str, Any]) -> Renewal:
        """A worker's heartbeat: its leases (`held` is job id to token) and what others may know of it."""
        ...

    async def leave(self, worker_id: str) -> int:
        """A worker ends in good order: it is not listed any more, and no queue offers it.

        Returns how many jobs were handed over to it since it subscribed; the last may still be on their way.
        """
        ...

    async def revoke(self, token_id: str, until_s: float) -> None:
        """Refuse an API token from now on; remembered until it would have ended (seconds since the epoch)."""
        ...

    async def is_revoked(self, token_id: str) -> bool: ...

    async def publish(self, update: bytes) -> str:
        """Keep an update (JSON) for HTTP's subscribers, and wake those who listen to "updates".

        Its id is `ms-n`, where `n // 1_000_000` and `ms` are those of the newest event, behind which it stands.
        """
        ...

    async def updates(self, after: str = "", limit: int = 1000) -> Sequence[tuple[str, bytes]]:
        """Updates after an update's id, oldest first."""
        ...

    async def attend(self, records: Mapping[str, bytes], for_s: float) -> dict[str, bytes]:
        """Say that subscribers of HTTP's hub are there, each under an id of its own, for so many seconds.

        Returns the records of those whose time was over, once: they are forgotten with that.
        """
        ...

    async def attending(self) -> dict[str, bytes]:
        """Records of the subscribers that are there, by id; at most 20,000."""
        ...

    async def depart(self, ids: Sequence[str]) -> Sequence[bool]:
        """Forget subscribers; False for one that was not there any more."""
        ...

    async def note(self, entry: AuditEntry) -> None:
        """Add to the audit trail, of which the last 10,000 entries (or some more) are kept."""
        ...

    async def audit(self, limit: int = 100, before: str = "") -> Sequence[AuditEntry]:
        """Up to `limit` entries of the audit trail, newest first; with `before`, an entry's id, older ones."""
        ...

    async def hold(self, name: str, owner: str, for_s: float) -> bool:
        """Whether `owner` has the duty `name`, which only one may have; for so many seconds from now."""
        ...

    async def mark(self, name: str, value: str) -> None:
        """Remember how far a duty has come."""
        ...

    async def marked(self, name: str) -> str: ...

    async def last_event_id(self) -> str:
        """Id of the newest event of the namespace, "0-0" where there is none."""
        ...

    async def close(self) -> None: ...
