"""`Query`: filter, order and page of a job list, and its meaning for every store.

`Brief` has the fields of a job that are needed to find and to order it. `matches` and `sort_value` define the meaning
of a query. `jobkit.index` implements the same faster; one test suite covers both.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from jobkit.model import InvalidParams, JobError, JobSnapshot, JobState

T = TypeVar("T")

#: A name, or alternatives; `*` stands for any text.
Names = str | tuple[str, ...] | None

#: Sort keys. Ascending (or alphabetical); with "-" in front descending.
ORDERS = (
    "submitted", "started", "finished", "took", "state", "task", "queue", "owner", "worker", "progress", "attempt",
)  # fmt: skip

#: Sort keys that compare text.
_TEXT_ORDERS = frozenset({"task", "queue", "owner", "worker"})

#: States in the order of a job's life, used by `order="state"`.
STATES = tuple(str(state) for state in JobState)

NEWEST = "-submitted"

#: Maximum number of characters of a job's text that are searched.
TEXT_CHARS = 20_000


class Query(msgspec.Struct, frozen=True):
    """Filters and page of a job list.

    Attributes:
        states: allowed states; empty for all.
        task, queue, owner, tag: see `Names`. worker: the id of the last worker, or its prefix up to a dot (a host).
            error: the type or kind of the error.
        search: one or several texts, all of which must occur in id, task, title, arguments (`name=value`), tags, owner,
            key, message, summary, worker, or the error's type and message; ignores case for A to Z.
        limit: jobs on a page. cursor: the `next_cursor` of the previous page; "" for the first page.
        newer_s, older_s: submitted at most, at least so many seconds ago.
        took_min_s, took_max_s: seconds that the last attempt took; ended jobs only.
        order: one of `ORDERS`, with "-" in front for descending; "" for the newest first. Jobs without a value come
            last, equal ones newest first.
    """

    states: tuple[str, ...] = ()
    task: Names = None
    queue: Names = None
    search: Names = None
    limit: int = 50
    cursor: str = ""
    owner: Names = None
    tag: Names = None
    worker: Names = None
    error: Names = None
    newer_s: float | None = None
    older_s: float | None = None
    took_min_s: float | None = None
    took_max_s: float | None = None
    order: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of `search`, with A to Z in lower case."""
        return tuple(filter(None, map(lower, names(self.search))))

    @property
    def is_newest_first(self) -> bool:
        return self.order in ("", NEWEST)

    @property
    def is_by_age(self) -> bool:
        """True for newest or oldest first, the order of the store's own indexes."""
        return self.order in ("", NEWEST, "submitted")

    @property
    def is_plain(self) -> bool:
        """True if the store's own indexes answer it without reading records: by state and age only."""
        return self.is_by_age and not any(
            (self.task, self.queue, self.owner, self.tag, self.worker, self.error, self.texts)
        ) and self.took_min_s is None and self.took_max_s is None  # fmt: skip

    def checked(self) -> Query:
        """Return this query.

        Raises:
            InvalidParams: the order is unknown, or the cursor belongs to another order.
        """
        if self.order.removeprefix("-") not in ORDERS and self.order:
            raise InvalidParams(
                f"order must be one of {', '.join(ORDERS)}, or one with '-', not {self.order!r}", "order"
            )
        read_cursor(self)
        return self


class QueryPage(msgspec.Struct, frozen=True):
    """A page of jobs. `next_cursor` is "" on the last one.

    `searched`: number of the newest jobs that were searched, if the index does not have all jobs yet; None for all
    jobs.
    """

    jobs: tuple[JobSnapshot, ...]
    next_cursor: str = ""
    searched: int | None = None


class BriefSpec(msgspec.Struct):
    """The fields of a `JobSpec` by which jobs are found."""

    id: str
    task: str
    title: str = ""
    queue: str = "default"
    owner: str = ""
    tags: tuple[str, ...] = ()
    key: str = ""
    params: dict[str, Any] = {}


class Brief(msgspec.Struct):
    """The fields of a `JobSnapshot` by which jobs are found and ordered: faster to read, without history.

    Attributes:
        us: time of submit in microseconds, the default order.
    """

    spec: BriefSpec
    us: int
    seq: int
    state: JobState
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str = ""
    attempt: int = 0
    done: float | None = None
    total: float | None = None
    message: str = ""
    summary: str = ""
    error: JobError | None = None


def narrowed(query: Query, only: str) -> Query:
    """Return the query restricted to the jobs of one owner."""
    if query.owner is not None and not any(fnmatchcase(only, name) for name in names(query.owner)):
        return replace(query, states=("none",))
    return replace(query, owner=only)


def matches(job: Brief | JobSnapshot, query: Query, now_ms: int) -> bool:
    """Return True if `job` passes every filter of `query` at that time."""
    spec, error = job.spec, job.error
    if query.states and job.state not in query.states:
        return False
    named: tuple[tuple[Names, Iterable[str]], ...] = (
        (query.task, (spec.task,)),
        (query.queue, (spec.queue,)),
        (query.owner, (spec.owner,)),
        (query.tag, spec.tags),
        (query.error, (error.type, error.kind) if error else ()),
    )
    for asked, values in named:
        if asked and not any(_fits(value, name) for value in values for name in names(asked)):
            return False
    if not is_worker(job.worker, query.worker):
        return False
    submitted_ms = _ms(job.submitted_at)
    if query.newer_s is not None and submitted_ms < now_ms - query.newer_s * 1000:
        return False
    if query.older_s is not None and submitted_ms > now_ms - query.older_s * 1000:
        return False
    if query.took_min_s is not None or query.took_max_s is not None:
        took, most_s = took_ms(job), float("inf") if query.took_max_s is None else query.took_max_s
        if took is None or not (query.took_min_s or 0) * 1000 <= took <= most_s * 1000:
            return False
    texts = query.texts
    text = text_of(job) if texts else ""
    return all(one in text for one in texts)


def spec_parts(query: Query) -> list[bytes]:
    """Return texts that the stored spec of each matching job contains: a quick test that finds most others."""
    plain = [name for name in (query.task, query.owner, query.tag) if isinstance(name, str) and name.isascii()]
    return [name.encode() for name in plain if re.fullmatch(r"[\w.:-]+", name)]


def text_of(job: Brief | JobSnapshot) -> str:
    """Return the searched text of a job: one line for each value, with A to Z in lower case."""
    spec, error = job.spec, job.error
    parts = (spec.id, spec.task, spec.title, spec.params, spec.tags, spec.owner, spec.key)
    rest = (job.message, job.summary, job.worker, *((error.type, error.message) if error else ()))
    return lower("\n".join(_lines((*parts, *rest))))[:TEXT_CHARS]


def took_ms(job: Brief | JobSnapshot) -> int | None:
    """Return the duration of the last attempt in milliseconds; None if the job has not ended."""
    if job.started_at is None or job.finished_at is None:
        return None
    return max(0, _ms(job.finished_at) - _ms(job.started_at))


def sort_value(job: Brief, order: str) -> Any:
    """Return the sort value of a job, or None if it has none."""
    match order.removeprefix("-") or "submitted":
        case "submitted":
            return job.us
        case "started":
            return _ms(job.started_at) or None
        case "finished":
            return _ms(job.finished_at) or None
        case "took":
            return took_ms(job)
        case "state":
            return STATES.index(job.state)
        case "progress":
            return None if job.done is None or not job.total else min(1.0, job.done / job.total)
        case "attempt":
            return job.attempt or None
        case "worker":
            return job.worker or None
        case name:
            return getattr(job.spec, name) or None


def read_cursor(query: Query) -> tuple[Any, int] | None:
    """Return `(value, us)` of the last job of the previous page; None for the first page. By age, both are the us.

    Raises:
        InvalidParams: not a cursor of this order.
    """
    if not query.cursor:
        return None
    if query.is_by_age:
        if re.fullmatch(r"\d{1,18}", query.cursor, re.ASCII):
            return int(query.cursor), int(query.cursor)
    else:
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            order, value, us = json.loads(base64.urlsafe_b64decode(query.cursor.encode()))
            if order == query.order and _is_place(order, value, us):
                return value, us
    raise InvalidParams("cursor must be the next_cursor of a page of the same order", "cursor")


def _is_place(order: str, value: Any, us: Any) -> bool:
    """Return True if the parts of a cursor, which comes from a client, can be compared with those of jobs."""
    if type(us) is not int or not 0 <= us < 10**18:
        return False
    name = order.removeprefix("-")
    if value is None:
        return name != "state"
    if name in _TEXT_ORDERS:
        return type(value) is str and value == value.encode("utf-8", "replace").decode()
    return type(value) in (int, float) and abs(value) < 2**53


def write_cursor(query: Query, value: Any, us: int) -> str:
    """Return the cursor that starts after a job."""
    if query.is_by_age:
        return str(us)
    return base64.urlsafe_b64encode(json.dumps([query.order, value, us]).encode()).decode()


def ordered(items: Iterable[T], order: str, key: Callable[[T], tuple[Any, int]]) -> list[T]:
    """Return items in an order: those without a value last, equal ones newest first. `key` returns `(value, us)`."""
    newest = sorted(items, key=lambda item: key(item)[1], reverse=True)
    some = [item for item in newest if key(item)[0] is not None]
    some.sort(key=lambda item: key(item)[0], reverse=order.startswith("-"))  # stable: equal items stay newest first
    return some + [item for item in newest if key(item)[0] is None]


def in_order(jobs: Iterable[Brief], query: Query) -> list[Brief]:
    """Return the jobs after the cursor, in the query's order."""
    order, after = query.order or NEWEST, read_cursor(query)
    found = ordered(jobs, order, lambda job: (sort_value(job, order), job.us))
    return [job for job in found if after is None or is_after(sort_value(job, order), job.us, after, order)]


def is_after(value: Any, us: int, after: tuple[Any, int], order: str) -> bool:
    """Return True if a job with this value comes after the cursor `after`."""
    last, last_us = after
    if value is None or last is None:
        return value is None and (last is not None or us < last_us)
    if value == last:
        return us < last_us
    return bool(value < last) if order.startswith("-") else bool(value > last)


def names(value: Names) -> tuple[str, ...]:
    """Return names as a tuple."""
    return () if not value else (value,) if isinstance(value, str) else value


def is_pattern(name: str) -> bool:
    return "*" in name


def is_worker(worker: str, asked: Names) -> bool:
    """Return True if a worker's id is one of the given names, or starts with one up to a dot."""
    return not asked or any(_fits(worker, name) or _fits(worker, f"{name}.*") for name in names(asked))


def lower(text: str) -> str:
    """Return the text with A to Z in lower case, like Lua; lone surrogates become "?"."""
    return text.encode("utf-8", "replace").lower().decode()


def _ms(at: datetime | None) -> int:
    return 0 if at is None else round(at.timestamp() * 1000)


def _fits(value: str, name: str) -> bool:
    if not is_pattern(name):
        return value == name
    return fnmatchcase(value, name.replace("[", "[[]").replace("?", "[?]"))


def _lines(value: Any, name: str = "") -> Iterator[str]:
    """Yield a line for each nested value; `name=value` if it has a name."""
    if isinstance(value, Mapping):
        if name:
            yield name
        for key, part in value.items():
            yield from _lines(part, str(key))
        return
    if isinstance(value, (list, tuple)):
        if name:
            yield name
        for part in value:
            yield from _lines(part)
        return
    if isinstance(value, bool):
        value = str(value)
    elif isinstance(value, (int, float)):
        value = f"{float(value):.0f}" if value % 1 == 0 else f"{value:.14g}"
    if isinstance(value, str):
        if value or name:
            yield f"{name}={value}" if name else value
    elif name:
        yield name
