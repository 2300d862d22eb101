"""Options of `@task`, `task.options(...)` and `kit.options(...)`: one table, the fields of `JobOptions`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, Self, TypedDict, TypeVar

from jobkit.model import Backoff, InvalidParams
from jobkit.model.limits import MAX_PLACES
from jobkit.model.neighbours import OPTIONS as OPTIONS_ELSEWHERE
from jobkit.model.spec import DEFAULT_BACKOFF
from jobkit.settings import checked_name
from jobkit.tasks import option_values
from jobkit.tasks.option_values import Key, Unique, positive_seconds, seconds
from jobkit.tasks.params import checked, one_of
from jobkit.tasks.signature import as_resources, close_names

F = TypeVar("F", bound=Callable[..., Any])

#: Priorities range from -1000 to 1000.
MAX_PRIORITY = 1000
MAX_RETRIES = 10_000
MAX_REUSE = 100_000


def _option(read: Callable[[str, Any], Any], default: Any = None, *, is_nullable: bool = True, of: str = "") -> Any:
    """Return a field for the option of its name, without the unit.

    Args:
        read: validates the value under the option's name.
        default: the default, or a class that makes it.
        is_nullable: None means the default.
        of: "task" or "submission" if only one of them has this option.
    """
    given = {"default_factory": default} if callable(default) else {"default": default}
    return field(**given, metadata={"read": read, "is_nullable": is_nullable, "of": of})


def _int(least: int, most: int) -> Callable[[str, Any], Any]:
    return partial(checked, kind="int", min=least, max=most)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """Options of a task's jobs, or of one submission. Times are in seconds.

    Attributes:
        queue: name of the queue, or None for the queue by routing.
        timeout_s: maximum run time of an attempt; None for no limit.
        retries: maximum number of retries. backoff: delay before each. retry_on: names of exception types that are
            retried, or kinds of other failures ("crash", "memory", "timeout"); empty for all.
        isolation: "process", "thread" or "async"; None for the default of the function's kind.
        reuse: maximum number of jobs of the task that run in one process, one after the other; 1 for a new process for
            each job. Only for isolation "process".
        memory_limit_bytes: memory limit of all processes of the job together; None for no limit.
        result_ttl_s: how long the ended job is kept; None for the setting.
        concurrency: maximum number of running attempts; `one_at_a_time=True` means 1. rate: maximum rate of starts,
            like "10/m". limit_key: apply them for each value of this key instead of to the whole task.
        resources: amounts of its worker's resources that an attempt uses, by name.
        unique: return the first job from a second submit of the same work, and for how long. unique_key: defines the
            same work, instead of equal arguments (for `debounce`: instead of the same task).
        debounce_s: start this long after the last submit, with its arguments; None for no debouncing.
        cache_s: time to live of cached results for the same arguments and version; None for no cache. cache_ignore:
            arguments that do not count. version: version of the code; "" for a hash of the code.
        priority: -1000 to 1000, higher first.
        schedule: arguments of `kit.schedule` (cron or every, tz, missed, missed_limit, overlap), or empty.
        cancel_grace_s: time between SIGTERM and SIGKILL; None for the setting.
        on_lost: if its worker dies: "retry" runs it again (at least once), "fail" fails it (at most once).
        tags: free labels.
        title: display name instead of the task's own title, or "".
        delay_s: delay of a submission; 0 for none. at: its earliest start (aware), or None.
        key: idempotency key of a submission, or "". id: id of its job (of a batch: that its ids are made from), or "".
        fresh: run even if there is a cached result.
        env: environment variables of a submission's process, sealed with its arguments; `ENV_WORD` among them
            stands for a Python environment that a feature makes.
        seed: seed of `random`, numpy and torch in the job's process; True to draw one for each job; None for none.
        ship: modules that travel with the function: True for all of the user's own that it needs, False for none, or
            paths of files and folders; None for those that a function sent by value needs on a shared Redis.
        given: names of the fields that were set explicitly; `merged` lets them win.
    """

    queue: str | None = _option(checked_name)
    timeout_s: float | None = _option(positive_seconds)
    retries: int = _option(_int(0, MAX_RETRIES), 0, is_nullable=False)
    backoff: Backoff = _option(option_values.backoff, DEFAULT_BACKOFF)
    retry_on: tuple[str, ...] = _option(option_values.retry_on, ())
    isolation: str | None = _option(partial(one_of, allowed=("process", "thread", "async")))
    reuse: int = _option(_int(1, MAX_REUSE), 1)
    memory_limit_bytes: int | None = _option(option_values.size_bytes)
    result_ttl_s: float | None = _option(positive_seconds)
    concurrency: int | None = _option(_int(1, MAX_PLACES))
    rate: str | None = _option(option_values.rate)
    limit_key: Key | None = _option(option_values.key)
    resources: Mapping[str, float] = _option(option_values.resources, dict)
    unique: Unique | None = _option(option_values.unique)
    unique_key: Key | None = _option(option_values.key)
    debounce_s: float | None = _option(positive_seconds)
    cache_s: float | None = _option(positive_seconds)
    cache_ignore: tuple[str, ...] = _option(option_values.names, ())
    version: str = _option(option_values.version, "")
    priority: int = _option(_int(-MAX_PRIORITY, MAX_PRIORITY), 0, is_nullable=False)
    schedule: Mapping[str, Any] = _option(option_values.of_feature, dict, of="task")
    cancel_grace_s: float | None = _option(seconds)
    on_lost: str = _option(partial(one_of, allowed=("retry", "fail")), "retry", is_nullable=False)
    tags: tuple[str, ...] = _option(option_values.tags, ())
    title: str = _option(option_values.title, "")
    delay_s: float = _option(seconds, 0.0, of="submission")
    at: datetime | None = _option(option_values.at, of="submission")
    key: str = _option(checked_name, "", of="submission")
    id: str = _option(option_values.job_id, "", of="submission")
    fresh: bool = _option(partial(checked, kind="bool"), False, is_nullable=False, of="submission")
    env: Mapping[str, str] = _option(option_values.env, dict)
    seed: bool | int | None = _option(option_values.seed)
    ship: bool | tuple[str, ...] | None = _option(option_values.of_feature)
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def merged(self, over: JobOptions) -> Self:
        """Return these options, overridden by those that were set in `over`; tags and variables are added."""
        if not over.given:
            return self
        changes: dict[str, Any] = {name: getattr(over, name) for name in over.given}
        if "tags" in changes:
            changes["tags"] = tuple(dict.fromkeys((*self.tags, *over.tags)))
        if "env" in changes:
            changes["env"] = {**self.env, **over.env}
        return replace(self, **changes, given=self.given | over.given)


#: A length of time: seconds, or text like "90s", "12h", "7d".
Duration = float | str | timedelta


class SharedOptions(TypedDict, total=False):
    """The options that a task and a submission have, for type checkers and completion; see `JobOptions`."""

    queue: str | None
    timeout: Duration | None
    retries: int
    backoff: Backoff | Duration | None
    retry_on: type[BaseException] | str | Collection[type[BaseException] | str] | None
    isolation: Literal["process", "thread", "async"] | None
    reuse: int | None
    memory_limit: int | str | None
    result_ttl: Duration | None
    concurrency: int | None
    one_at_a_time: bool
    rate: str | None
    limit_key: Callable[..., Any] | str | None
    resources: Mapping[str, float] | str | None
    unique: bool | Literal["queued", "active"] | Duration | Callable[..., Any] | None
    unique_key: Callable[..., Any] | str | None
    debounce: Duration | None
    cache: Duration | None
    cache_ignore: str | Collection[str] | None
    version: str | int | None
    priority: int
    cancel_grace: Duration | None
    on_lost: Literal["retry", "fail"]
    seed: bool | int | None
    tags: Collection[str] | None
    title: str | None
    ship: bool | str | Collection[str] | None


class TaskOptions(SharedOptions, total=False):
    """The options of a task."""

    env: Literal["project"] | None
    schedule: str | Duration | Mapping[str, Any] | None


class SubmitOptions(SharedOptions, total=False):
    """The options of a submission."""

    delay: Duration | None
    at: datetime | str | None
    key: str | None
    id: str | None
    fresh: bool
    env: Mapping[str, str | float] | Literal["project"] | None


class _Unset:
    """The default of an option in a signature."""

    def __repr__(self) -> str:
        return "..."


def takes(options: type) -> Callable[[F], F]:
    """Make a function's signature list the options of a `TypedDict` instead of `**options`, for help and completion."""

    def decorate(function: F) -> F:
        shown = inspect.signature(function)
        known = [each for each in shown.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        hints = {name: hint.__forward_arg__ for name, hint in options.__annotations__.items()}
        named = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_Unset(), annotation=hint)
            for name, hint in hints.items()
        ]
        function.__signature__ = shown.replace(parameters=[*known, *named])  # type: ignore[attr-defined]
        return function

    return decorate


#: Options of a task and of a submission: field by public name.
OPTIONS = {
    of: {
        each.name.removesuffix("_s").removesuffix("_bytes"): each
        for each in fields(JobOptions)
        if each.metadata and each.metadata["of"] in ("", of)
    }
    for of in ("task", "submission")
}

#: Another word for `concurrency=1`, in both tables.
ONE_AT_A_TIME = "one_at_a_time"

_DEFAULTS = JobOptions()


def check_submit_options(given: Mapping[str, Any]) -> JobOptions:
    """Return validated options of a submission from user input; see `check_options`."""
    checked = check_options(given, of="submission")
    if checked.delay_s and checked.at:
        raise InvalidParams("delay and at exclude each other: give the seconds or the moment, not both", "at")
    return checked


def check_options(given: Mapping[str, Any], *, of: str = "task") -> JobOptions:
    """Return validated options of a task from user input (`timeout=60`, `memory_limit="2GB"`).

    Raises:
        InvalidParams: an unknown option (the message suggests similar ones) or an invalid value.
    """
    table = OPTIONS[of]
    values: dict[str, Any] = {}
    for name, value in without_alias(given).items():
        option = table.get(name)
        has_variables = name == "env" and isinstance(value, Mapping) and bool(value.keys() - {option_values.ENV_WORD})
        if (option is None and name in OPTIONS["submission"]) or (has_variables and of == "task"):
            raise InvalidParams(
                f"{name!r} is an option of a submission, not of the task: write task.options({name}=...)", name
            )
        if option is None:
            if written := as_resources(name, value) or OPTIONS_ELSEWHERE.get(name, ""):
                raise InvalidParams(f"unknown option {name!r}: write {written}", name)
            names = (*table, ONE_AT_A_TIME)
            raise InvalidParams(
                f"unknown option {name!r}{close_names(name, names)}; the options are: {', '.join(names)}", name
            )
        if value is None and option.metadata["is_nullable"]:
            values[option.name] = getattr(_DEFAULTS, option.name)
        else:
            values[option.name] = option.metadata["read"](name, value)
    return JobOptions(**values, given=frozenset(values))


def without_alias(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options with `one_at_a_time` as the concurrency that it stands for: 1 for True, no limit for False."""
    if ONE_AT_A_TIME not in given:
        return given
    is_one = checked(ONE_AT_A_TIME, given[ONE_AT_A_TIME], "bool")
    if given.get("concurrency") is not None:
        raise InvalidParams(f"{ONE_AT_A_TIME} is short for concurrency=1: give one of them", ONE_AT_A_TIME)
    others = {name: value for name, value in given.items() if name != ONE_AT_A_TIME}
    return {**others, "concurrency": 1 if is_one else None}


def effective_options(
    task: str, options: JobOptions, over: JobOptions | None, isolation: str, *, is_async: bool
) -> JobOptions:
    """Return the options of a submission: the task's, overridden by `over`, with the isolation decided.

    Raises:
        InvalidParams: options that contradict each other.
    """
    merged = options if over is None else options.merged(over)
    if (merged.env or merged.ship or merged.seed is not None) and "isolation" not in merged.given:
        merged = replace(merged, isolation="process")  # a coroutine, too: the worker's loop has one environment
    runs_as = merged.isolation or isolation
    shared = ", where many jobs share one process"
    for option, is_set, why in (
        (f"reuse={merged.reuse}", merged.reuse > 1, ""),
        ("memory_limit", merged.memory_limit_bytes, shared),
        ("resources", merged.resources, shared),
        ("env", merged.env, shared),
        ("seed", merged.seed is not None, shared),
        ("ship", merged.ship, shared),
    ):
        if is_set and runs_as != "process":
            raise InvalidParams(
                f"{option} needs isolation='process', and {task} runs as {runs_as!r}{why}; leave out one of them",
                option.partition("=")[0],
            )
    _check_together(merged)
    if merged.isolation is None:
        return replace(merged, isolation=isolation)
    if merged.isolation == "async" and not is_async:
        raise InvalidParams(
            f"isolation='async' needs an async def, and {task} is a plain function: use 'process' or 'thread'",
            "isolation",
        )
    return merged


def _check_together(options: JobOptions) -> None:
    has_limit = options.concurrency is not None or options.rate is not None
    has_unique, has_debounce = options.unique is not None, options.debounce_s is not None
    has_unique_key = options.unique_key is not None
    for is_wrong, sentence, name in (
        (options.limit_key is not None and not has_limit, "limit_key needs concurrency= or rate=", "limit_key"),
        (has_unique and has_debounce, "unique and debounce exclude each other: give one of them", "debounce"),
        (
            options.unique is not None and options.unique.key is not None and has_unique_key,
            "unique and unique_key both give a key: give it once",
            "unique_key",
        ),
        (has_unique_key and not (has_unique or has_debounce), "unique_key needs unique= or debounce=", "unique_key"),
        (has_debounce and options.key, "key and debounce exclude each other: give one of them", "key"),
        (has_debounce and options.id, "id and debounce exclude each other: give one of them", "id"),
        (options.key and options.id, "key and id exclude each other: give one of them", "id"),
        (has_debounce and options.at is not None, "at and debounce exclude each other: give one of them", "at"),
        (options.cache_ignore and options.cache_s is None, "cache_ignore needs cache=", "cache_ignore"),
    ):
        if is_wrong:
            raise InvalidParams(sentence, name)


#: Options in the definition of a task, which has title and isolation as fields.
_DEFINED = {name: option for name, option in OPTIONS["task"].items() if name not in ("title", "isolation")}


def write_options(options: JobOptions) -> dict[str, Any]:
    """Return the options that were given, as JSON, by their public names, for the definition of a task."""
    out: dict[str, Any] = {}
    for name, option in _DEFINED.items():
        if option.name in options.given:
            value = getattr(options, option.name)
            if isinstance(value, (Backoff, Key, Unique)):
                value = value.to_wire()
            out[name] = list(value) if isinstance(value, tuple) else value
    return out


def read_options(data: Mapping[str, Any]) -> JobOptions:
    """Return the options that `write_options` wrote; invalid or unknown ones are ignored."""
    known: dict[str, Any] = {}
    for name in _DEFINED.keys() & data.keys():
        with suppress(InvalidParams):
            check_options({name: data[name]})
            known[name] = data[name]
    return check_options(known)
