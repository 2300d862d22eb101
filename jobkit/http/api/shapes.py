"""What goes in and comes out, as types: they check requests, and the OpenAPI document is made from them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from jobkit.store.query import ORDERS

#: What names queues, schedules, keys and ids, and what an id of a stream looks like.
ID = r"^[A-Za-z0-9_.:-]{1,200}$"
CURSOR = r"^[0-9]{0,18}$|^[0-9A-Za-z_-]{19,2000}={0,2}$"
STREAM_ID = r"^((0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19}))?$"

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Seconds = Annotated[float, Meta(ge=0, le=315_360_000)]
Timeout = Annotated[float, Meta(ge=0.001, le=315_360_000)]
Moment = Annotated[datetime, Meta(tz=True)]
Priority = Annotated[int, Meta(ge=-1000, le=1000)]
Retries = Annotated[int, Meta(ge=0, le=10_000)]
Tags = Annotated[list[Name], Meta(max_length=32)]
Count = Annotated[int, Meta(ge=0, le=100_000)]
Identifier = Annotated[Name, Meta(extra_json_schema={"pattern": ID})]
State = Literal["scheduled", "queued", "running", "succeeded", "failed", "cancelled"]


def doc(text: str, **meta: Any) -> Meta:
    return Meta(description=text, **meta)


def shown(pattern: str) -> Meta:
    """A pattern for the document alone: what does not match it is refused later, by a better sentence."""
    return Meta(extra_json_schema={"pattern": pattern})


class Submit(Struct, forbid_unknown_fields=True, kw_only=True):
    """A job to submit."""

    task: Annotated[Name, doc("Name of the task; `GET /api/tasks` lists them.")]
    params: Annotated[dict[str, Any], doc("Its arguments by name, as the task's JSON Schema says.")] = {}
    queue: Annotated[Identifier | UnsetType, doc("Another queue than the task's own.")] = UNSET
    delay: Annotated[Seconds | UnsetType, doc("Not before so many seconds from now.")] = UNSET
    at: Annotated[Moment | UnsetType, doc("Not before this moment, with its offset from UTC.")] = UNSET
    key: Annotated[Identifier | UnsetType, doc("The same key and task give the same job as long as it is kept.")] = (
        UNSET
    )
    priority: Annotated[Priority | UnsetType, doc("Higher first.")] = UNSET
    timeout: Annotated[Timeout | UnsetType, doc("Seconds that one attempt may run.")] = UNSET
    retries: Annotated[Retries | UnsetType, doc("Further attempts after a failure.")] = UNSET
    tags: Annotated[Tags | UnsetType, doc("Free labels.")] = UNSET


class Cancel(Struct, forbid_unknown_fields=True):
    """Why."""

    reason: Annotated[str, doc("One sentence for those who look at the job.", max_length=1000)] = ""


class Nothing(Struct, forbid_unknown_fields=True):
    """An empty object."""


class JobList(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which jobs, newest first unless ordered."""

    state: Annotated[list[State], doc("Only in these states; may be repeated.")] = []
    task: Annotated[str, doc("Only of this task.", max_length=200)] = ""
    queue: Annotated[str, doc("Only of this queue.", max_length=200)] = ""
    search: Annotated[
        str, doc("Text in id, task, arguments, tags, owner, message, summary or error.", max_length=500)
    ] = ""
    q: Annotated[
        str, doc("What the dashboard's search box takes: `state:failed age:<1h lr=0.003`.", max_length=500)
    ] = ""
    order: Annotated[
        str,
        doc(f"One of {', '.join(ORDERS)}; with `-` the largest first. Newest first unless given.", max_length=20),
        shown(f"^(-?({'|'.join(ORDERS)}))?$"),
    ] = ""
    limit: Annotated[int, doc("At most so many.", ge=1, le=1000)] = 50
    cursor: Annotated[str, doc("`next_cursor` of the page before.", max_length=2000), shown(CURSOR)] = ""


class LogQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which lines."""

    after: Annotated[int, doc("Only lines numbered above.", ge=0, le=2**53)] = 0
    before: Annotated[Annotated[int, Meta(ge=1, le=2**53)] | None, doc("Only lines numbered below.")] = None
    tail: Annotated[Count | None, doc("Only the last so many.")] = None
    search: Annotated[str, doc("Only lines that contain this text, whatever the case.", max_length=200)] = ""
    level: Annotated[Literal["", "info", "warning", "error"], doc("Only lines at least that grave.")] = ""
    limit: Annotated[Annotated[int, Meta(ge=1, le=5000)] | None, doc("At most so many.")] = None


class JobStreamQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """What of one job's news."""

    logs: Annotated[bool, doc("Also its log, as `logged` events.")] = False
    last_event_id: Annotated[
        str, doc("Go on after this event, where the client cannot send the header.", max_length=200)
    ] = ""


class StreamQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of which jobs."""

    job: Annotated[list[Name], doc("Only of these jobs; may be repeated.", max_length=1000)] = []
    task: Annotated[list[Name], doc("Only of these tasks; may be repeated.", max_length=100)] = []
    queue: Annotated[list[Name], doc("Only of these queues; may be repeated.", max_length=100)] = []
    type: Annotated[list[Name], doc("Only events of these types; may be repeated.", max_length=20)] = []
    progress: Annotated[bool, doc("Also news of progress, which have no id.")] = True
    last_event_id: Annotated[
        str, doc("Go on after this event, where the client cannot send the header.", max_length=200)
    ] = ""


class Accepted(Struct):
    """Where a submitted job is."""

    id: str
    topic: str
    url: str
    events: str


class Error(Struct):
    """Why a job failed."""

    kind: Literal["exception", "timeout", "memory", "crash", "lost", "expired", "dependency", "rejected"]
    type: str
    message: str
    traceback: str
    where: str
    source: Annotated[
        str | UnsetType, doc("Lines of code around the place, each `number, tab, text`; where they are known.")
    ] = UNSET


class Job(Struct):
    """All that is known of a job. Times in UTC."""

    id: str
    task: str
    title: str
    queue: str
    state: State
    params: dict[str, Any]
    progress: float | None
    done: float | None
    total: float | None
    message: str
    awaits: str
    attempt: int
    worker: str
    owner: str
    tags: list[str]
    priority: int
    key: str
    retry_of: str
    needs: list[str]
    submitted_at: datetime | None
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    error: Error | None
    retries: int
    retried: int
    losses: int
    releases: int
    summary: str
    usage: dict[str, Any]
    resources: dict[str, Any]
    cached_from: str
    seq: int


class JobRead(Job):
    """One job, and what keeps it from starting while it is queued, in words; "" where only a free slot does."""

    waits_for: str


class JobPage(Struct):
    """Jobs, newest first; `next_cursor` is null on the last page."""

    jobs: list[Job]
    next_cursor: str | None


class Line(Struct):
    """A line of a job's log."""

    n: int
    at: datetime
    source: str
    level: str
    logger: str
    text: str


class Log(Struct):
    """Lines; `total` were ever written, of which `dropped` are not kept.

    Of a search: `matched` lines match, as far as was searched; `cursor` is where to go on (as `after`, or backwards as
    `before`) if it stopped early, else 0.
    """

    lines: list[Line]
    total: int
    dropped: int
    matched: int
    cursor: int


class Artifact(Struct):
    """What a job saved."""

    name: str
    media_type: str
    size_bytes: int
    created_at: datetime
    url: str


class Artifacts(Struct):
    artifacts: list[Artifact]


class Task(Struct):
    """A task; `schema` is the JSON Schema of its arguments."""

    name: str
    title: str
    doc: str
    queue: str | None
    isolation: str
    schema: dict[str, Any]


class Tasks(Struct):
    tasks: list[Task]


class Queues(Struct):
    """By name: how many jobs are `queued`, `scheduled`, `running`, and how many `workers` serve it."""

    queues: dict[str, dict[str, int]]


class Workers(Struct):
    workers: list[dict[str, Any]]


class Stats(Struct):
    """`refused`: why the store takes no changes just now, "" where it takes them."""

    jobs: dict[str, int]
    queues: dict[str, dict[str, int]]
    workers: int
    slots: int
    running: int
    refused: str


class Health(Struct):
    """`status` is "ok", or "unavailable" with a 503."""

    status: str
    live: bool
    version: str


class Refusal(Struct):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    error: str
    field: str | None
    message: str


class Move(Struct, forbid_unknown_fields=True, kw_only=True):
    """Where to; at least one of both."""

    more_of_schema: ClassVar[dict[str, Any]] = {"minProperties": 1}

    queue: Annotated[Identifier | UnsetType, doc("Another queue.")] = UNSET
    priority: Annotated[Priority | UnsetType, doc("Another priority; higher first.")] = UNSET


class Pause(Struct):
    """A queue or a task of which nothing starts."""

    kind: Literal["queue", "task"]
    name: str
    by: str
    at: datetime | None


class Paused(Struct):
    paused: list[Pause]


class Changed(Struct):
    """`changed` is false where it was so already."""

    changed: bool


class FailureQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which groups."""

    state: Annotated[
        list[Literal["open", "regressed", "muted", "resolved"]], doc("Only in these states; may be repeated.")
    ] = []
    task: Annotated[str, doc("Only of this task.", max_length=200)] = ""
    limit: Annotated[int, doc("At most so many.", ge=1, le=1000)] = 100


class AuditQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which entries."""

    limit: Annotated[int, doc("At most so many.", ge=1, le=1000)] = 100
    before: Annotated[
        str, doc("Older than this entry: `next_before` of the page before.", max_length=60), shown(STREAM_ID)
    ] = ""


class ScheduleRun(Struct):
    """One time of a schedule, and the job or the reason that there is none."""

    slot_at: datetime | None
    at: datetime | None
    job_id: str
    state: str
    started_at: datetime | None
    finished_at: datetime | None
    late_s: float | None
    why: str
    count: int


class Schedule(Struct):
    """A schedule, with its last runs."""

    id: str
    name: str
    task: str
    title: str
    params: dict[str, Any]
    queue: str
    owner: str
    tags: list[str]
    cron: str
    every: float | None
    at: datetime | None
    tz: str
    until: datetime | None
    count: int | None
    missed: str
    missed_limit: int
    overlap: str
    from_code: str
    next_at: datetime | None
    paused: bool
    ended_at: datetime | None
    holds_for: str
    overdue_s: float
    fired: int
    left_out: int
    runs: list[ScheduleRun]


class Schedules(Struct):
    schedules: list[Schedule]


class Failure(Struct):
    """Failed jobs of one task, with the same type of error at the same place."""

    id: str
    task: str
    kind: str
    type: str
    where: str
    title: str
    message: str
    state: str
    count: int
    jobs: int
    repeated: int
    healed: int
    first_seen: datetime | None
    last_seen: datetime | None
    sample: str
    hours: list[Any]
    changed_by: str
    changed_at: datetime | None


class Failures(Struct):
    failures: list[Failure]


class Repeated(Struct):
    """Ids of the new jobs by those of the old; why not, likewise; how many are `left` for the next request."""

    jobs: dict[str, str]
    refused: dict[str, str]
    left: int


class AuditEntry(Struct):
    """What somebody did: `times` acts of one kind since `since`, folded into one entry; `at` is the newest of them."""

    id: str
    at: datetime | None
    who: str
    role: str
    via: str
    action: str
    on: str
    targets: list[str]
    count: int
    outcome: str
    note: str
    times: int
    since: datetime | None


class Audit(Struct):
    entries: list[AuditEntry]
    next_before: str | None
