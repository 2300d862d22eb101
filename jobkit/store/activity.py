"""`Activity`: when the jobs of a query changed last (`changed_ms`), counted by state in columns of time.

Columns have one length. A long stretch of time without a job becomes one folded column, so that a strip of columns is
full also if most jobs came within a minute of last Monday. Pure: `activity_of` counts in memory, an
index with SQLite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from jobkit.model import JobSnapshot
from jobkit.store.query import STATES, changed_ms

#: Columns that are aimed at; of fewer jobs, one for each.
MOST = 120

#: Empty columns in a row that are shown; of more, one folded column is left.
EMPTY = 3

#: Lengths of a column (ms); longer ones are multiples of the last.
_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
_LENGTHS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(n * _SECOND for n in (1, 2, 5, 10, 15, 30)),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    _DAY,
)

#: Times that jobs are counted with shorter columns, at most.
_ROUNDS = 6

#: Numbers of jobs by state, by the number of the column since the epoch, for columns of so many milliseconds.
Grouped = Mapping[int, Sequence[int]]


class ActivityColumn(NamedTuple):
    """Jobs that changed last from `start_ms` to before `end_ms`: `counts` by state (`query.STATES`); () if folded."""

    start_ms: int
    end_ms: int
    counts: tuple[int, ...]


class Activity(msgspec.Struct, frozen=True):
    """Columns in the order of time, the first and the last change (ms), and the number of jobs.

    `searched`: number of the newest jobs that were searched, if the index does not have all jobs yet; None for all.
    """

    columns: tuple[ActivityColumn, ...] = ()
    first_ms: int = 0
    last_ms: int = 0
    total: int = 0
    searched: int | None = None


def measured(group: Callable[[int], Grouped], first_ms: int, last_ms: int, total: int) -> Activity:
    """Return the activity of `total` jobs between two times. `group` counts them for a length of columns (ms)."""
    if not total:
        return Activity()
    wanted = min(MOST, total)
    length = _length((last_ms - first_ms) / wanted)
    for _ in range(_ROUNDS):
        columns = list(_columns(group(length), length))
        shorter = _length(length * len(columns) / wanted)
        if shorter >= length or 2 * len(columns) > wanted:
            break
        length = shorter
    return Activity(tuple(columns), first_ms, last_ms, total)


def activity_of(jobs: Iterable[JobSnapshot]) -> Activity:
    """Return the activity of jobs in memory."""
    counted = Counter((changed_ms(job), STATES.index(job.state)) for job in jobs)

    def group(length: int) -> Grouped:
        found: dict[int, list[int]] = {}
        for (at_ms, state), count in counted.items():
            found.setdefault(at_ms // length, [0] * len(STATES))[state] += count
        return found

    times = [at_ms for at_ms, _ in counted] or [0]
    return measured(group, min(times), max(times), counted.total())


def _columns(grouped: Grouped, length: int) -> Iterator[ActivityColumn]:
    before = None
    for n in sorted(grouped):
        if before is not None and n - before - 1 > EMPTY:
            yield ActivityColumn((before + 1) * length, n * length, ())
        elif before is not None:
            for empty in range(before + 1, n):
                yield ActivityColumn(empty * length, (empty + 1) * length, (0,) * len(STATES))
        yield ActivityColumn(n * length, (n + 1) * length, tuple(grouped[n]))
        before = n


def _length(least_ms: float) -> int:
    """Return the shortest length of a column that is not below this one."""
    return next((length for length in _LENGTHS if length >= least_ms), -int(-least_ms // _DAY) * _DAY)
