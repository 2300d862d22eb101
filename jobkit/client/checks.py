"""Checks of the arguments of verbs: ids, states, times. One sentence names a refused value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from enum import StrEnum

from jobkit.client.handle import Handle
from jobkit.model import InvalidParams, JobNotFound
from jobkit.model.format import duration, seconds_in
from jobkit.tasks.params import checked, one_of
from jobkit.tasks.values import short_repr

#: What is longer waits for ever: 31 years. Threads could not count so far.
_EVER_S = 1e9

#: Characters of a reason, as over HTTP.
MAX_REASON = 1000


#: Characters of the shortest prefix that finds a job or batch.
LEAST_ID = 4


def unknown_job(job_id: str, cure: str = "") -> JobNotFound:
    """The error for the id of a job that the store does not have.

    cure: said of a whole id, see `Verbs.older`.
    """
    return JobNotFound(
        f"no job {job_id[:60]!r} is kept here: it was never submitted, was removed, or has expired"
        f"{f'; {cure}' if cure and not is_prefix(job_id) else ''}"
    )


def unknown_batch(batch_id: str) -> JobNotFound:
    """The error for the id of a batch that the store does not have."""
    return JobNotFound(f"no batch {batch_id[:60]!r} is kept here: `jobkit batches` lists the kept ones")


def is_prefix(text: str) -> bool:
    """Return True for what may be the first characters of an id: at least `LEAST_ID`, and no whole id of jobkit's."""
    return len(text) >= LEAST_ID and re.fullmatch(r"[0-9a-f]{16}", text) is None


def only_one(ids: Sequence[str], prefix: str, missing: JobNotFound) -> str:
    """Return the only one of the ids that begin with a prefix. Raises `missing` if there is none, or InvalidParams."""
    if not ids:
        raise missing
    if len(ids) > 1:
        raise InvalidParams(f"several ids begin with {prefix!r}: {', '.join(ids)}; give a longer prefix")
    return ids[0]


def job_id(value: object) -> str:
    """An id, whether known or not. Raises InvalidParams if it is not a text."""
    if isinstance(value, Handle):
        raise InvalidParams(f"job_id must be the id of a job: give job.id, not {short_repr(value, 60)}", "job_id")
    return str(checked("job_id", value, "str"))


def job_ids(values: object) -> Sequence[str]:
    """One id or several, as a list. Raises InvalidParams if they are neither a text nor texts."""
    if isinstance(values, str):
        return [values]
    if not isinstance(values, Iterable):
        raise InvalidParams(f"job_ids must be a list of ids, not {short_repr(values)}", "job_ids")
    return [job_id(value) for value in values]


def states(value: object, allowed: type[StrEnum]) -> tuple[str, ...]:
    """One state or several; () for None. Raises InvalidParams if one is not `allowed`."""
    if value is None:
        return ()
    found = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    return tuple(one_of("state", each, allowed) for each in found)


def reason(value: object) -> None:
    """Raise InvalidParams if it cannot be the reason that is shown with the event that ends a job."""
    checked("reason", value, "str", max=MAX_REASON, nullable=True)


#: A time to wait: seconds, or a text like "90s"; None for ever.
Timeout = float | str | timedelta | None


def timeout_s(value: object) -> float | None:
    """Return the seconds to wait at most, None for ever. Raises InvalidParams if it is not a length of time."""
    seconds = seconds_of(value, "timeout")
    return seconds if seconds is not None and seconds < _EVER_S else None


def seconds_of(value: object, name: str) -> float | None:
    """Return the seconds of a length of time, None for None. Raises InvalidParams if it is something else."""
    if value is None:
        return None
    if (seconds := seconds_in(value)) is not None:
        return seconds
    raise InvalidParams(
        f'{name} must be a number of seconds, a timedelta, a text like "90s" or None, not {short_repr(value)}', name
    )


def shown(value: Timeout) -> str:
    """Return a length of time for a message: "0.3 s" as "300 ms"."""
    return duration(timeout_s(value))
