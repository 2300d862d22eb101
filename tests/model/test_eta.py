"""Estimated time left: never negative, only for running jobs, from the rate if it is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.model import JobSpec, JobState
from jobkit.model.snapshot import JobSnapshot

BEGAN = datetime(2026, 11, 24, tzinfo=UTC)
numbers = st.none() | st.floats(0, 1e12)


def left(now_s: float, state: JobState = JobState.RUNNING, **known: float | None) -> float | None:
    job = JobSnapshot(JobSpec("a", "t"), 1, state, started_at=BEGAN, **known)  # type: ignore[arg-type]
    return job.eta_s(BEGAN + timedelta(seconds=now_s))


@given(numbers, numbers, numbers, st.floats(0, 1e6), st.sampled_from(JobState))
def test_the_time_left_is_seconds_from_0_or_unknown(
    completed: float | None, total: float | None, typical_s: float | None, now_s: float, state: JobState
) -> None:
    found = left(now_s, state, completed=completed, total=total, typical_s=typical_s)

    assert found is None or found >= 0
    if state is not JobState.RUNNING:
        assert found is None


@pytest.mark.parametrize(
    ("known", "now_s", "expected"),
    [
        ({"completed": 1, "total": 4}, 10, 30),
        ({"completed": 1, "total": 4, "typical_s": 99}, 10, 30),
        ({"completed": 0, "total": 4, "typical_s": 99}, 10, 89),
        ({"typical_s": 99}, 10, 89),
        ({"typical_s": 99}, 100, None),
        ({"completed": 3}, 10, None),
        ({}, 10, None),
    ],
)
def test_the_rate_takes_precedence_over_past_runs(
    known: dict[str, float], now_s: float, expected: float | None
) -> None:
    assert left(now_s, **known) == (expected if expected is None else pytest.approx(expected))
