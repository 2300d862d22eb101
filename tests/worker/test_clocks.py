"""Clocks of workers and clients that are off by an hour: only the server's clock counts."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import jobkit
from tests.support import wait_until

from . import jobs
from .conftest import LEASE_S, Bench

HOUR_S = 3600.0


@pytest.mark.nightly
@pytest.mark.parametrize("client_s", [HOUR_S, -HOUR_S], ids=["client fast", "client slow"])
def test_wrong_clocks_of_workers_and_clients_have_no_effect(
    bench: Bench, client_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = time.time
    began = datetime.now(UTC)
    fast = bench.worker("-t", "tests.worker.skewed", JOBKIT_TEST_SKEW=str(HOUR_S))
    bench.worker("-t", "tests.worker.skewed", JOBKIT_TEST_SKEW=str(-HOUR_S))
    monkeypatch.setattr(time, "time", lambda: right() + client_s)

    delayed = bench.kit.options(delay=1.0).submit(jobs.count_up, 1)
    assert delayed.result(60) == 2
    assert delayed.submitted_at is not None
    assert delayed.started_at is not None
    assert delayed.started_at - delayed.submitted_at >= timedelta(seconds=1)
    assert abs(delayed.submitted_at - began) < timedelta(minutes=10)

    running = [bench.kit.submit(jobs.until, bench.file(f"n{n}"), bench.file("go")) for n in range(4)]
    for n in range(4):
        bench.started(f"n{n}")
    wait_until(lambda: len(bench.alive()) == 2, what="both workers to be seen as alive")
    beats = {worker.pid: worker.beat_age_s for worker in bench.kit.workers()}
    assert all(age < 60 for age in beats.values()), beats

    fast.kill()
    Path(bench.file("go")).touch()
    assert [job.result(20 + 4 * LEASE_S) for job in running] == ["done"] * 4
    assert all(job.snapshot.losses == job.attempt - 1 for job in running)
    cancelled = bench.kit.options(delay=HOUR_S).submit(jobs.count_up, 1)
    cancelled.cancel()
    with pytest.raises(jobkit.JobCancelled):
        cancelled.result(60)
