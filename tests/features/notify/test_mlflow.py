"""Runs of MLflow: one for each job that ends, with arguments and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import jobkit
from jobkit.model import EventType
from tests.support import wait_until
from tests.worker.conftest import Bench


def curve(n: int, lr: float = 0.5) -> int:
    for step in range(n):
        jobkit.log_metrics(step=step, loss=1 / (step + 1))
    if n == 2:
        raise ValueError("two")
    return n


def test_a_job_that_ends_becomes_one_run_with_arguments_and_metrics(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    from jobkit.features.notify.mlflow import MlflowRuns

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"file://{tmp_path}/mlruns"
    bench.worker(JOBKIT_MLFLOW=uri, MLFLOW_ALLOW_FILE_STORE="true")
    client = mlflow.MlflowClient(uri)
    jobs = [bench.kit.submit(curve, n) for n in (3, 2)]
    for job in jobs:
        job.wait(60)

    def runs() -> dict[str, Any]:
        found = client.get_experiment_by_name("curve")
        try:
            some = client.search_runs([found.experiment_id]) if found is not None else []
        except ValueError:  # of a file that the worker is writing
            return {}
        return {run.data.tags["jobkit.id"]: run for run in some if run.info.status != "RUNNING"}

    found = wait_until(lambda: len(runs()) == 2 and runs(), what="both runs")

    good, bad = found[jobs[0].id], found[jobs[1].id]
    assert (good.info.status, good.data.params) == ("FINISHED", {"n": "3", "lr": "0.5"})
    points = client.get_metric_history(good.info.run_id, "loss")
    assert sorted((point.step, round(point.value, 3)) for point in points) == [(0, 1.0), (1, 0.5), (2, 0.333)]
    assert (bad.info.status, bad.data.tags["jobkit.error"]) == ("FAILED", "ValueError: two")
    sink = MlflowRuns(uri, bench.kit.verbs.store)
    sink._write(jobs[0].snapshot, [])  # delivered twice
    assert len(runs()) == 2
    started = client.create_run(good.info.experiment_id, tags={"jobkit.id": "half"})
    half = replace(jobs[0].snapshot, spec=replace(jobs[0].snapshot.spec, id="half"))
    sink._write(half, [])  # its worker was killed before it was complete
    assert runs()["half"].info.run_id != started.info.run_id
    assert client.get_run(started.info.run_id).info.lifecycle_stage == "deleted"
    assert sink.wants(jobs[0].snapshot.history[-1], jobs[0].snapshot) == (
        jobs[0].snapshot.history[-1].type is EventType.SUCCEEDED
    )
