"""`jobkit worker --watch`: new jobs use changed task code, running jobs finish on the old."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import ROOT, wait_until

from . import jobs
from .conftest import Bench

CODE = """
import time
from pathlib import Path
import jobkit

@jobkit.task
def version(go: str = "", started: str = "") -> int:
    if started:
        Path(started).touch()
    while go and not Path(go).exists():
        time.sleep(0.01)
    return {number}
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "watched_tasks.py"
    path.write_text(CODE.format(number=1))
    return path


@pytest.mark.nightly
def test_new_jobs_run_on_changed_code_and_running_ones_finish_on_the_old(bench: Bench, module: Path) -> None:
    path = f"{ROOT}:{module.parent}"
    parent = bench.worker("--watch", "-t", "watched_tasks", ready=False, PYTHONPATH=path)
    (first,) = wait_until(bench.alive, what="the worker")
    wait_until(lambda: "version" in bench.kit.tasks(), what="its tasks")
    go, started = module.parent / "go", module.parent / "started"
    running = bench.kit.submit("version", go=str(go), started=str(started))
    wait_until(started.exists, what="the start")

    module.write_text(CODE.format(number=2))
    wait_until(lambda: set(bench.alive()) - {first}, what="a worker on the new code")
    wait_until(lambda: "waiting up to" in bench.said(), what="the old one to take nothing new")
    assert bench.kit.submit("version").result(60) == 2

    go.touch()
    assert running.result(60) == 1
    assert (running.attempt, running.snapshot.releases) == (1, 0)

    module.write_text("import no_such_module\n")
    wait_until(lambda: "the workers keep the old code" in bench.said(), what="the broken change to be reported")
    assert "no_such_module" in bench.said()
    assert bench.kit.submit("version").result(60) == 2
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    parent.terminate()
    assert parent.wait(60) == 0
