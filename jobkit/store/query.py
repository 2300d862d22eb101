"""`Query`: filter, order and page of a job list, and its meaning.

`FILTERS` and `ORDERS` have the names of both, with the values of a job that they compare; the search grammar and
an index use the same tables. `matches` and `in_order` define the meaning of a query. An index implements the same
faster; one test suite covers both.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import product
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from jobkit.model import UNSUCCESSFUL, InvalidParams, JobSnapshot, JobState
from jobkit.model.plain import to_ms

T = TypeVar("T")

#: A name, or alternatives; `*` stands for any text.
Names = str | tuple[str, ...] | None

#: States in the order of a job's life, used by `order="state"`.
STATES = tuple(str(state) for state in JobState)

#: Flags of jobs: a question waits for an answer; it runs again as another job; it failed or was cancelled and does not.
ASKING, RETRIED, UNRETRIED = FLAGS = ("asking", "retried", "unretried")

#: What `UNRETRIED` means.
UNRETRIED_WORDS = f"{' or '.join(UNSUCCESSFUL)}, and not run again"


def _flags(job: JobSnapshot) -> tuple[str, ...]:
    if job.again:
        return (RETRIED,)
    return (ASKING,) if job.asking else (UNRETRIED,) if job.state in UNSUCCESSFUL else ()


#: Filters by name, each with the values of a job, one of which must fit; see `Query`.
FILTERS: Mapping[str, Callable[[JobSnapshot], tuple[str, ...]]] = {
    "task": lambda job: (job.spec.task,),
    "queue": lambda job: (job.spec.queue,),
    "owner": lambda job: (job.spec.owner,),
    "worker": lambda job: (job.worker,),
    "error": lambda job: (job.error.type, job.error.kind) if job.error else (),
    "tag": lambda job: job.spec.tags,
    "batch": lambda job: (*(() if job.batch else ("",)), *filter(None, (job.spec.batch, job.spec.batch_name))),
    "flag": _flags,
}


class Candidate(NamedTuple):
    """A job that may be on a page, and its time of submit in microseconds, the default order."""

    us: int
    job: JobSnapshot


#: Sort keys, each with the sort value of a job, None if it has none. Ascending (or alphabetical); with "-" in front
#: descending.
ORDERS: Mapping[str, Callable[[Candidate], Any]] = {
    "submitted": lambda one: one.us,
    "started": lambda one: to_ms(one.job.started_at) or None,
    "finished": lambda one: to_ms(one.job.finished_at) or None,
    "took": lambda one: took_ms(one.job),
    "state": lambda one: STATES.index(one.job.state),
    "task": lambda one: one.job.spec.task or None,
    "queue": lambda one: one.job.spec.queue or None,
    "owner": lambda one: one.job.spec.owner or None,
    "worker": lambda one: one.job.worker or None,
    "progress": lambda one: (
        min(1.0, one.job.completed / one.job.total) if one.job.completed is not None and one.job.total else None
    ),
    "attempt": lambda one: one.job.attempt or None,
    "changed": lambda one: changed_ms(one.job),
}

NEWEST = "-submitted"

#: Above any time of submit in microseconds; the largest integer of SQLite.
MAX_US = 2**63 - 1

#: Maximum number of characters of a job's text that are searched.
TEXT_CHARS = 20_000


class Query(msgspec.Struct, frozen=True):
    """Filters and page of a job list.

    Attributes:
        states: allowed states; empty for all.
        task, queue, owner, tag: see `Names`. worker: the id of the last worker, or its prefix up to a dot (a host).
            error: the type or kind of the error. flag: of `FLAGS`. batch: id or name of the batch with which it was
            submitted; ("",) for jobs of none, and those that have left theirs.
        excluded: `(name, value)` of filters, none of which a job may fit.
        search: one or several texts, all of which must occur in id, task, title, arguments (`name=value`), tags, owner,
            key, message, summary, worker, or the error's type and message; ignores case for A to Z.
        limit: jobs on a page. cursor: the `next_cursor` of the previous page; "" for the first page.
        newer_s, older_s: submitted at most, at least so many seconds ago.
        since, before: the last change, see `changed_ms`, at or after, before this point in time: seconds since the
            epoch, or the negative number of seconds before now.
        took_min_s, took_max_s: seconds that the last attempt took; ended jobs only.
        archived: ended jobs in the archive, instead of those in the store; see `jobkit.features`.
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
    flag: Names = None
    batch: Names = None
    excluded: tuple[tuple[str, str], ...] = ()
    newer_s: float | None = None
    older_s: float | None = None
    since: float | None = None
    before: float | None = None
    took_min_s: float | None = None
    took_max_s: float | None = None
    order: str = ""
    archived: bool = False

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
    def is_asking(self) -> bool:
        """True if it asks for jobs with a question, which a counter of the page does, as for a state."""
        return names(self.flag) == (ASKING,)

    @property
    def is_plain(self) -> bool:
        """True if the store's own indexes answer it without reading records: by state and age only."""
        if (
            self.archived
            or not self.is_by_age
            or self.texts
            or self.excluded
            or any(getattr(self, name) for name in FILTERS)
        ):
            return False
        return all(bound is None for bound in (self.took_min_s, self.took_max_s, self.since, self.before))

    @property
    def is_aging(self) -> bool:
        """True if jobs come into it, or leave it, by the passing of time alone."""
        return self.aging_s is not None

    @property
    def aging_s(self) -> float | None:
        """Seconds of the shortest length of time in it; None if there is none."""
        points = (-point for point in (self.since, self.before) if point is not None and point < 0)
        return min((length for length in (self.newer_s, self.older_s, *points) if length is not None), default=None)

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
    jobs. `problems`: a sentence for each file of the archive that was left out.
    """

    jobs: tuple[JobSnapshot, ...]
    next_cursor: str = ""
    searched: int | None = None
    problems: tuple[str, ...] = ()


def narrowed(query: Query, only: str | None) -> Query:
    """Return the query restricted to the jobs of one owner, also if it is later given other states; None for all."""
    if only is None:
        return query
    if query.owner is not None and not fits((only,), names(query.owner)):
        return replace(query, states=("none",), owner=only, excluded=(*query.excluded, ("owner", only)))
    return replace(query, owner=only)


def matches(job: JobSnapshot, query: Query, now_ms: int) -> bool:
    """Return True if `job` passes every filter of `query` at that time."""
    if (query.states and job.state not in query.states) or (query.archived and not job.is_terminal):
        return False
    for name, values in FILTERS.items():
        if (asked := patterns(query, name)) and not fits(values(job), asked):
            return False
    if any(fits(FILTERS[name](job), alternatives(name, (value,))) for name, value in query.excluded):
        return False
    oldest_us, newest_us = submit_bounds(query, now_ms)
    if not oldest_us <= to_ms(job.submitted_at) * 1000 <= newest_us:
        return False
    least_ms, most_ms = change_bounds(query, now_ms)
    if (least_ms, most_ms) != (None, None):
        changed = changed_ms(job)
        if (least_ms is not None and changed < least_ms) or (most_ms is not None and changed > most_ms):
            return False
    if query.took_min_s is not None or query.took_max_s is not None:
        took, most_s = took_ms(job), float("inf") if query.took_max_s is None else query.took_max_s
        if took is None or not (query.took_min_s or 0) * 1000 <= took <= most_s * 1000:
            return False
    texts = query.texts
    text = text_of(job) if texts else ""
    return all(one in text for one in texts)


def indexed(job: JobSnapshot, fields: Sequence[str]) -> Iterable[tuple[str, ...]]:
    """Return a job's values of fields ("state", or names of `FILTERS`) as the index has them: a tuple for each tag.

    A value is "" for none, and several are joined by a tab.
    """
    kept = {"state": (str(job.state),), "tag": job.spec.tags}
    return product(*(kept[name] if name in kept else ("\t".join(FILTERS[name](job)),) for name in fields))


def patterns(query: Query, name: str) -> tuple[str, ...]:
    """Return the names and patterns of a filter, one of which a value must fit; empty if there is no such filter."""
    return alternatives(name, names(getattr(query, name)))


def alternatives(name: str, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a filter's values are compared with: a worker also by its host."""
    return (*asked, *(f"{one}.*" for one in asked)) if name == "worker" else asked


def submit_bounds(query: Query, now_ms: int) -> tuple[int, int]:
    """Return the lowest and the highest allowed time of submit in microseconds."""
    oldest = 0 if query.newer_s is None else max(0, int(now_ms - query.newer_s * 1000) * 1000)
    newest = MAX_US if query.older_s is None else max(-1, int(now_ms - query.older_s * 1000) * 1000 + 999)
    return oldest, newest


def change_bounds(query: Query, now_ms: int) -> tuple[int | None, int | None]:
    """Return the lowest and the highest allowed time of the last change in milliseconds; None for no bound."""
    least, most = (
        None if point is None else now_ms + math.floor(point * 1000) if point < 0 else math.floor(point * 1000)
        for point in (query.since, query.before)
    )
    return least, None if most is None else most - 1


def words(query: Query) -> tuple[list[str], list[str]]:
    """Return texts, with A to Z in lower case, that the record of each matching job contains; and those of its spec.

    A quick test that leaves out most other records before they are decoded. Stored is JSON, so the words have no
    character that it escapes, and names are apart from their values. Those of the spec are JSON, in their own case; the
    queue "default" is not in it.
    """
    single = {name: asked[0] for name in FILTERS if len(asked := names(getattr(query, name))) == 1}
    texts = [*query.texts, *(lower(single[name]) for name in ("worker", "error") if name in single)]
    parts = [part for text in texts for part in _NOT_IN_WORDS.split(text) if part]
    exact = [single[name] for name in ("task", "owner", "tag", "batch") if not is_pattern(single.get(name, "*"))]
    exact = [text for text in exact if text]
    return parts, [msgspec.json.encode(text.encode("utf-8", "replace").decode()).decode() for text in exact]


#: Characters that JSON may escape, "=" between name and value, and "*" of a pattern.
_NOT_IN_WORDS = re.compile(r'["\\/=*\x00-\x1f\x7f]+')


def text_of(job: JobSnapshot) -> str:
    """Return the searched text of a job: one line for each value, with A to Z in lower case."""
    spec, error = job.spec, job.error
    parts = (spec.id, spec.task, spec.title, spec.params, spec.tags, spec.owner, spec.key)
    rest = (job.message, job.summary, job.worker, *((error.type, error.message) if error else ()))
    return lower("\n".join(_lines((*parts, *rest))))[:TEXT_CHARS]


def took_ms(job: JobSnapshot) -> int | None:
    """Return the duration of the last attempt in milliseconds; None if the job has not ended."""
    if job.started_at is None or job.finished_at is None:
        return None
    return max(0, to_ms(job.finished_at) - to_ms(job.started_at))


def changed_ms(job: JobSnapshot) -> int:
    """Return the time (ms) of a job's end; if it has not ended, of the start of its last attempt, or of its submit."""
    return to_ms(job.finished_at) or to_ms(job.started_at) or to_ms(job.submitted_at)


def sort_value(one: Candidate, order: str) -> Any:
    """Return the sort value of a job, or None if it has none."""
    return ORDERS[order.removeprefix("-") or "submitted"](one)


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
        with contextlib.suppress(ValueError, msgspec.MsgspecError):
            order, value, us = _cursor(base64.urlsafe_b64decode(query.cursor.encode()))
            name = order.removeprefix("-")
            is_kind = name != "state" if value is None else isinstance(value, str) == (name in FILTERS)
            if order == query.order and is_kind:
                return value, us
    raise InvalidParams("cursor must be the next_cursor of a page of the same order", "cursor")


#: A cursor comes from a client: only what can be compared with the values of jobs is accepted.
_IN_RANGE = msgspec.Meta(gt=-(2**53), lt=2**53)
_Value = str | Annotated[int, _IN_RANGE] | Annotated[float, _IN_RANGE] | None
_cursor = msgspec.json.Decoder(tuple[str, _Value, Annotated[int, msgspec.Meta(ge=0, lt=10**18)]]).decode


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


def in_order(jobs: Iterable[Candidate], query: Query) -> list[Candidate]:
    """Return the jobs after the cursor, in the query's order."""
    order, after = query.order or NEWEST, read_cursor(query)
    found = ordered(jobs, order, lambda one: (sort_value(one, order), one.us))
    return [one for one in found if after is None or is_after(sort_value(one, order), one.us, after, order)]


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


def fits(values: Iterable[str], asked: Iterable[str]) -> bool:
    """Return True if one of the values is one of the names, or matches one of the patterns, which no empty one does."""
    return any(
        value == name
        if not is_pattern(name)
        else value and fnmatchcase(value, name.replace("[", "[[]").replace("?", "[?]"))
        for name in asked
        for value in values
    )


def lower(text: str) -> str:
    """Return the text with A to Z in lower case, like Lua; lone surrogates become "?"."""
    return text.encode("utf-8", "replace").lower().decode()


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
