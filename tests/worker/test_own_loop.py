"""Coroutines on the worker's loop and in separate processes; if one misbehaves on the loop, no job is lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

import jobkit
from tests.support import PORTABLE, is_alive, wait_until

from . import jobs
from .conftest import Bench

NEIGHBOURS = ((jobs.wait, "coroutine"), (jobs.work, "function"))


async def by_value() -> int:
    await asyncio.sleep(0)
    return os.getpid()


def moved(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as if it were defined in a notebook."""
    function.__module__ = "__main__"
    return function


def test_only_code_that_the_worker_was_started_with_runs_in_its_process(bench: Bench) -> None:
    worker = bench.worker()

    bench.kit.submit(jobs.moody, bench.file("known")).result(60)
    bench.kit.options(isolation="process").submit(jobs.moody, bench.file("apart")).result(60)

    assert bench.started("known") == [worker.pid]
    assert bench.started("apart") != [worker.pid]
    for other in (moved(by_value), asyncio.sleep):
        assert bench.kit.submit(other, *([0] if other is asyncio.sleep else [])).result(60) != worker.pid


def test_a_worker_loads_neither_the_client_nor_a_login_that_it_does_not_offer(bench: Bench) -> None:
    bench.worker()

    found = bench.kit.submit(jobs.loaded).result(60)

    unwanted = {"jobkit.client.kit", "param", "cryptography.hazmat"}
    unwanted |= set() if PORTABLE else {"jobkit.system.psutil_table"}
    assert not unwanted.intersection(found)


def test_a_block_is_reported_with_its_line_and_its_function_leaves_all_loops(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(jobs.block, bench.file(), 3.0)

    assert job.result(60) == "done"
    log = [line for line in str(job.logs()).splitlines() if "event loop" in line or "in block" in line]
    assert "the event loop is blocked for more than 0.8 s by jobs.py:" in log[0]
    assert "in block" in log[0]
    assert "the event loop is blocked" in bench.said()

    wait_until(lambda: bench.barred(), what="the function to be barred")
    second = bench.worker("-q", "other")
    bench.kit.options(queue="other").submit(jobs.block, bench.file("again"), 0.0).result(60)
    assert bench.started("again") != [second.pid]
    bench.kit.options(queue="other").submit(jobs.moody, bench.file("another")).result(60)
    assert bench.started("another") == [second.pid]


def test_later_jobs_go_to_another_worker(bench: Bench) -> None:
    first = bench.worker()
    blocking = bench.kit.submit(jobs.block, bench.file(), 600.0)
    assert bench.started() == [first.pid]
    wait_until(lambda: "is blocked" in bench.said(), what="the block to be noticed")
    second = bench.worker()

    for i in range(5):
        bench.kit.submit(jobs.moody, bench.file(f"later{i}")).result(60)
        assert bench.started(f"later{i}") == [second.pid]

    blocking.cancel()
    assert blocking.wait(60)
    assert blocking.state == "cancelled"


def test_a_timeout_ends_a_coroutine_that_sleeps_without_await(bench: Bench) -> None:
    worker = bench.worker()
    neighbour = bench.kit.submit(jobs.wait, bench.file("neighbour"), 3.0)
    assert bench.started("neighbour") == [worker.pid]
    job = bench.kit.options(timeout=1.0).submit(jobs.block, bench.file(), 600.0)

    with pytest.raises(jobkit.JobFailed, match="ran longer than its timeout of 1 s"):
        job.result(60)
    assert job.error.kind == "timeout"
    assert bench.notes() == [f"start {worker.pid}"]
    assert neighbour.result(60) == "done"
    assert neighbour.attempt == 1


def test_a_blocking_coroutine_is_reported_and_cancelled_and_later_runs_elsewhere(bench: Bench) -> None:
    pid = bench.worker().pid
    job = bench.kit.submit(jobs.moody, bench.file(), "sleeps")
    assert bench.started() == [pid]
    log = wait_until(lambda: str(job.logs()), what="the job's log to tell it")
    assert "the event loop is blocked for more than 0.8 s by jobs.py:" in log
    assert "in moody" in log

    job.cancel()

    assert job.wait(60)
    assert (job.state, job.snapshot.losses) == ("cancelled", 0)
    bench.kit.submit(jobs.moody, bench.file("later")).result(60)
    assert bench.started("later") != [pid]
    assert is_alive(pid)
    assert "finishing running jobs" not in bench.said(), "the worker serves on"


@pytest.mark.nightly
def test_a_coroutine_that_blocks_for_long_runs_again_in_a_separate_process(bench: Bench) -> None:
    pid = bench.worker().pid
    neighbour = bench.kit.submit(jobs.work, bench.file("function"), 20.0)
    bench.started("function")
    job = bench.kit.submit(jobs.block, bench.file(), 13.0)

    assert job.result(60) == "done"

    assert [each.outcome for each in job.attempts] == ["lost", "succeeded"]
    assert "it blocked its worker's loop" in job.attempts[0].reason
    assert bench.started(times=2) != [pid]
    assert (neighbour.result(60), neighbour.attempt) == ("done", 1)


@pytest.mark.nightly
@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_cancelling_a_coroutine_in_c_code_ends_the_process_but_no_other_job(bench: Bench, how: str) -> None:
    pid = bench.worker().pid
    neighbours = [bench.kit.submit(task, bench.file(name), 3.0) for task, name in NEIGHBOURS]
    for _, name in NEIGHBOURS:
        bench.started(name)
    timeout = {"timeout": 0.5} if how == "timeout" else {}
    job = bench.kit.options(cancel_grace=0.5, **timeout).submit(jobs.moody, bench.file(), "calculates")
    assert bench.started() == [pid]

    if how == "cancel":
        job.cancel()

    assert job.wait(60)
    told = "held its worker's loop and did not stop within its grace of 0.5 s"
    if how == "cancel":
        assert job.state == "cancelled"
        assert told in job.attempts[-1].reason
    else:
        assert job.error.kind == "timeout"
        assert told in job.error.message
    for neighbour in neighbours:
        assert neighbour.result(60) == "done"
        assert (neighbour.snapshot.releases, neighbour.snapshot.losses) == (1, 0)
        assert f"shared with job {job.id}, which did not stop" in neighbour.attempts[0].reason
    assert is_alive(pid)


def test_a_coroutine_that_swallows_its_cancellation_is_given_up(bench: Bench) -> None:
    pid = bench.worker().pid
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


def test_a_coroutine_in_a_separate_process_that_swallows_its_cancellation_is_killed(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.options(cancel_grace=1.5, isolation="process").submit(jobs.deaf, bench.file())
    (pid,) = bench.started()

    job.cancel()

    assert job.wait(60)
    assert job.state == "cancelled"
    assert job.attempts[-1].reason == "killed: it did not stop within its grace of 1.5 s"
    assert bench.notes()[1:] == ["swallowed"]
    assert not is_alive(pid)


@pytest.mark.nightly
def test_a_coroutine_that_kills_the_worker_runs_separately_and_the_crash_is_reported(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(jobs.moody, bench.file(), "falls")
    bench.started()
    bench.worker()

    with pytest.raises(jobkit.JobFailed, match="exit status 3"):
        job.result(60)
    assert job.error.kind == "crash"
    assert job.snapshot.losses == 1

    again = bench.kit.submit(jobs.moody, bench.file("again"), "falls")
    assert again.wait(60)
    assert (again.error.kind, again.attempt, again.snapshot.losses) == ("crash", 1, 0)


@pytest.mark.nightly
def test_a_coroutine_that_blocks_all_threads_ends_the_worker_and_its_jobs_run_elsewhere(bench: Bench) -> None:
    pid = bench.worker().pid
    job = bench.kit.options(cancel_grace=0.5).submit(jobs.moody, bench.file(), "hogs")
    assert bench.started() == [pid]
    bench.worker()

    (second,) = bench.started(times=2)
    wait_until(lambda: not is_alive(pid), what="the worker to end")
    job.cancel()

    assert job.wait(60)
    assert job.state == "cancelled"
    assert job.snapshot.losses >= 1  # more if a second lease expires on a busy machine
    assert not is_alive(second)


@pytest.mark.nightly
@pytest.mark.parametrize("isolation", ["async", "process"])
def test_large_results_output_and_progress_are_the_same_on_the_loop_and_in_a_process(
    bench: Bench, isolation: str
) -> None:
    bench.worker()
    job = bench.kit.options(isolation=isolation).submit(jobs.talk, 3_000_000)

    assert job.result(60) == b"x" * 3_000_000
    assert str(job.logs()).splitlines() == ["hello", "to stderr"]
    assert job.completed == 3
