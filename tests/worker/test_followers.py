"""Many followers of one job, and the death of the worker that has ended it."""

from __future__ import annotations

import subprocess
import sys

from tests.support import environment

from . import jobs
from .conftest import Bench


def test_a_worker_goes_on_with_followers_that_a_dead_one_has_left_over(bench: Bench) -> None:
    missing = str(bench.folder / "missing" / "notes")
    root = bench.kit.options(queue="q0", isolation="thread").submit(jobs.work, path=missing)
    batch = bench.kit.map(jobs.count_up, [{"n": root}] * 1000)
    with bench.log.open("ab") as log:
        command = [sys.executable, "-m", "tests.worker.crew", "settle:before_send:kill", "q0"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment(**bench.variables), stdin=pipe, stdout=pipe, stderr=log) as crew:
            assert crew.stdout is not None
            pid = crew.stdout.readline().split()[0]
            assert crew.stdout.readline().split() == [pid, b"-9"]
            crew.communicate()
    assert root.wait(60)
    assert bench.kit.stats()["jobs"]["scheduled"] == 900

    bench.worker("-q", "other")

    assert batch.wait(60)
    assert batch.counts["failed"] == 1000
    assert "needs" in str(batch.jobs[-1].error)
