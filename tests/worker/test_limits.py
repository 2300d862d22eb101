"""Workers that end by themselves, refuse a job, or cannot start."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import redis

import jobkit
from jobkit.client.waits import waits_for
from tests.support import wait_until

from . import jobs
from .conftest import Bench


def test_burst_runs_what_waits_and_ends(bench: Bench) -> None:
    waiting = [bench.kit.submit(jobs.count_up, n) for n in range(5)]
    waiting.append(bench.kit.options(delay=0.5).submit(jobs.count_up_async, 5))

    assert bench.worker("--burst", ready=False).wait(60) == 0

    assert [job.result(1) for job in waiting] == [1, 2, 3, 4, 5, 6]


def test_burst_runs_jobs_that_wait_for_results_of_others(bench: Bench) -> None:
    """The next job is handed over at the end of its parent, and is in no queue on its way to the worker."""
    job = bench.kit.submit(jobs.count_up, 0)
    for _ in range(12):
        job = bench.kit.submit(jobs.count_up, job)

    assert bench.worker("--burst", ready=False).wait(60) == 0

    assert job.result(1) == 13


@pytest.mark.nightly
def test_max_jobs_and_max_time_end_a_worker_between_jobs(bench: Bench) -> None:
    submitted = [bench.kit.submit(jobs.work, bench.file(), 0.1) for _ in range(12)]

    assert bench.worker("-c", "1", "--max-jobs", "3", ready=False).wait(60) == 0
    assert bench.notes().count("end") == 3
    assert bench.worker("-c", "1", "--max-time", "2", ready=False).wait(60) == 0
    assert bench.notes().count("end") >= 4
    assert bench.notes().count("stopped") == 0

    bench.worker()
    assert [job.result(60) for job in submitted] == ["done"] * 12
    assert sum(job.snapshot.losses + job.snapshot.releases for job in submitted) == 0


def test_max_memory_ends_a_worker_after_the_job_that_runs(bench: Bench) -> None:
    job = bench.kit.submit(jobs.work, bench.file(), 0.2)

    assert bench.worker("-c", "1", "--max-memory", "20MB", ready=False).wait(60) == 0

    assert job.state in ("succeeded", "queued")
    assert bench.notes().count("stopped") == 0


def test_payloads_without_a_valid_signature_are_rejected_and_the_worker_lives(bench: Bench) -> None:
    prefix = f"jk:{bench.kit.settings.namespace}:"
    forged = [bench.kit.submit(task, bench.file(), 0.0) for task in (jobs.work, jobs.wait) for _ in range(3)]
    with redis.Redis.from_url(bench.server.url) as client:
        for n, job in enumerate(forged):
            sealed = client.get(f"{prefix}args:{job.id}")
            assert sealed is not None
            tampered = (
                b"cos\nsystem\n(S'true'\ntR.",
                sealed[:-1] + bytes([sealed[-1] ^ 1]),
                sealed[: len(sealed) // 2],
            )
            client.set(f"{prefix}args:{job.id}", tampered[n % 3])
    swapped = [bench.kit.submit(jobs.work, bench.file(), 0.0) for _ in range(2)]
    with redis.Redis.from_url(bench.server.url) as client:
        client.rename(f"{prefix}args:{swapped[0].id}", f"{prefix}args:{swapped[1].id}")

    worker = bench.worker()

    for job in (*forged, *swapped):
        with pytest.raises(jobkit.JobFailed):
            job.result(60)
        assert job.error.kind == "rejected", job.error
    assert bench.notes() == []
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    assert worker.poll() is None


def test_a_task_of_a_missing_module_is_rejected_with_advice(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "only_with_the_submitter.py"
    source.write_text("import jobkit\n@jobkit.task\ndef a(): ...\n@jobkit.task\nasync def b(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("only_with_the_submitter")
    submitted = [bench.kit.submit(module.a), bench.kit.submit(module.b)]
    source.unlink()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)

    bench.worker()

    for job in submitted:
        with pytest.raises(jobkit.JobFailed, match="needs the module 'only_with_the_submitter'"):
            job.result(60)
        assert job.error.kind == "rejected"


def test_a_module_that_does_not_import_ends_the_worker_with_2_and_one_sentence(bench: Bench) -> None:
    worker = bench.worker("-t", "no_such_tasks", ready=False)

    assert worker.wait(60) == 2
    assert "no_such_tasks" in bench.said()


@pytest.mark.nightly
def test_several_processes_are_restarted_and_stopped_together(bench: Bench) -> None:
    parent = bench.worker("-n", "2", ready=False)
    first = wait_until(lambda: pids if len(pids := bench.alive()) == 2 else None, what="two workers")

    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: len(set(bench.alive()) - {first[0]}) == 2, what="another one in its place")
    running = bench.kit.submit(jobs.work, bench.file(), 0.5)
    bench.started()
    parent.terminate()

    assert parent.wait(60) == 0
    assert running.result(60) == "done"
    assert bench.alive() == [first[0]] or bench.alive() == []


def test_code_waits_for_a_worker_of_its_python_and_no_other_fails_it(bench: Bench) -> None:
    bench.worker("-t", "tests.worker.other_python")
    typed = [bench.kit.submit(lambda n=n: n) for n in range(3)]
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2

    sentence = "waits for a worker with Python {}.{}".format(*sys.version_info)
    connection = bench.kit.connection
    [why, *_] = connection.call(waits_for, connection.store, connection.codec, [typed[0].id])
    assert why == sentence
    assert {job.state for job in typed} == {"queued"}

    bench.worker()
    assert [job.result(60) for job in typed] == [0, 1, 2]
    assert [job.attempt for job in typed] == [1, 1, 1]
