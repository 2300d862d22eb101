"""A job that waits for other jobs lends its slot: nested jobs end with any number of slots and workers."""

from __future__ import annotations

import pytest

import jobkit
from jobkit.client.job import Job
from tests.support import wait_until

from . import jobs
from .conftest import Bench


def waiting(job: Job) -> bool:
    return bool(job.snapshot.awaits)


def test_outer_jobs_on_every_slot_of_every_worker_end(bench: Bench) -> None:
    for _ in range(2):
        bench.worker("-c", "1")

    outers = [bench.kit.submit(jobs.nest, bench.place, depth) for depth in (3, 3, 3, 3)]

    assert [job.result(60) for job in outers] == [3, 3, 3, 3]


@pytest.mark.nightly
def test_every_way_to_wait_lends_the_slot(bench: Bench) -> None:
    bench.worker("-c", "1")

    outers = [bench.kit.submit(jobs.wait_in, bench.place, way) for way in jobs.WAYS]

    assert [job.result(60) for job in outers] == [6] * len(jobs.WAYS)


def test_waiting_for_futures_of_an_executor_lends_the_slot(bench: Bench) -> None:
    bench.worker("-c", "2")

    outers = [bench.kit.submit(jobs.wait_by_futures, bench.place, way) for way in jobs.FUTURE_WAYS]

    assert [job.result(60) for job in outers] == [6] * len(jobs.FUTURE_WAYS)


def test_coroutines_that_await_jobs_lend_their_slot(bench: Bench) -> None:
    bench.worker("-c", "1")

    outers = [bench.kit.submit(jobs.await_in, bench.place, 2) for _ in range(3)]

    assert [job.result(60) for job in outers] == [2, 2, 2]


@pytest.mark.nightly
def test_two_workers_whose_jobs_wait_for_each_others_queue_end(bench: Bench) -> None:
    bench.worker("-c", "1", "-q", "a")
    bench.worker("-c", "1", "-q", "b")

    kit = bench.kit
    outers = [
        kit.options(queue=one).submit(jobs.wait_for_queue, bench.place, other, bench.file("ready"))
        for one, other in (("a", "b"), ("b", "a"))
    ]

    assert [job.result(60) for job in outers] == [1, 1]


def test_a_waiting_job_says_so_and_is_cancelled_at_once(bench: Bench) -> None:
    bench.worker("-c", "1")
    outer = bench.kit.submit(jobs.wait_for_a_file, bench.place, bench.file("notes"), bench.file("sign"))
    bench.started()
    inner = next(job for job in bench.kit.jobs(task="until"))
    wait_until(lambda: waiting(outer), what="the outer job to say that it waits")

    assert outer.snapshot.lent_text == f"Waiting for job {inner.id[:8]} (its slot is lent)"
    assert bench.kit.workers()[0].running <= 1
    outer.cancel()
    assert outer.wait(60)
    assert (outer.state, inner.state) == ("cancelled", "running")
    open(bench.file("sign"), "w").close()
    assert inner.result(60) == "done"


def test_an_outer_job_gets_the_failure_of_an_inner_job_and_its_timeout(bench: Bench) -> None:
    bench.worker("-c", "1")

    failing = bench.kit.submit(jobs.wait_for_a_failure, bench.place)
    impatient = bench.kit.submit(jobs.wait_too_short, bench.place, bench.file("notes"), bench.file("sign"))

    assert failing.result(60) == "JobFailed"
    assert impatient.result(60) == "TimeoutError"
    assert not impatient.snapshot.awaits
    open(bench.file("sign"), "w").close()


@pytest.mark.nightly
def test_a_chain_without_end_fails_with_a_sentence(bench: Bench) -> None:
    bench.worker("-c", "1")

    outer = bench.kit.submit(jobs.await_in, bench.place, 10_000)

    assert outer.wait(120)
    assert outer.state == "failed"
    chain = bench.kit.jobs(task="await_in", limit=1000)
    [refused] = [job for job in chain if job.error and job.error.kind == "rejected"]
    assert "jobs that wait for jobs are nested too deep" in str(refused.error)
    assert len(chain) < 150


@pytest.mark.nightly
def test_a_draining_worker_still_runs_the_jobs_that_its_jobs_wait_for(bench: Bench) -> None:
    worker = bench.worker("-c", "1", JOBKIT_DRAIN="600")
    outer = bench.kit.submit(jobs.wait_late, bench.place, bench.file("notes"), bench.file("sign"))
    bench.started()
    worker.terminate()
    wait_until(lambda: "finishing running jobs" in bench.said(), what="the drain")

    open(bench.file("sign"), "w").close()

    assert outer.result(60) == 1
    assert worker.wait(60) == 0
    assert outer.attempt == 1


@pytest.mark.nightly
def test_the_death_of_a_worker_while_its_job_waits_loses_no_job(bench: Bench) -> None:
    first = bench.worker("-c", "1")
    outer = bench.kit.submit(jobs.wait_for_a_file, bench.place, bench.file("notes"), bench.file("sign"))
    bench.started()
    wait_until(lambda: waiting(outer), what="the outer job to say that it waits")

    first.kill()
    open(bench.file("sign"), "w").close()
    bench.worker("-c", "1")

    assert outer.result(60) == "done"
    assert all(job.wait(60) for job in bench.kit.jobs())
    assert {job.state for job in bench.kit.jobs()} == {jobkit.JobState.SUCCEEDED}
