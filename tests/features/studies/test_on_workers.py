"""Studies while everything dies: exactly their trials, each job once, nothing left open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

import jobkit
from jobkit.features.studies.study import Study
from tests.support import environment, wait_until
from tests.worker.conftest import Bench

#: A kernel that begins a study, and waits for it.
KERNEL = """
import os, sys, time
import jobkit

def objective(x, notes=sys.argv[1]):
    with open(notes, "a") as file:
        file.write(f"trial {x}\\n")
    time.sleep(0.2)
    return (x - 0.3) ** 2

def space(trial, notes=sys.argv[2]):
    with open(notes, "a") as file:
        file.write(f"start {os.getpid()}\\n")
    return {"x": trial.suggest_float("x", 0, 1)}

study = jobkit.connect().study(objective, trials=30, parallel=3, space=space, id="all-of-it")
study.wait()
"""


def whole(study: Study, count: int) -> None:
    """Check that a study has exactly its trials, with a job each, all of which have ended."""
    frame = study.trials()
    assert list(frame.index) == list(range(count))
    assert len(study.batch) == count == len(set(frame["job"]))
    assert {job.id for job in study.batch} == set(frame["job"])
    assert all(job.is_terminal for job in study.batch)
    assert [job.params["x"] for job in study.batch] == list(frame["x"])


@pytest.mark.nightly  # two leases; without processes `test_study_logic` kills a study after each of its steps
def test_a_study_outlives_its_kernel_its_worker_and_its_own_process(bench: Bench) -> None:
    worker = bench.worker()
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL, bench.file("trials"), bench.file("space")], env=environment(**bench.variables)
    )

    def trials() -> list[str]:
        return bench.notes("trials")

    wait_until(lambda: len(trials()) >= 4, what="some trials")
    bench.kill(kernel)
    study = bench.kit.study(id="all-of-it")
    [pid] = bench.started("space")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(trials()) >= 12, what="trials after the death of the study's process")
    worker.kill()
    bench.worker()

    best = study.result(100)

    assert best is not None
    assert best == study.best
    whole(study, 30)
    assert set(study.trials()["state"]) == {"complete"}
    assert best.value == study.trials()["value"].min()
    runs = Counter(trials())
    assert len(runs) == 30, "a trial ran with arguments that are not kept"
    assert sum(runs.values()) <= 33  # those of the killed worker ran twice
    assert study.job.attempt >= 3
    assert list(study.job.metrics()["step"]) == list(range(1, 31))
    assert bench.kit.counts()["running"] == 0


def test_a_worker_that_stops_gives_a_study_back_at_once(bench: Bench) -> None:
    worker = bench.worker(JOBKIT_DRAIN="600")

    def objective(x: float, go: str = bench.file("go")) -> float:
        import os
        import time

        while not os.path.exists(go):
            time.sleep(0.02)
        return x

    study = bench.kit.study(objective, trials=6, parallel=2, space={"x": (0.0, 1.0)})
    wait_until(lambda: study.batch.counts == {"running": 2}, what="trials to run")
    worker.terminate()
    wait_until(lambda: study.job.snapshot.releases == 1, what="the study to be given back")
    bench.worker()
    (bench.folder / "go").touch()
    worker.wait(60)
    assert study.wait(60)
    whole(study, 6)


def test_a_study_cancelled_at_the_command_line_leaves_no_open_trial(bench: Bench) -> None:
    bench.worker("-c", "2")

    def objective(x: float) -> float:
        import time

        time.sleep(600)
        return x

    study = bench.kit.options(cancel_grace=1).study(objective, trials=100, parallel=10, space={"x": (0.0, 1.0)})
    wait_until(lambda: study.batch.counts == {"queued": 8, "running": 2}, what="trials to run")
    subprocess.run([sys.executable, "-m", "jobkit", "cancel", study.id], env=environment(**bench.variables), check=True)

    assert study.wait(60)
    assert study.batch.wait(60)
    assert study.batch.counts == {"cancelled": 10}
    with pytest.raises(jobkit.JobCancelled):
        study.result()
    whole(study, 10)
    assert set(study.trials()["state"]) == {"cancelled"}
