"""Checks of the arguments of verbs: ids, times, texts. One sentence names a refused value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from enum import StrEnum

from jobkit.model import LOG_LEVELS, InvalidParams, JobNotFound, LogFilter
from jobkit.tasks.specs import short_repr

#: What is longer waits for ever: 31 years. Threads could not count so far.
_EVER_S = 1e9

#: Characters of a reason, as over HTTP.
MAX_REASON = 1000


def job_id(value: object) -> str:
    """An id, whether known or not.

    Raises:
        InvalidParams: no text.
    """
    if not isinstance(value, str):
        raise InvalidParams(f"job_id must be the id of a job, a text, not {short_repr(value, 60)}", "job_id")
    return value


def unknown_job(job_id: str) -> JobNotFound:
    """The error for the id of a job that the store does not have."""
    return JobNotFound(f"no job {job_id[:60]!r} is kept here: it was never submitted, was removed, or has expired")


def job_ids(values: object) -> Sequence[str]:
    """One id or several, as a list.

    Raises:
        InvalidParams: neither a text nor a list of texts.
    """
    if isinstance(values, str):
        return [values]
    if not isinstance(values, Iterable):
        raise InvalidParams(f"job_ids must be a list of ids, not {short_repr(values, 60)}", "job_ids")
    return [job_id(value) for value in values]


def states(value: object, allowed: type[StrEnum]) -> tuple[str, ...]:
    """One state or several; None for none.

    Raises:
        InvalidParams: not of those that are `allowed`.
    """
    if value is None:
        return ()
    found = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    for each in found:
        if not isinstance(each, str) or each not in allowed._value2member_map_:
            raise InvalidParams(f"state must be one of {', '.join(allowed)}, not {short_repr(each, 60)}", "state")
    return tuple(map(str, found))


def text(name: str, value: object) -> None:
    """Raise `InvalidParams` if it is neither None nor a text."""
    if value is not None and not isinstance(value, str):
        raise InvalidParams(f"{name} must be a text, not {short_repr(value, 60)}", name)


def reason(value: object) -> None:
    """Check a reason, which is shown with the event that ends a job.

    Raises:
        InvalidParams: no text, or a long one.
    """
    text("reason", value)
    if isinstance(value, str) and len(value) > MAX_REASON:
        raise InvalidParams(f"reason must have at most {MAX_REASON:,} characters, not {len(value):,}", "reason")


def whole(name: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """A whole number within bounds.

    Raises:
        InvalidParams: it is not.
    """
    bounds = "" if least is None else f" from {least:,}" + ("" if most is None else f" to {most:,}")
    is_within = isinstance(value, int) and (least is None or value >= least) and (most is None or value <= most)
    if not isinstance(value, int) or isinstance(value, bool) or not is_within:
        raise InvalidParams(f"{name} must be a whole number{bounds}, not {short_repr(value, 60)}", name)
    return value


def whole_or_none(name: str, value: object, least: int | None = None, most: int | None = None) -> int | None:
    """`whole`, or None."""
    return None if value is None else whole(name, value, least, most)


def log_filter(search: object, level: object) -> LogFilter:
    """Raises `InvalidParams` if a text to search for or a level is not allowed."""
    if not isinstance(search, str) or len(search) > 200:
        raise InvalidParams(f"search must be a text of at most 200 characters, not {short_repr(search, 60)}", "search")
    if not isinstance(level, str) or level not in LOG_LEVELS:
        raise InvalidParams(f"level must be info, warning or error, not {short_repr(level, 60)}", "level")
    return LogFilter(search, level)


def timeout_s(value: object) -> float | None:
    """Seconds to wait at most, None for ever.

    Raises:
        InvalidParams: no number and no `timedelta`.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        return value if value < _EVER_S else None
    raise InvalidParams(
        f"timeout must be a number of seconds, a timedelta or None, not {short_repr(value, 60)}", "timeout"
    )
