"""Threads of BLAS in the processes of a worker's jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobkit.system.hardware import cores
from tests.support import wait_until

from .conftest import Bench

#: A module whose import loads NumPy into the process that all others are forked from.
TASKS = """
import os
import time
from pathlib import Path
import numpy
import jobkit
from threadpoolctl import threadpool_info

@jobkit.task
def threads(until=""):
    numbers = os.environ["OMP_NUM_THREADS"], [each["num_threads"] for each in threadpool_info()]
    while until and not Path(until).exists():
        time.sleep(0.01)
    return numbers

@jobkit.task
def before_and_after_a_product():
    table = numpy.ones((500, 500))
    before = len(os.listdir("/proc/self/task"))
    table @ table
    return before, len(os.listdir("/proc/self/task"))
"""


def test_jobs_that_run_at_once_share_the_processors_unless_the_user_says_so(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "with_numpy.py").write_text(TASKS)
    bench.worker("-c", "100", "-t", "with_numpy", PYTHONPATH=str(tmp_path))
    wait_until(lambda: "threads" in bench.kit.tasks(), what="the worker to make its tasks known")

    first = bench.kit.submit("threads", until=str(tmp_path / "end"))
    wait_until(lambda: first.state == "running", what="the first job to run")
    beside, beside_all = bench.kit.submit("threads").result(60)
    said, said_all = bench.kit.options(env={"OMP_NUM_THREADS": 1}).submit("threads").result(60)
    (tmp_path / "end").touch()
    alone, alone_all = first.result(60)

    assert (alone, set(alone_all)) == (str(cores()), {cores()})
    assert (beside, set(beside_all)) == (str(max(1, cores() // 2)), {max(1, cores() // 2)})
    assert (said, set(said_all)) == ("1", {1})


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.skipif(cores() < 2, reason="one processor needs no threads")
def test_a_job_that_runs_alone_starts_the_threads_of_blas_when_it_uses_them(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "with_numpy.py").write_text(TASKS)
    bench.worker("-t", "with_numpy", PYTHONPATH=str(tmp_path))
    wait_until(lambda: "before_and_after_a_product" in bench.kit.tasks(), what="the worker to make its tasks known")

    before, after = bench.kit.submit("before_and_after_a_product").result(60)

    assert after == before + cores() - 1
