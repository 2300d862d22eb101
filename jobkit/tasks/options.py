"""Options of `@task`, `task.options(...)` and `kit.options(...)`, and their validation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Self

from jobkit.model import Backoff, InvalidParams
from jobkit.schedules.timing import checked_rules, timing
from jobkit.settings import checked_name
from jobkit.tasks import limit_options
from jobkit.tasks.limit_options import Key, Unique, positive_seconds, seconds
from jobkit.tasks.signature import close_names

ISOLATIONS = ("process", "thread", "async")

#: Priorities range from -1000 to 1000.
MAX_PRIORITY = 1000
MAX_RETRIES = 10_000
MAX_TAGS = 32
MAX_REUSE = 100_000
_DAY = timedelta(days=1)
_LEAST_MEMORY_BYTES = 16 * 1024**2

_SCHEDULE = ("cron", "every", "tz", "missed", "missed_limit", "overlap")

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """Options of a task. Times are in seconds.

    Attributes:
        queue: name of the queue, or None for the queue by routing.
        timeout_s: maximum run time of an attempt; None for no limit.
        retries: maximum number of retries. backoff: delay before each. retry_on: names of exception types that are
            retried; empty for all.
        isolation: "process", "thread" or "async"; None for the default of the function's kind.
        reuse: maximum number of jobs of the task that run in one process, one after the other; 1 for a new process for
            each job. Only for isolation "process".
        memory_limit_bytes: memory limit of all processes of the job together; None for no limit.
        result_ttl_s: how long the ended job is kept; None for the setting.
        concurrency: maximum number of running attempts. rate: maximum rate of starts, like "10/m". limit_key: apply
            them for each value of this key instead of to the whole task.
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
        given: names of the fields that were set explicitly; `merged` lets them win.
    """

    queue: str | None = None
    timeout_s: float | None = None
    retries: int = 0
    backoff: Backoff = field(default_factory=Backoff)
    retry_on: tuple[str, ...] = ()
    isolation: str | None = None
    reuse: int = 1
    memory_limit_bytes: int | None = None
    result_ttl_s: float | None = None
    concurrency: int | None = None
    rate: str | None = None
    limit_key: Key | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    unique: Unique | None = None
    unique_key: Key | None = None
    debounce_s: float | None = None
    cache_s: float | None = None
    cache_ignore: tuple[str, ...] = ()
    version: str = ""
    priority: int = 0
    schedule: Mapping[str, Any] = field(default_factory=dict)
    cancel_grace_s: float | None = None
    on_lost: str = "retry"
    tags: tuple[str, ...] = ()
    title: str = ""
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @property
    def is_plain(self) -> bool:
        """True if nothing about the job depends on its arguments' values."""
        return (
            self.concurrency is None
            and self.rate is None
            and self.unique is None
            and self.debounce_s is None
            and self.cache_s is None
        )

    def merged(self, over: TaskOptions) -> Self:
        """Return these options, overridden by those that were set in `over`; tags are added."""
        if not over.given:
            return self
        changes: dict[str, Any] = {name: getattr(over, name) for name in over.given if hasattr(self, name)}
        if "tags" in changes:
            changes["tags"] = tuple(dict.fromkeys((*self.tags, *over.tags)))
        return replace(self, **changes, given=self.given | over.given)

    def without(self, *names: str) -> Self:
        """Return these options with some fields reset to their defaults, as if not given."""
        defaults = type(self)()
        return replace(self, **{name: getattr(defaults, name) for name in names}, given=self.given - set(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions(TaskOptions):
    """Options of one submission: those of the task, and when and under which key.

    Attributes:
        delay_s: delay in seconds; 0 for none.
        at: earliest start (aware), or None.
        key: idempotency key, or "".
        fresh: run even if there is a cached result.
    """

    delay_s: float = 0.0
    at: datetime | None = None
    key: str = ""
    fresh: bool = False


def check_options(given: Mapping[str, Any]) -> TaskOptions:
    """Return validated task options from user input (`timeout=60`, `memory_limit="2GB"`).

    Raises:
        InvalidParams: an unknown option (the message suggests similar ones) or an invalid value.
    """
    return TaskOptions(**_checked(given, _TASK), given=_fields_of(given))


def check_submit_options(given: Mapping[str, Any]) -> SubmitOptions:
    """Return validated options of a submission from user input; see `check_options`."""
    values = _checked(given, _SUBMIT)
    if values.get("delay_s") and values.get("at"):
        raise InvalidParams("delay and at exclude each other: give the seconds or the moment, not both", "at")
    return SubmitOptions(**values, given=_fields_of(given))


def effective_options(
    task: str, options: TaskOptions, over: SubmitOptions | None, isolation: str, *, is_async: bool
) -> SubmitOptions:
    """Return the options of a submission: the task's, overridden by `over`, with the isolation decided.

    Raises:
        InvalidParams: options that contradict each other.
    """
    merged = options if isinstance(options, SubmitOptions) else SubmitOptions().merged(options)
    if over is not None:
        merged = merged.merged(over)
    runs_as = merged.isolation or isolation
    if merged.reuse > 1 and runs_as != "process":
        raise InvalidParams(
            f"reuse={merged.reuse} needs isolation='process', and {task} runs as {runs_as!r}; leave out one of them",
            "reuse",
        )
    for name, value in (("memory_limit", merged.memory_limit_bytes), ("resources", merged.resources)):
        if value and runs_as != "process":
            raise InvalidParams(
                f"{name} needs isolation='process', and {task} runs as {runs_as!r}, where many jobs share one process; "
                "leave out one of them",
                name,
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


def _check_together(options: SubmitOptions) -> None:
    if options.limit_key is not None and options.concurrency is None and options.rate is None:
        raise InvalidParams("limit_key needs concurrency= or rate=", "limit_key")
    if options.unique is not None and options.debounce_s is not None:
        raise InvalidParams("unique and debounce exclude each other: give one of them", "debounce")
    if options.unique is not None and options.unique.key is not None and options.unique_key is not None:
        raise InvalidParams("unique and unique_key both give a key: give it once", "unique_key")
    if options.unique_key is not None and options.unique is None and options.debounce_s is None:
        raise InvalidParams("unique_key needs unique= or debounce=", "unique_key")
    if options.debounce_s is not None and options.key:
        raise InvalidParams("key and debounce exclude each other: give one of them", "key")
    if options.debounce_s is not None and options.at is not None:
        raise InvalidParams("at and debounce exclude each other: give one of them", "at")
    if options.cache_ignore and options.cache_s is None:
        raise InvalidParams("cache_ignore needs cache=", "cache_ignore")


def write_options(options: TaskOptions) -> dict[str, Any]:
    """Return the options that were given, as JSON, by their public names."""
    out: dict[str, Any] = {}
    for name, (target, _) in _TASK.items():
        if target in options.given:
            value = getattr(options, target)
            if isinstance(value, (Backoff, Key, Unique)):
                value = value.to_wire()
            out[name] = list(value) if isinstance(value, tuple) else value
    return out


def read_options(data: Mapping[str, Any]) -> TaskOptions:
    """Return the options that `write_options` wrote; invalid or unknown ones are ignored."""
    known: dict[str, Any] = {}
    for name in _TASK:
        if name in data and name not in ("title", "isolation"):  # a definition has these separately
            try:
                check_options({name: data[name]})
            except InvalidParams:
                continue
            known[name] = data[name]
    return check_options(known)


def size_bytes(name: str, value: Any) -> int:
    """Return a size in bytes from an int or a text like "512MB", "2GB" (powers of 1000) or "2GiB" (of 1024).

    Raises:
        InvalidParams: another type, or less than 16 MiB, too little to start Python.
    """
    number: float = -1
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        amount, unit, binary = match.groups()
        number = float(amount) * (1024 if binary else 1000) ** _POWER[unit.lower()]
    if not _LEAST_MEMORY_BYTES <= number < 2**60:
        raise InvalidParams(
            f'{name} must be a size of at least 16 MiB, like "512MB", "2GB" or a number of bytes, not {value!r}', name
        )
    return int(number)


def _checked(given: Mapping[str, Any], table: Mapping[str, tuple[str, Callable[[str, Any], Any]]]) -> dict[str, Any]:
    values = {}
    for name, value in given.items():
        if name not in table:
            if name in _SUBMIT:
                raise InvalidParams(
                    f"{name!r} is an option of a submission, not of the task: write task.options({name}=...)", name
                )
            raise InvalidParams(
                f"unknown option {name!r}{close_names(name, tuple(table))}; the options are: {', '.join(table)}", name
            )
        target, parse = table[name]
        values[target] = parse(name, value)
    return values


def _fields_of(given: Iterable[str]) -> frozenset[str]:
    return frozenset((_SUBMIT.get(name) or _TASK[name])[0] for name in given)


def _optional(parse: Callable[[str, Any], Any], empty: Any = None) -> Callable[[str, Any], Any]:
    return lambda name, value: empty if value is None else parse(name, value)


def _int(least: int, most: int) -> Callable[[str, Any], Any]:
    def parse(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidParams(f"{name} must be a whole number from {least} to {most}, not {value!r}", name)
        return value

    return parse


def _bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidParams(f"{name} must be True or False, not {value!r}", name)
    return value


def _one_of(*allowed: str) -> Callable[[str, Any], str]:
    def parse(name: str, value: Any) -> str:
        if value not in allowed:
            raise InvalidParams(f"{name} must be one of {', '.join(allowed)}, not {value!r}", name)
        return str(value)

    return parse


def _backoff(name: str, value: Any) -> Backoff:
    if isinstance(value, Backoff):
        return value
    try:
        return Backoff.from_wire(value) if isinstance(value, Mapping) else Backoff(base=seconds(name, value))
    except (InvalidParams, TypeError, ValueError):
        raise InvalidParams(
            f"{name} must be jobkit.Backoff(base, factor, max) or the seconds before the first retry, not {value!r}",
            name,
        ) from None


def _retry_on(name: str, value: Any) -> tuple[str, ...]:
    several = value if isinstance(value, (tuple, list, set, frozenset)) else (value,)
    names = []
    for each in several:
        if isinstance(each, type) and issubclass(each, BaseException):
            names.append(
                each.__qualname__ if each.__module__ == "builtins" else f"{each.__module__}.{each.__qualname__}"
            )
        elif isinstance(each, str) and each.replace(".", "").isidentifier():
            names.append(each)
        else:
            raise InvalidParams(f"{name} must be exception types or their names, not {each!r}", name)
    return tuple(dict.fromkeys(names))


def _tags(name: str, value: Any) -> tuple[str, ...]:
    several = (value,) if isinstance(value, str) else value
    if not isinstance(several, (tuple, list, set, frozenset)) or len(several) > MAX_TAGS:
        raise InvalidParams(f"{name} must be a list of at most {MAX_TAGS} texts, not {value!r}", name)
    for tag in several:
        if not isinstance(tag, str) or not tag.strip() or len(tag) > 100 or not tag.isprintable():
            raise InvalidParams(f"each of the {name} must be 1 to 100 printable characters, not {tag!r}", name)
    return tuple(dict.fromkeys(sorted(several) if isinstance(several, (set, frozenset)) else several))


def _title(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise InvalidParams(f"{name} must be text of at most 200 printable characters, not {value!r}", name)
    return value


def _schedule(name: str, value: Any) -> Mapping[str, Any]:
    """Validate the arguments of `kit.schedule`; a cron line is short for `cron=`, a number for `every=`."""
    given = value
    if isinstance(value, str):
        given = {"cron": value}
    elif not isinstance(value, Mapping):
        given = {"every": value}
    if unknown := given.keys() - set(_SCHEDULE):
        raise InvalidParams(
            f"{name} takes {', '.join(_SCHEDULE)}, not {min(map(str, unknown))!r}; schedules with an end or arguments "
            "are made with kit.schedule",
            name,
        )
    try:
        made = timing(**{each: given.get(each) for each in ("cron", "every", "tz")}, now_ms=0)
        rules = checked_rules(given.get("missed"), given.get("missed_limit"), given.get("overlap"))
    except InvalidParams as error:
        raise InvalidParams(f"{name}: {error}", name) from None
    when = {"every": made.every_ms / 1000} if made.every_ms else {"cron": made.cron}
    return {**when, **({"tz": made.tz} if made.tz != "UTC" else {}), **rules}


def _at(name: str, value: Any) -> datetime:
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime):
        raise InvalidParams(f"{name} must be a datetime or ISO 8601 text like 2026-11-24T16:30, not {value!r}", name)
    try:
        aware = moment if moment.tzinfo else moment.astimezone()  # without a zone: local time
        _ = aware + _DAY  # rounding or another time zone must not leave the calendar
    except (ValueError, OverflowError, OSError):
        raise InvalidParams(f"{name} must not be at an end of the calendar, like {value!r}", name) from None
    return aware


_TASK: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    "queue": ("queue", _optional(checked_name)),
    "timeout": ("timeout_s", _optional(positive_seconds)),
    "retries": ("retries", _int(0, MAX_RETRIES)),
    "backoff": ("backoff", _optional(_backoff, Backoff())),
    "retry_on": ("retry_on", _optional(_retry_on, ())),
    "isolation": ("isolation", _optional(_one_of(*ISOLATIONS))),
    "reuse": ("reuse", _optional(_int(1, MAX_REUSE), 1)),
    "memory_limit": ("memory_limit_bytes", _optional(size_bytes)),
    "result_ttl": ("result_ttl_s", _optional(positive_seconds)),
    "concurrency": ("concurrency", _optional(limit_options.places)),
    "rate": ("rate", _optional(limit_options.rate)),
    "limit_key": ("limit_key", _optional(limit_options.key)),
    "resources": ("resources", _optional(limit_options.resources, {})),
    "unique": ("unique", limit_options.unique),
    "unique_key": ("unique_key", _optional(limit_options.key)),
    "debounce": ("debounce_s", _optional(positive_seconds)),
    "cache": ("cache_s", _optional(positive_seconds)),
    "cache_ignore": ("cache_ignore", _optional(limit_options.names, ())),
    "version": ("version", _optional(limit_options.version, "")),
    "priority": ("priority", _int(-MAX_PRIORITY, MAX_PRIORITY)),
    "schedule": ("schedule", _optional(_schedule, {})),
    "cancel_grace": ("cancel_grace_s", _optional(seconds)),
    "on_lost": ("on_lost", _one_of("retry", "fail")),
    "tags": ("tags", _optional(_tags, ())),
    "title": ("title", _optional(_title, "")),
}

_SUBMIT: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    **{name: entry for name, entry in _TASK.items() if name != "schedule"},
    "delay": ("delay_s", _optional(seconds, 0.0)),
    "at": ("at", _optional(_at)),
    "key": ("key", _optional(checked_name, "")),
    "fresh": ("fresh", _bool),
}
