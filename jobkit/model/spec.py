"""The submission: the part of a job that never changes, with its retry policy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from jobkit.model.errors import InvalidParams
from jobkit.model.format import seconds_in
from jobkit.model.limits import Gate, resources_text
from jobkit.model.plain import Record


class Retry(Exception):
    """Raise this in a task to request another attempt.

    Args:
        after: time to wait before it, in seconds, as `timedelta` or text like "5m"; None uses the job's backoff.

    Attributes:
        after: the seconds, or None.

    Raises:
        InvalidParams: `after` is not a length of time.

    Example:
        >>> def fetch(url):
        ...     if busy(url):
        ...         raise jobkit.Retry(after="5m")
        >>> job = kit.options(retries=10).submit(fetch, "https://example.org")
    """

    after: float | None

    def __init__(
        self, after: float | str | timedelta | None = None, message: str = "the task asked for another attempt"
    ) -> None:
        super().__init__(message)
        self.after = None if after is None else seconds_in(after)
        if after is not None and self.after is None:
            raise InvalidParams(f'after must be seconds, a timedelta or a text like "5m", not {after!r}', "after")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.after, *self.args), self.__dict__


class Backoff(Record, frozen=True):
    """Seconds between attempts: `base * factor ** (retry - 1)`, at most `max`.

    With `jitter` each wait is spread evenly over its upper half ("equal jitter"), so that jobs that failed together do
    not retry together.

    Example:
        >>> patient = jobkit.Backoff(base=10, factor=3, max=600)
        >>> job = train.options(retries=4, backoff=patient).submit(lr=0.1)
    """

    base: float = 1.0
    factor: float = 2.0
    max: float = 300.0
    jitter: bool = True

    def __post_init__(self) -> None:
        for name in ("base", "max"):
            if getattr(self, name) < 0:
                raise ValueError(f"Backoff.{name} must be 0 or more, not {getattr(self, name)!r}")
        if self.factor < 1:
            raise ValueError(f"Backoff.factor must be 1 or more, not {self.factor!r}")

    def delay_s(self, retry: int, random: float) -> float:
        """Return the seconds to wait before the `retry`-th retry (from 1); `random` is in [0, 1)."""
        exponent = min(retry - 1, 1000)
        try:
            full = min(self.max, self.base * self.factor**exponent)
        except OverflowError:
            full = self.max
        return full / 2 + full / 2 * random if self.jitter else full


#: Backoff of jobs without one. Records leave it out, because it is the same object everywhere.
DEFAULT_BACKOFF = Backoff()


class Once(Record, frozen=True):
    """Deduplication of submits: how to find a job that already does the same work.

    Attributes:
        key: hash of the work in hex digits.
        scope: how long a second submit returns the first job: while that one waits ("queued"), until it ends
            ("active"), or for `ms` from its submit ("time"). "debounce": it replaces the waiting job's arguments and
            delays it by `ms` from then on.
    """

    key: str
    scope: str
    ms: int = 0


class JobSpec(Record, frozen=True):
    """One submission without the values of its arguments, which are in the signed payload.

    Attributes:
        id: 1 to 200 characters of `[A-Za-z0-9_.:-]`.
        task: name of the task.
        title: display name; the task's title, or its name.
        queue: name of the queue.
        params: arguments for display: plain JSON values as they are, others as short text. Never used to run the job.
        abridged: names of the `params` that show less than the whole value: cut, masked, or only described.
        owner: user name of the submitter.
        tags: free labels.
        priority: higher first.
        key: the idempotency key, or "".
        retry_of: id of the job that this one repeats, or "".
        isolation: "process", "thread" or "async".
        reuse: maximum number of jobs of the task that run in one process, one after the other.
        timeout_s, memory_limit_bytes: limits of one attempt, or None.
        cancel_grace_s: seconds between SIGTERM and SIGKILL, or None for the worker's setting.
        retries: maximum number of retries; losses and releases do not count. backoff: seconds before each.
        retry_on: names of exception types (`"OSError"`, `"requests.Timeout"`), matched against the class of the raised
            exception and its bases, or kinds of other failures ("crash"); empty means every failure.
        result_ttl_s: seconds that the ended job is kept, or None for the setting.
        on_lost: "" to run it again if its worker died, "fail" to fail it.
        needs: ids of the jobs whose results are arguments of this one; it waits for them.
        limits: gates that it must pass before an attempt starts, the narrowest first.
        resources: amounts of a worker's resources that an attempt uses, by name.
        once: deduplication, or None. cache_key, cache_ms: key of the result cache and its time to live; "" for no
            cache.
        is_fresh: run even if there is a cached result.
        delay_ms: delay at submit; 0 for none. `at_ms`: earliest start; 0 for none.
        traceparent: W3C trace context of the span in which it was submitted, or "".
        seed: of its random numbers; None for none.
        made: name of the kept facts about the process that submitted it, or "".
        batch, batch_name: id and name of the batch with which it was submitted, or "".
        schedule: name of the schedule that created it, or "". `slot_ms`: its slot; 0 if started by hand.
        is_anonymous: its task's name says nothing of its code, which is a notebook cell or a lambda.
        python: version of Python ("3.11") of the code that came with it, which no other one reads; "" for none.
        has_parts: large parts of its call, modules or the list of packages are stored beside the call.
    """

    id: str
    task: str
    title: str = ""
    queue: str = "default"
    params: Mapping[str, Any] = {}
    owner: str = ""
    tags: tuple[str, ...] = ()
    priority: int = 0
    key: str = ""
    retry_of: str = ""
    isolation: str = "process"
    reuse: int = 1
    timeout_s: float | None = None
    memory_limit_bytes: int | None = None
    cancel_grace_s: float | None = None
    retries: int = 0
    backoff: Backoff = DEFAULT_BACKOFF
    retry_on: tuple[str, ...] = ()
    result_ttl_s: float | None = None
    on_lost: str = ""
    delay_ms: int = 0
    at_ms: int = 0
    needs: tuple[str, ...] = ()
    schedule: str = ""
    slot_ms: int = 0
    limits: tuple[Gate, ...] = ()
    resources: Mapping[str, float] = {}
    once: Once | None = None
    cache_key: str = ""
    cache_ms: int = 0
    is_fresh: bool = False
    abridged: tuple[str, ...] = ()
    traceparent: str = ""
    seed: int | None = None
    made: str = ""
    batch: str = ""
    batch_name: str = ""
    is_anonymous: bool = False
    python: str = ""
    has_parts: bool = False

    @property
    def timed_as(self) -> str:
        """The name under which the usual run time is kept; "" if other jobs of this name run other code."""
        return "" if self.is_anonymous else self.task

    def retry_delay_s(
        self, *, retried: int, error_types: tuple[str, ...], random: float, asked: Retry | None = None
    ) -> float | None:
        """Return the seconds until the next attempt, or None if the failure is final.

        Args:
            retried: retries that this job has already had.
            error_types: qualified names of the exception's class and its bases.
            random: number in [0, 1) for the jitter.
            asked: the `Retry` that the task raised, if any; it bypasses `retry_on` but not `retries`.
        """
        if retried >= self.retries:
            return None
        if asked is not None and asked.after is not None:
            return max(0.0, asked.after)
        is_listed = any(name in self.retry_on or name.rpartition(".")[2] in self.retry_on for name in error_types)
        if asked is None and self.retry_on and not is_listed:
            return None
        return self.backoff.delay_s(retried + 1, random)

    def constraints(self) -> dict[str, Any]:
        """Return the constraints that the store checks at each transition; {} for a job without any."""
        constraints: dict[str, Any] = {}
        if self.limits:
            constraints["gates"] = [gate.to_wire() for gate in self.limits]
        if self.resources:
            constraints |= {"use": dict(self.resources), "uses": resources_text(self.resources)}
        if self.once is not None:
            constraints["once"] = self.once.to_wire() | ({"but": self.retry_of} if self.retry_of else {})
        if self.cache_key:
            constraints["cache"] = {"key": self.cache_key, "ms": self.cache_ms} | (
                {"fresh": True} if self.is_fresh else {}
            )
        return constraints
