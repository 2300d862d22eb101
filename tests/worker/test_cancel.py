"""Stopping a running job from another process, in every situation."""

from __future__ import annotations

import time

import pytest

import jobkit
from tests.support import is_alive, wait_until

from . import jobs
from .conftest import Bench


@pytest.mark.parametrize("task", [jobs.work, jobs.wait])
def test_a_cancelled_job_can_clean_up(bench: Bench, task: jobkit.Task) -> None:
    bench.worker()
    job = bench.kit.submit(task, bench.file(), 60.0)
    bench.started()

    job.cancel()

    assert job.wait(60)
    assert job.state == "cancelled"
    assert bench.notes()[-1] == "stopped"
    assert job.attempts[-1].reason == "stopped on request; its clean-up ran"
    assert [event.type for event in job.events()][-2:] == ["cancel_requested", "cancelled"]


def test_a_thread_is_requested_to_stop(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(jobs.dawdle, bench.file(), 60.0)
    bench.started()

    job.cancel()

    assert job.wait(60)
    assert job.state == "cancelled"


def test_a_job_that_ignores_a_cancel_is_killed_after_its_grace_with_its_children(bench: Bench) -> None:
    bench.worker()
    options = bench.kit.options(cancel_grace=0.5)
    stubborn, in_c = options.submit(jobs.stubborn, bench.file("s")), options.submit(jobs.in_c, bench.file("c"))
    pids = [*bench.started("s"), *bench.started("c")]

    stubborn.cancel()
    in_c.cancel()
    wait_until(lambda: stubborn.snapshot.cancel_requested_at is not None, what="the request to be shown")
    assert stubborn.state == "running"

    for job in (stubborn, in_c):
        assert job.wait(60)
        assert job.state == "cancelled"
        assert job.attempts[-1].reason == "killed: it did not stop within its grace of 0.5 s"
    assert not any(map(is_alive, pids))


def test_cancel_and_success_have_one_outcome_everywhere(bench: Bench) -> None:
    """Cancels race with the ends of jobs: handle, store and a second reader agree, and no job stays running."""
    bench.worker()
    raced = []
    for n in range(60):
        job = bench.kit.submit(jobs.count_up if n % 2 else jobs.count_up_async, n)
        if n % 3:
            time.sleep(0.001 * (n % 7))
        job.cancel()
        raced.append(job)

    for job in raced:
        assert job.wait(60)
        stored = bench.kit.get(job.id)
        assert stored.state == job.state
        assert job.state in ("succeeded", "cancelled")
        terminal = [event for event in stored.events() if event.type in ("succeeded", "cancelled", "failed")]
        assert len(terminal) == 1
        if job.state == "succeeded":
            assert isinstance(job.result(60), int)
        else:
            with pytest.raises(jobkit.JobCancelled):
                job.result(60)


@pytest.mark.nightly
def test_a_job_that_is_cancelled_while_its_worker_is_dead_ends_cancelled(bench: Bench) -> None:
    worker = bench.worker()
    job = bench.kit.submit(jobs.work, bench.file(), 60.0)
    bench.started()
    bench.kill(worker)

    job.cancel()
    bench.worker()

    assert job.wait(60)
    assert job.state == "cancelled"
    assert len(bench.notes()) == 1
