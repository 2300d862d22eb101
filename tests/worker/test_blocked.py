"""Coroutines that block their loop: they are found, named and stopped, and hold up nobody who comes later."""

from __future__ import annotations

import pytest

import jobkit
from tests.support import wait_until

from . import jobs
from .conftest import Bench, is_alive


def test_a_blocked_loop_is_told_with_the_line_that_blocks_it(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(jobs.block, bench.file(), 2.5)

    assert job.result(60) == "done"
    log = [line for line in str(job.logs()).splitlines() if "event loop" in line or "in block" in line]
    assert "the event loop is blocked for more than 0.8 s by jobs.py:" in log[0]
    assert "in block" in log[0]
    assert "the event loop is blocked" in bench.said()


def test_jobs_that_come_later_do_not_wait_for_a_blocked_loop(bench: Bench) -> None:
    bench.worker()
    blocking = bench.kit.submit(jobs.block, bench.file(), 600.0)
    bench.started()
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    wait_until(lambda: "is blocked" in bench.said(), what="the block to be noticed")

    assert bench.kit.submit(jobs.count_up_async, 1).result(60) == 2

    blocking.cancel()
    assert blocking.wait(60)
    assert blocking.state == "cancelled"


def test_a_timeout_ends_a_coroutine_that_sleeps_without_await(bench: Bench) -> None:
    bench.worker()
    neighbour = bench.kit.submit(jobs.wait, bench.file("neighbour"), 3.0)
    bench.started("neighbour")
    job = bench.kit.options(timeout=1.0).submit(jobs.block, bench.file(), 600.0)

    with pytest.raises(jobkit.JobFailed, match="ran longer than its timeout of 1 s"):
        job.result(60)
    assert job.error.kind == "timeout"
    assert bench.notes() == bench.notes()[:1]
    assert neighbour.result(60) == "done"
    assert neighbour.attempt == 1


@pytest.mark.nightly
def test_a_coroutine_in_c_is_killed_and_its_neighbours_are_given_back(bench: Bench) -> None:
    bench.worker()
    neighbour = bench.kit.submit(jobs.wait, bench.file("neighbour"), 4.0)
    (pid,) = bench.started("neighbour")
    job = bench.kit.options(timeout=0.5, cancel_grace=0.5).submit(jobs.block_in_c, bench.file())

    with pytest.raises(jobkit.JobFailed, match=r"did not stop within its grace of 0.5 s and was killed"):
        job.result(60)
    assert job.error.kind == "timeout"
    assert not is_alive(pid)
    assert neighbour.result(60) == "done"
    assert (neighbour.snapshot.releases, neighbour.snapshot.losses) == (1, 0)
    assert f"shared with job {job.id}, which did not stop" in neighbour.attempts[0].reason


def test_a_coroutine_that_swallows_its_cancellation_is_killed_after_its_grace(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.options(cancel_grace=0.5).submit(jobs.deaf, bench.file())
    (pid,) = bench.started()

    job.cancel()

    assert job.wait(60)
    assert job.state == "cancelled"
    assert job.attempts[-1].reason == "killed: it did not stop within its grace of 0.5 s"
    assert bench.notes()[1:] == ["swallowed"]
    assert not is_alive(pid)
    assert bench.kit.submit(jobs.count_up_async, 1).result(60) == 2


@pytest.mark.nightly
def test_a_coroutine_that_kills_its_process_is_found_out_and_its_neighbours_run_again(bench: Bench) -> None:
    bench.worker()
    neighbour = bench.kit.submit(jobs.wait, bench.file("neighbour"), 1.0)
    bench.started("neighbour")
    job = bench.kit.submit(jobs.fall, bench.file())

    with pytest.raises(jobkit.JobFailed, match="exit status 3"):
        job.result(60)
    assert job.error.kind == "crash"
    assert neighbour.result(60) == "done"
    assert neighbour.snapshot.losses == 0


@pytest.mark.nightly
def test_large_results_output_and_artifacts_come_out_of_the_shared_process(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(jobs.talk, 3_000_000)

    assert job.result(60) == b"x" * 3_000_000
    assert str(job.logs()).splitlines() == ["hello", "to stderr"]
    assert job.done == 3
