"""Threads of BLAS and OpenMP: the share of a worker's jobs, and what the user says instead."""

from __future__ import annotations

import os

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from jobkit.system import threads


def test_jobs_share_the_processors_and_each_has_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 8)
    for jobs, share in ((1, "8"), (3, "2"), (50, "1")):
        monkeypatch.setattr(os, "environ", found := {"VECLIB_MAXIMUM_THREADS": "5"})
        threads.share_threads(jobs)
        assert found == {"OMP_NUM_THREADS": share, "VECLIB_MAXIMUM_THREADS": "5"}


def test_a_number_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", found := {"OMP_NUM_THREADS": "6"})

    threads.share_threads(4)

    assert found == {"OMP_NUM_THREADS": "6"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "7", "OPENBLAS_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "many", "GREETING": "1"}, None),
        ({}, None),
    ],
)
def test_a_job_s_own_number_reaches_libraries_that_are_loaded(environ: dict[str, str], expected: int | None) -> None:
    def number() -> int:
        return next(int(each["num_threads"]) for each in threadpool_info() if each["user_api"] == "blas")

    assert np.ones(1).sum() == 1  # loaded
    with threadpool_limits(None):  # puts back what it was
        before = number()
        threads.apply_threads(environ)
        assert number() == (expected or before)
