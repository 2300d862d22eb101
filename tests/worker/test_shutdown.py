"""Shutdown of a worker, and the outcome for its jobs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import is_alive, wait_until

from . import jobs
from .conftest import Bench


def test_sigterm_lets_running_jobs_of_every_kind_finish(bench: Bench) -> None:
    worker = bench.worker()
    running = [bench.kit.submit(task, bench.file(task.name), 1.0) for task in (jobs.work, jobs.wait, jobs.dawdle)]
    for task in (jobs.work, jobs.wait, jobs.dawdle):
        bench.started(task.name)

    worker.terminate()

    assert worker.wait(60) == 0
    assert [job.result(60) for job in running] == ["done"] * 3
    assert [job.attempt for job in running] == [1, 1, 1]
    assert bench.alive() == []


def test_a_job_that_exceeds_the_drain_time_is_released_without_losing_an_attempt(bench: Bench) -> None:
    worker = bench.worker(JOBKIT_DRAIN="0.5")
    tasks: tuple[Any, ...] = (jobs.work, jobs.wait)
    running = [bench.kit.submit(task, bench.file(task.name), 600.0) for task in tasks]
    pids = [bench.started(task.name)[0] for task in tasks]

    worker.terminate()

    assert worker.wait(60) == 0
    assert not any(map(is_alive, pids))
    for job in running:
        wait_until(lambda job=job: job.state == "queued", what="the job to be back")
        assert (job.snapshot.releases, job.snapshot.losses, job.snapshot.retried) == (1, 0, 0)
        assert job.attempts[0].outcome == "released"

    bench.worker()
    for job, task in zip(running, tasks, strict=True):
        bench.started(task.name, times=2)
        job.cancel()
        assert job.wait(60)


def test_the_second_signal_releases_running_jobs_at_once(bench: Bench) -> None:
    worker = bench.worker(JOBKIT_DRAIN="600")
    job = bench.kit.submit(jobs.work, bench.file(), 600.0)
    bench.started()

    worker.send_signal(signal.SIGINT)
    wait_until(lambda: "finishing running jobs" in bench.said(), what="the drain")
    worker.send_signal(signal.SIGINT)

    assert worker.wait(60) == 0
    wait_until(lambda: job.state == "queued", what="the job to be back")
    assert job.snapshot.releases == 1
    job.cancel()


@pytest.mark.parametrize("is_first", [True, False], ids=["before the worker", "after it"])
def test_a_job_whose_process_gets_the_sigterm_of_its_worker_is_released(bench: Bench, is_first: bool) -> None:
    """As `scancel` of Slurm and other engines send it: to all processes at once."""
    worker = bench.worker(JOBKIT_DRAIN="600")
    job = bench.kit.submit(jobs.work, bench.file(), 600.0)
    pid = bench.started()[0]

    for each in (pid, worker.pid) if is_first else (worker.pid, pid):
        os.kill(each, signal.SIGTERM)

    assert worker.wait(60) == 0
    wait_until(lambda: job.state == "queued", what="the job to be back")
    assert (job.snapshot.releases, job.snapshot.losses, job.snapshot.retried) == (1, 0, 0)
    job.cancel()


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "kept"])
def test_a_closed_terminal_lets_running_jobs_finish(bench: Bench, options: tuple[str, ...]) -> None:
    """It may send two SIGHUPs, which are no second request."""
    with inherited(signal.SIG_DFL):
        worker = bench.worker(*options, ready=False)
    wait_until(lambda: len(bench.alive()) == (2 if options else 1), what="the workers to serve")
    job = bench.kit.submit(jobs.until, bench.file(), bench.file("sign"))
    bench.started()

    worker.send_signal(signal.SIGHUP)
    wait_until(lambda: "finishing running jobs" in bench.said(), what="the drain")
    worker.send_signal(signal.SIGHUP)
    (bench.folder / "sign").touch()

    assert worker.wait(60) == 0
    assert job.result(60) == "done"
    assert (job.attempt, job.snapshot.releases) == (1, 0)


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "kept"])
def test_a_worker_under_nohup_goes_on_when_its_terminal_is_closed(bench: Bench, options: tuple[str, ...]) -> None:
    with inherited(signal.SIG_IGN):
        worker = bench.worker(*options, ready=False)
    wait_until(lambda: len(bench.alive()) == (2 if options else 1), what="the workers to serve")

    worker.send_signal(signal.SIGHUP)

    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    assert worker.poll() is None
    assert "finishing running jobs" not in bench.said()


@contextlib.contextmanager
def inherited(hangup: signal.Handlers) -> Iterator[None]:
    """Set what processes that are started meanwhile do at a SIGHUP."""
    before = signal.signal(signal.SIGHUP, hangup)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.nightly
def test_twenty_restarts_in_a_row_fail_nothing(bench: Bench) -> None:
    """One worker serves while another is stopped and jobs arrive: each job runs once or is released."""
    submitted = []
    worker = bench.worker()
    for turn in range(20):
        following = bench.worker()
        submitted += [bench.kit.submit(jobs.count_up_async if n % 2 else jobs.count_up, n) for n in range(10)]
        submitted.append(bench.kit.submit(jobs.work, bench.file(f"work{turn}"), 0.2))
        worker.terminate()
        submitted += [bench.kit.submit(jobs.count_up_async if n % 2 else jobs.count_up, n) for n in range(10)]
        worker = following

    for job in submitted:
        assert job.wait(60), job
    assert {job.state for job in submitted} == {"succeeded"}
    assert sum(job.snapshot.losses for job in submitted) == 0
    for turn in range(20):
        assert bench.notes(f"work{turn}")[-1] == "end"


@pytest.mark.nightly
def test_jobs_that_are_handed_over_to_an_ending_worker_are_not_lost(bench: Bench) -> None:
    """Submits race with SIGTERM: a job on its way to a worker that drains is run or released, not lost."""
    kept = bench.worker("-q", "other")  # so that leases are checked
    for _ in range(5):
        worker = bench.worker()
        worker.terminate()
        submitted = []
        while worker.poll() is None:
            submitted.append(bench.kit.submit(jobs.count_up_async, 1))
        for job in submitted:
            assert job.snapshot.losses == 0
            wait_until(lambda job=job: job.state in ("succeeded", "queued"), what="its end or its place")
        bench.kit.cancel_many([job.id for job in submitted])
    assert kept.poll() is None


@pytest.mark.nightly
def test_stop_lets_jobs_finish_and_the_worker_is_not_restarted(bench: Bench) -> None:
    lone, several = bench.worker(), bench.worker("-n", "2", "-q", "other", ready=False)
    wait_until(lambda: len(bench.alive()) == 3, what="three workers to serve")
    job = bench.kit.submit(jobs.work, bench.file(), 1.0)
    bench.started()

    asked = bench.kit.workers.stop()

    assert len(asked) == 3
    assert (lone.wait(60), several.wait(60)) == (0, 0)
    assert job.result(60) == "done"
    assert bench.said().count("asked to stop: finishing running jobs") == 3


def test_stop_may_apply_to_one_queue_and_release_jobs_now(bench: Bench) -> None:
    kept, stopped = bench.worker(), bench.worker("-q", "other")
    job = bench.kit.options(queue="other").submit(jobs.work, bench.file(), 60.0)
    bench.started()

    (asked,) = bench.kit.workers.stop(queue="other", now=True)

    assert (asked.pid, stopped.wait(60)) == (stopped.pid, 0)
    wait_until(lambda: job.state == "queued", what="the job to be back")
    assert (job.snapshot.releases, job.snapshot.losses) == (1, 0)
    assert bench.alive() == [kept.pid]
    assert bench.kit.workers.stop(host="nowhere") == []
    job.cancel()


def test_a_draining_worker_is_counted_with_its_busy_slots_alone(bench: Bench) -> None:
    worker = bench.worker(JOBKIT_DRAIN="60")
    job = bench.kit.submit(jobs.until, bench.file(), bench.file("sign"))
    bench.started()
    assert bench.kit.stats()["workers"] == 1

    worker.send_signal(signal.SIGTERM)
    [info] = wait_until(
        lambda: [info for info in bench.kit.workers() if info.is_draining], what="the heartbeat of a draining worker"
    )

    assert (info.pid, info.is_alive, info.takes_jobs) == (worker.pid, True, False)
    stats = bench.kit.stats()
    assert (stats["workers"], stats["slots"], stats["busy"]) == (1, 1, 1)
    assert stats["queues"]["default"]["workers"] == 0
    (bench.folder / "sign").touch()
    assert job.wait(60)
    assert worker.wait(60) == 0
