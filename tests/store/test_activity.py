"""Columns of activity: equal lengths, folded silence, and no blank strip whatever the times are."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobkit.model import JobSnapshot, JobSpec, JobState
from jobkit.store.activity import EMPTY, MOST, Activity, activity_of
from jobkit.store.query import STATES

T0 = 1_800_000_000_000


def submitted(*seconds: float, state: JobState = JobState.SUCCEEDED) -> list[JobSnapshot]:
    return [
        JobSnapshot(JobSpec(str(n), "train"), 1, state, submitted_at=datetime.fromtimestamp(T0 / 1000 + each, UTC))
        for n, each in enumerate(seconds)
    ]


def counted(found: Activity) -> int:
    return sum(sum(column.counts) for column in found.columns)


def test_no_job_has_no_column() -> None:
    assert activity_of([]) == Activity()


def test_one_job_and_jobs_of_one_moment_are_one_column() -> None:
    for jobs in (submitted(3), submitted(*[3] * 500)):
        (column,) = activity_of(jobs).columns
        assert column.start_ms <= T0 + 3000 < column.end_ms
        assert sum(column.counts) == len(jobs)


def test_columns_follow_each_other_with_all_jobs_by_state() -> None:
    found = activity_of([*submitted(*range(0, 3600, 7)), *submitted(*range(0, 3600, 60), state=JobState.FAILED)])

    assert counted(found) == found.total == 515 + 60
    assert sum(column.counts[STATES.index("failed")] for column in found.columns) == 60
    assert MOST / 3 < len(found.columns) <= MOST + 1
    for one, two in zip(found.columns, found.columns[1:], strict=False):
        assert one.end_ms == two.start_ms
        assert one.end_ms - one.start_ms == 30_000
    assert found.columns[0].start_ms <= found.first_ms == T0
    assert found.last_ms < found.columns[-1].end_ms


@pytest.mark.parametrize(
    "seconds",
    [
        [0, *(604_800 + n / 100 for n in range(5_000))],
        [*(n / 10 for n in range(2_000)), 30_000_000, *(40_000_000 + n for n in range(100))],
        [n * 86_400 + m for n in range(7) for m in range(500)],
    ],
    ids=["one a week before", "two bursts in a year", "a burst each day"],
)
def test_a_long_silence_is_folded_so_that_no_strip_is_half_blank(seconds: list[float]) -> None:
    found = activity_of(submitted(*seconds))

    silent = [not any(column.counts) for column in found.columns]
    assert sum(silent) < len(silent) / 2
    assert len(silent) >= MOST / 3
    run = 0
    for column in found.columns:
        run = run + 1 if column.counts and not any(column.counts) else 0
        assert run <= EMPTY
    assert counted(found) == len(seconds)
