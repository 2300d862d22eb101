"""Processes that earlier jobs have prepared: `reuse=`, and libraries imported ahead, with a real worker."""

from __future__ import annotations

import os

import pytest

import jobkit
from jobkit.model import InvalidParams
from tests.support import PORTABLE, wait_until

from . import jobs
from .conftest import Bench


def test_jobs_with_reuse_run_in_one_process_and_a_crash_ends_only_its_own_job(bench: Bench) -> None:
    def job(dies: bool = False) -> int:
        return os._exit(3) if dies else os.getpid()

    bench.worker("-c", "1")
    warm = bench.kit.options(reuse=4)

    pids = [warm.submit(job).result(60) for _ in range(5)]
    crashed = warm.submit(job, dies=True)
    assert crashed.wait(60)
    after = warm.submit(job).result(60)

    assert len(set(pids)) == 2
    assert crashed.error is not None
    assert crashed.error.kind == "crash"
    assert after not in pids


def test_a_job_that_uses_jobkit_leaves_its_process_to_the_next_one(bench: Bench) -> None:
    def job(place: dict[str, str]) -> int:
        with jobkit.connect(**place) as kit:
            assert kit.submit(jobs.count_up, 1).result() == 2
        return os.getpid()

    bench.worker("-c", "1")
    warm = bench.kit.options(reuse=4)

    pids = [warm.submit(job, bench.place).result(60) for _ in range(3)]

    assert len(set(pids)) == 1


def test_a_coroutine_with_reuse_is_refused_before_anything_is_stored(bench: Bench) -> None:
    async def nothing() -> None: ...

    with pytest.raises(InvalidParams, match="reuse=4 needs isolation='process', and nothing runs as 'async'"):
        bench.kit.options(reuse=4).submit(nothing)
    assert not bench.kit.jobs()


def test_a_worker_with_locals_keeps_the_failing_frames_variables(bench: Bench) -> None:
    def evaluate(n: int, token: str) -> float:
        half = n / 2
        return half / (n - n)

    async def later(n: int) -> float:
        return n / (n - n)

    bench.worker("--locals")
    both = [bench.kit.submit(evaluate, 3, token="hunter2-hunter2"), bench.kit.submit(later, 4)]
    for job in both:
        assert job.wait(60)

    plain, coroutine = (job.error.traceback for job in both if job.error is not None)
    assert plain.endswith("  n = 3\n  token = ***\n  half = 1.5")
    assert coroutine.endswith("  n = 4")


def test_a_worker_can_be_set_to_spawn(bench: Bench) -> None:
    bench.worker(JOBKIT_START_METHOD="spawn")

    assert bench.kit.submit(jobs.count_up, 3).result(60) == 4


@pytest.mark.skipif(PORTABLE, reason="does not fork")
def test_a_library_that_a_job_has_imported_is_there_for_later_jobs_in_their_own_processes(bench: Bench) -> None:
    def job() -> tuple[bool, int]:
        import importlib
        import os
        import sys

        is_there = "numpy" in sys.modules
        importlib.import_module("numpy")
        return is_there, os.getpid()

    bench.worker("-c", "1")
    ends: list[tuple[bool, int]] = []

    def has_it() -> bool:
        ends.append(tuple(bench.kit.submit(job).result(60)))
        return ends[-1][0]

    wait_until(has_it)

    assert not ends[0][0]
    assert len({pid for _, pid in ends}) == len(ends)
