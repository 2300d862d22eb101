"""What goes in and comes out about schedules, groups of failures and the audit trail; see `shapes`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Struct, UnsetType

from jobkit.http.shapes import STREAM_ID, Identifier, Priority, doc, shown


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
