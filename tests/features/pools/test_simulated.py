"""The autoscaler's decision over traces of a day, on an engine that takes minutes to start a worker."""

from __future__ import annotations

import pytest

from benchmarks.scaling import DayFigures, TraceJob, day_spec, day_trace, simulate
from tests.support import by_default


@pytest.fixture(scope="module")
def day() -> DayFigures:
    return simulate(day_trace(length_s=12 * 3600), day_spec())


def test_every_job_of_a_day_runs_and_no_worker_is_left(day: DayFigures) -> None:
    assert len(day.waits) == len(day_trace(length_s=12 * 3600))
    assert day.unfinished == 0


def test_a_day_costs_little_more_than_its_jobs_and_jobs_wait_little_longer_than_the_engine(day: DayFigures) -> None:
    assert day.hours < 4 * day.ideal_hours  # an idle worker stays for ten minutes
    assert day.wait_s(0.5) < 300
    assert day.vain < 0.05 * day.orders


@pytest.mark.parametrize("every_s", by_default([150, 400]))
def test_steady_work_keeps_its_workers(every_s: int) -> None:
    trace = [TraceJob(n * every_s, 60.0) for n in range(60)]

    figures = simulate(trace, day_spec(slots=1, max=5))

    assert figures.flaps == 0
    assert figures.orders <= 3


def test_one_burst_of_short_jobs_is_ordered_once() -> None:
    figures = simulate([TraceJob(0.0, 30.0) for _ in range(40)], day_spec(slots=1, max=40))

    assert figures.orders == 40
    assert figures.flaps == 0
    assert figures.hours < 40 * (600 + 120) / 3600
