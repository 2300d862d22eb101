"""Threads of BLAS and OpenMP: the share of jobs that run at once, and what the user says instead."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from jobkit.system import threads


def number() -> int:
    """Return the number of threads of NumPy's BLAS in this process."""
    assert np.ones(1).sum() == 1  # loaded
    return next(int(each.num_threads) for each in ThreadpoolController().lib_controllers if each.user_api == "blas")


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Variables of this process, empty; afterwards BLAS has as many threads as before."""
    monkeypatch.setattr(threads, "_loaded", [])
    monkeypatch.setattr(threads, "_given", 0)
    with threadpool_limits(8):
        monkeypatch.setattr(os, "environ", found := dict[str, str]())
        yield found


def test_jobs_that_run_at_once_share_the_processors_and_each_has_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 8)
    assert [threads.share(jobs) for jobs in (1, 3, 50)] == [8, 2, 1]
    monkeypatch.setattr(threads, "_workers", 1)
    threads.share_machine(4)
    assert [threads.share(jobs) for jobs in (1, 3)] == [2, 1]


def test_the_share_reaches_libraries_that_are_loaded_and_those_that_come(environ: dict[str, str]) -> None:
    environ["VECLIB_MAXIMUM_THREADS"] = "5"
    threads.apply_threads({}, 3)
    assert number() == 3
    assert (environ["OMP_NUM_THREADS"], environ["VECLIB_MAXIMUM_THREADS"]) == ("3", "5")


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_a_number_of_the_user_stays(environ: dict[str, str], name: str) -> None:
    environ[name] = "6"
    threads.apply_threads({}, 3)
    assert number() == 8
    assert environ[name] == "6"
    assert "VECLIB_MAXIMUM_THREADS" not in environ


def test_a_job_that_runs_alone_after_others_in_its_process_has_all_threads(environ: dict[str, str]) -> None:
    shares = []
    for most in (1, 8, 2):
        environ.clear()
        threads.apply_threads({}, most)
        shares.append(number())
    assert shares == [1, 8, 2]


def test_a_library_that_an_earlier_job_has_loaded_gets_more_threads(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setattr(threads, "_given", 1)
    with threadpool_limits(1):  # by the variable of that job
        threads.apply_threads({}, 6)
        assert number() == 6


def test_a_lower_number_that_code_has_set_stays(environ: dict[str, str]) -> None:
    with threadpool_limits(2):
        threads.apply_threads({}, 3)
        assert number() == 2


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "7", "OPENBLAS_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "many", "GREETING": "1"}, 8),
        ({"GREETING": "1"}, 3),
    ],
)
def test_a_job_s_own_number_reaches_libraries_that_are_loaded(
    environ: dict[str, str], job: dict[str, str], expected: int
) -> None:
    environ.update(job)
    threads.apply_threads(job, 3)
    assert number() == expected
