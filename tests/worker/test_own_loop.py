"""Coroutines that have earned the worker's own loop: they get there, and nothing is lost when they turn bad there."""

from __future__ import annotations

import pytest

import jobkit
from tests.support import wait_until

from . import jobs
from .conftest import Bench, is_alive

NEIGHBOURS = ((jobs.wait, "coroutine"), (jobs.work, "function"))


def trusted(bench: Bench) -> int:
    """A worker whose own loop runs `moody`; its process id."""
    worker = bench.worker()
    batch = bench.kit.map(jobs.moody, [{"path": bench.file("warm-up")}] * 40)
    for job in batch.jobs:
        job.result(60)
    bench.kit.submit(jobs.moody, bench.file("home"))
    assert bench.started("home") == [worker.pid]
    return worker.pid


def test_a_coroutine_that_behaves_moves_to_the_workers_own_process(bench: Bench) -> None:
    worker = bench.worker()
    first = bench.kit.submit(jobs.moody, bench.file())
    first.result(60)
    assert bench.started() != [worker.pid]

    for job in bench.kit.map(jobs.moody, [{"path": bench.file()}] * 40).jobs:
        job.result(60)
    bench.kit.submit(jobs.moody, bench.file()).result(60)

    assert bench.started(times=42) == [worker.pid]


@pytest.mark.nightly
def test_one_with_a_timeout_stays_where_it_can_be_killed(bench: Bench) -> None:
    pid = trusted(bench)

    with pytest.raises(jobkit.JobFailed, match="ran longer than its timeout of 0.5 s"):
        bench.kit.options(timeout=0.5).submit(jobs.moody, bench.file(), "calculates").result(60)

    assert bench.started() != [pid]


def test_one_that_holds_the_loop_is_told_cancelled_and_sent_back(bench: Bench) -> None:
    pid = trusted(bench)
    job = bench.kit.submit(jobs.moody, bench.file(), "sleeps")
    assert bench.started() == [pid]
    wait_until(lambda: "is blocked" in bench.said(), what="the block to be noticed")
    log = wait_until(lambda: str(job.logs()), what="the job's log to tell it")
    assert "the event loop is blocked for more than 0.8 s by jobs.py:" in log
    assert "in moody" in log

    job.cancel()

    assert job.wait(60)
    assert (job.state, job.snapshot.losses) == ("cancelled", 0)
    bench.kit.submit(jobs.moody, bench.file("later")).result(60)
    assert bench.started("later") != [pid]
    assert is_alive(pid)


@pytest.mark.nightly
def test_one_in_c_that_must_stop_costs_the_process_but_no_other_job(bench: Bench) -> None:
    pid = trusted(bench)
    neighbours = [bench.kit.submit(task, bench.file(name), 3.0) for task, name in NEIGHBOURS]
    for _, name in NEIGHBOURS:
        bench.started(name)
    job = bench.kit.options(cancel_grace=0.5).submit(jobs.moody, bench.file(), "calculates")
    assert bench.started() == [pid]

    job.cancel()

    assert job.wait(60)
    assert job.state == "cancelled"
    assert "held its worker's loop and did not stop within its grace of 0.5 s" in job.attempts[-1].reason
    for neighbour in neighbours:
        assert neighbour.result(60) == "done"
        assert (neighbour.snapshot.releases, neighbour.snapshot.losses) == (1, 0)
    assert is_alive(pid)


def test_one_that_swallows_its_cancellation_is_given_up(bench: Bench) -> None:
    pid = trusted(bench)
    job = bench.kit.options(cancel_grace=0.5).submit(jobs.moody, bench.file(), "deaf")
    bench.started()

    job.cancel()

    assert job.wait(60)
    assert (job.state, job.attempts[-1].reason) == (
        "cancelled",
        "given up: it did not stop within its grace of 0.5 s",
    )
    assert bench.kit.submit(jobs.moody, bench.file("later")).result(60) == "done"
    assert is_alive(pid)


def test_one_that_waits_is_cancelled_at_once(bench: Bench) -> None:
    trusted(bench)
    job = bench.kit.submit(jobs.moody, bench.file(), "waits")
    bench.started()

    job.cancel()

    assert job.wait(60)
    assert job.attempts[-1].reason == "stopped on request; its clean-up ran"


@pytest.mark.nightly
def test_one_that_kills_the_worker_runs_alone_elsewhere_and_the_crash_is_told(bench: Bench) -> None:
    trusted(bench)
    job = bench.kit.submit(jobs.moody, bench.file(), "falls")
    bench.started()
    bench.worker()

    with pytest.raises(jobkit.JobFailed, match="exit status 3"):
        job.result(60)
    assert job.error.kind == "crash"
    assert job.snapshot.losses == 1


@pytest.mark.nightly
def test_one_that_lets_no_thread_run_ends_the_worker_and_its_jobs_run_again_elsewhere(bench: Bench) -> None:
    pid = trusted(bench)
    job = bench.kit.options(cancel_grace=0.5).submit(jobs.moody, bench.file(), "hogs")
    assert bench.started() == [pid]
    bench.worker()

    (second,) = bench.started(times=2)
    wait_until(lambda: not is_alive(pid), what="the worker to end")
    job.cancel()

    assert job.wait(60)
    assert job.state == "cancelled"
    assert job.snapshot.losses >= 1  # more where the machine is so busy that a second lease lapses
    assert not is_alive(second)
