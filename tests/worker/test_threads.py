"""Threads of BLAS in the processes of a worker's jobs."""

from __future__ import annotations

from pathlib import Path

from jobkit.system.hardware import cores
from tests.support import wait_until

from .conftest import Bench

#: A module whose import loads NumPy into the process that all others are forked from.
TASKS = """
import os
import numpy
import jobkit
from threadpoolctl import threadpool_info

@jobkit.task
def threads():
    return os.environ["OMP_NUM_THREADS"], [each["num_threads"] for each in threadpool_info()]
"""


def test_jobs_share_the_processors_unless_the_user_says_otherwise(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "with_numpy.py").write_text(TASKS)
    bench.worker("-c", "1", "-t", "with_numpy", PYTHONPATH=str(tmp_path))
    wait_until(lambda: "threads" in bench.kit.tasks(), what="the worker to make its tasks known")

    alone, all_threads = bench.kit.submit("threads").result(60)
    said, own_threads = bench.kit.options(env={"OMP_NUM_THREADS": 1}).submit("threads").result(60)

    assert (alone, set(all_threads)) == (str(cores()), {cores()})
    assert (said, set(own_threads)) == ("1", {1})
