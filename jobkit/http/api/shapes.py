"""Types of what the API takes and returns: they check requests, and the OpenAPI document is made from them.

Names of answers end with `Json`, which the document leaves out; their fields are required there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct

from jobkit.model import EventType, JobSnapshot, JobSpec, JobState, LogLine, LogSlice, OpenQuestion
from jobkit.model.limits import Pause
from jobkit.model.snapshot import JobError
from jobkit.store.query import ORDERS
from jobkit.store.values import WorkerInfo

#: Patterns of names of queues and schedules, keys and ids; of a list's cursor; of an id of an event.
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
LastEventId = Annotated[
    str, Meta(description="Resume after this event, if the client cannot send the header.", max_length=200)
]
Limit = Annotated[int, Meta(description="Maximum number of results.", ge=1, le=1000)]
NewId = Annotated[Name, Meta(extra_json_schema={"pattern": "^[0-9a-f]{16,32}$"})]
Identifier = Annotated[Name, Meta(extra_json_schema={"pattern": ID})]
State: Any = Literal[tuple(map(str, JobState))]
EventName = Annotated[str, Meta(pattern=f"^({'|'.join(each for each in EventType if each is not EventType.LOGGED)})$")]


def doc(text: str, **meta: Any) -> Meta:
    return Meta(description=text, **meta)


def shown(pattern: str) -> Meta:
    """A pattern for the document only: a value that does not match is rejected later, with a better message."""
    return Meta(extra_json_schema={"pattern": pattern})


class Submit(Struct, forbid_unknown_fields=True, kw_only=True):
    """A job to submit."""

    task: Annotated[Name, doc("Name of the task; `GET /api/tasks` lists them.")]
    params: Annotated[dict[str, Any], doc("Its arguments by name, as the task's JSON Schema says.")] = {}
    queue: Annotated[Identifier | UnsetType, doc("Queue, instead of the task's default.")] = UNSET
    delay: Annotated[Seconds | UnsetType, doc("Earliest start, in seconds from now.")] = UNSET
    at: Annotated[Moment | UnsetType, doc("Earliest start, with an offset from UTC.")] = UNSET
    key: Annotated[
        Identifier | UnsetType, doc("Submitting the same key and task returns the same job while it is kept.")
    ] = UNSET
    id: Annotated[
        NewId | UnsetType, doc("Id of the new job. If it exists, for instance after a 503, it is returned.")
    ] = UNSET
    priority: Annotated[Priority | UnsetType, doc("Higher first.")] = UNSET
    timeout: Annotated[Timeout | UnsetType, doc("Maximum run time per attempt, in seconds.")] = UNSET
    retries: Annotated[Retries | UnsetType, doc("Maximum number of further attempts after a failure.")] = UNSET
    tags: Annotated[Tags | UnsetType, doc("Labels of your choice.")] = UNSET


class Cancel(Struct, forbid_unknown_fields=True):
    """Reason of a cancellation."""

    reason: Annotated[str, doc("One sentence, shown with the job.", max_length=1000)] = ""
    checkpoint: Annotated[bool, doc("Stop at its next checkpoint, or after its grace.")] = False


class RetryRequest(Struct, forbid_unknown_fields=True):
    """Begin of the new job."""

    from_checkpoint: Annotated[bool, doc("Go on from the newest checkpoint.")] = False


class Nothing(Struct, forbid_unknown_fields=True):
    """An empty object."""


class JobList(Struct, forbid_unknown_fields=True, kw_only=True):
    """Filter and order of a list of jobs."""

    state: Annotated[list[State], doc("Only in these states; may be repeated.")] = []
    task: Annotated[str, doc("Only of this task.", max_length=200)] = ""
    queue: Annotated[str, doc("Only of this queue.", max_length=200)] = ""
    search: Annotated[
        str, doc("Text in id, task, arguments, tags, owner, message, summary or error.", max_length=500)
    ] = ""
    q: Annotated[str, doc("A search as in the dashboard: `state:failed age:<1h lr=0.003`.", max_length=500)] = ""
    tz: Annotated[str, doc("Time zone of times like 22:00 in `q`: an IANA name. UTC unless given.", max_length=60)] = ""
    order: Annotated[
        str,
        doc(f"One of {', '.join(ORDERS)}; with `-` the largest first. Newest first unless given.", max_length=20),
        shown(f"^(-?({'|'.join(ORDERS)}))?$"),
    ] = ""
    limit: Limit = 50
    cursor: Annotated[str, doc("`next_cursor` of the previous page.", max_length=2000), shown(CURSOR)] = ""


class LogQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Filter of a log's lines."""

    after: Annotated[int, doc("Only lines numbered above.", ge=0, le=2**53)] = 0
    before: Annotated[Annotated[int, Meta(ge=1, le=2**53)] | None, doc("Only lines numbered below.")] = None
    tail: Annotated[Count | None, doc("Only the last N lines.")] = None
    search: Annotated[str, doc("Only lines that contain this text; case is ignored.", max_length=200)] = ""
    level: Annotated[Literal["", "info", "warning", "error"], doc("Minimum level.")] = ""
    limit: Annotated[Annotated[int, Meta(ge=1, le=5000)] | None, doc("Maximum number of lines.")] = None


class JobStreamQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Options of the event stream of one job."""

    logs: Annotated[bool, doc("Also its log, as `logged` events.")] = False
    last_event_id: LastEventId = ""


class StreamQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Filter of the event stream of all jobs."""

    job: Annotated[list[Name], doc("Only of these jobs; may be repeated.", max_length=1000)] = []
    task: Annotated[list[Name], doc("Only of these tasks; may be repeated.", max_length=100)] = []
    queue: Annotated[list[Name], doc("Only of these queues; may be repeated.", max_length=100)] = []
    type: Annotated[list[EventName], doc("Only events of these types; may be repeated.", max_length=20)] = []
    progress: Annotated[bool, doc("Also progress, which has no id.")] = True
    last_event_id: LastEventId = ""


def answer(name: str, text: str = "", /, *, bases: tuple[type[Struct], ...] = (), **fields: Any) -> type[Struct]:
    """Return the type of an answer with these fields."""
    return defstruct(name, list(fields.items()), bases=bases or None, namespace={"__doc__": text})


def json_of(name: str, text: str, sample: Any, *parts: type, **others: Any) -> type[Struct]:
    """Return the type of what `sample.to_json()` returns.

    Its fields are also fields and properties of its `parts`, which are in the JSON under the same names, or `others`.
    """
    hints: dict[str, Any] = {}
    for each in (*parts, type(sample)):
        properties = {name: found.fget for name, found in vars(each).items() if isinstance(found, property)}
        hints |= {name: get_type_hints(get)["return"] for name, get in properties.items()} | get_type_hints(each)
    return answer(name, text, **{field: (hints | others)[field] for field in sample.to_json()})


AcceptedJson = answer(
    "AcceptedJson",
    "URLs of a submitted job, and the id of an event before its first: streams that resume after it miss nothing.",
    id=str,
    topic=str,
    url=str,
    events=str,
    last_event_id=str,
)
JobJson = json_of(
    "JobJson",
    "Everything about a job. Times in UTC.",
    JobSnapshot(JobSpec("", ""), 0, JobState.QUEUED),
    JobSpec,
    state=State,
)


class CancellationJson(Struct):
    """A request to stop a job. `by` is "" if unknown, `reason` if none was given."""

    at: datetime
    by: str
    reason: str


JobReadJson = answer(
    "JobReadJson",
    """One job. `waits_for`: why it cannot start yet while it is queued; "" if nothing is known.

    `starts_at`, `ahead`: of a waiting job its expected start, and how many are before it in its line; null if unknown.
    `cancelled`: who asked it to stop, when and why.
    """,
    bases=(JobJson,),
    waits_for=str,
    starts_at=datetime | None,
    ahead=int | None,
    cancelled=CancellationJson | None,
)
JobPageJson = answer(
    "JobPageJson",
    "Jobs, newest first; `next_cursor` is null on the last page.",
    jobs=list[JobJson],  # type: ignore[valid-type]  # made at run time
    next_cursor=str | None,
)
LineJson = json_of("LineJson", "A line of a job's log.", LogLine(""))
LogJson = json_of(
    "LogJson",
    """Lines of a log; `total` were written, `dropped` of them are no longer kept: those behind line `gap_after`.
    `hidden` further lines were left out before they were stored: notes among those dropped ones counted them.

    Of a search: `matched` is the number of matching lines in the searched part, and `is_all` says whether that is the
    whole log; `cursor` is the line to continue at (as `after`, or backwards as `before`) if the search stopped early,
    else 0.
    """,
    LogSlice(()),
    lines=list[LineJson],  # type: ignore[valid-type]  # made at run time
)


class ArtifactJson(Struct):
    """A named file that a job saved."""

    name: str
    media_type: str
    size_bytes: int
    created_at: datetime
    url: str


class TaskJson(Struct):
    """A task; `schema` is the JSON Schema of its arguments."""

    name: str
    title: str
    doc: str
    queue: str | None
    isolation: str
    schema: dict[str, Any]


class StatsJson(Struct):
    """Totals. `refused`: why the store accepts no changes at present, "" if it does."""

    jobs: dict[str, int]
    queues: dict[str, dict[str, int]]
    workers: int
    slots: int
    busy: int
    lost: int
    running: int
    refused: str


HealthJson = answer("HealthJson", '`status` is "ok", or "unavailable" with a 503.', status=str, live=bool, version=str)


class Move(Struct, forbid_unknown_fields=True, kw_only=True):
    """The new queue or priority, or both."""

    more_of_schema: ClassVar[dict[str, Any]] = {"minProperties": 1}

    queue: Annotated[Identifier | UnsetType, doc("Another queue.")] = UNSET
    priority: Annotated[Priority | UnsetType, doc("Another priority; higher first.")] = UNSET


#: Types of the model that answers contain. Their JSON has all fields but those of `NOT_ALWAYS`.
MODELS = (JobError, OpenQuestion, Pause, WorkerInfo)
NOT_ALWAYS = {"source"}


ArtifactsJson = answer("ArtifactsJson", artifacts=list[ArtifactJson])
ChangedJson = answer("ChangedJson", "`changed` is false if it was in this state already.", changed=bool)
PausedJson = answer("PausedJson", paused=list[Pause])
QueuesJson = answer(
    "QueuesJson",
    "By name: the numbers of jobs `queued`, `scheduled` and `running`, and of `workers`.",
    queues=dict[str, dict[str, int]],
)
RepeatedJson = answer(
    "RepeatedJson",
    "Ids of the new jobs, and reasons of refusals, by the old jobs' ids; `left` jobs remain for the next request.",
    jobs=dict[str, str],
    refused=dict[str, str],
    left=int,
)
TasksJson = answer("TasksJson", tasks=list[TaskJson])
WorkersJson = answer("WorkersJson", workers=list[WorkerInfo])
