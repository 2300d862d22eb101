"""Logs of quick jobs on a server without a directory for files: the end is there, whatever is left out."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import environment, wait_until
from tests.worker import jobs
from tests.worker.conftest import Bench


@pytest.mark.parametrize("lines", [3_000, 20_000])
def test_the_last_line_is_kept_however_quickly_a_job_prints(bench: Bench, lines: int) -> None:
    bench.worker()
    tasks = jobs.chatter, jobs.chatter_async, jobs.chatter_in_thread
    submitted = [bench.kit.submit(task, lines) for task in tasks]
    dead = bench.kit.submit(jobs.chatter, lines, is_deadly=True)

    for job in [*submitted, dead]:
        job.wait(30)
        log = bench.kit.logs(job.id)
        assert (log[0].text, log[-1].text) == ("line 0", "RESULT accuracy 0.93")
        assert sum(line.count for line in log) == lines + 1
    printed = subprocess.run(
        [sys.executable, "-m", "jobkit", "logs", dead.id, "--tail", "1"],
        env=environment(**bench.variables), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert printed.stdout == "RESULT accuracy 0.93\n"


def test_a_log_has_each_line_once_when_the_replies_to_its_lines_are_lost(bench: Bench) -> None:
    sign = Path(bench.file("go"))
    job = bench.kit.options(queue="cut", isolation="thread").submit(jobs.everything, path=bench.file(), sign=str(sign))
    cuts = ",".join(f"progress:before_reply:drop:{n}" for n in (1, 3, 5))  # each is repeated with success
    command = [sys.executable, "-m", "tests.worker.crew", cuts, "cut"]
    env = environment(**bench.variables)
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as crew:
        try:
            wait_until(lambda: bench.kit.logs(job.id), what="the line to be stored")
            sign.touch()
            assert job.wait(60)
        finally:
            crew.communicate()

    assert [line.text for line in bench.kit.logs(job.id)] == ["a line"]


@pytest.mark.nightly
def test_a_log_has_each_line_once_and_in_order_while_the_connection_of_its_worker_is_cut(bench: Bench) -> None:
    listen, count = bench.server.home / "cut.sock", 600
    command = [sys.executable, "-m", "tests.chaos.proxy", str(listen), str(bench.server.socket)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdin is not None
        assert proxy.stdout is not None
        assert proxy.stdout.readline() == "ready\n"
        bench.start(
            [sys.executable, "-m", "jobkit", "worker", "-t", "tests.worker.jobs"],
            {"JOBKIT_URL": f"unix://{listen}", "JOBKIT_LEASE": "60"},
            ready=True,
        )
        job = bench.kit.submit(jobs.chatter_slowly, count)
        try:
            for _ in range(40):
                print("swallow 0.05", file=proxy.stdin, flush=True)  # replies are lost, then all connections
                time.sleep(0.12)
            assert job.result(60) == count
        finally:
            proxy.stdin.close()  # the worker reaches the server no more, and ends by its signal

    steps = [int(str(line).split()[1]) for line in job.logs()]
    assert steps == list(range(count))
    assert list(job.metrics()["step"]) == steps
    assert [artifact.read() for artifact in job.artifacts()] == [b"%d" % (count - 1)]
