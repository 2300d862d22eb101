"""Notebook jobs of JupyterLab run as jobs, with jupyter-scheduler's own scheduler and a real worker."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

from jobkit.model import JobNotFound
from tests.support import wait_until
from tests.worker.conftest import Bench

from .files import write_notebook

pytest.importorskip("jupyter_scheduler")

pytestmark = [pytest.mark.nightly, pytest.mark.filterwarnings("ignore")]


class Scheduler:
    """The scheduler of a JupyterLab whose notebook jobs go to a bench."""

    def __init__(self, bench: Bench) -> None:
        from jupyter_scheduler.environments import CondaEnvironmentManager
        from jupyter_scheduler.orm import create_tables
        from jupyter_scheduler.scheduler import Scheduler as Real

        from jobkit.features.notebooks.jupyter_scheduler import JobkitExecutionManager

        database = f"sqlite:///{bench.folder}/scheduler.sqlite"
        create_tables(database)
        self._real = Real(str(bench.folder), CondaEnvironmentManager(), database, task_runner_class=None)
        self._real.execution_manager_class = JobkitExecutionManager
        self._real.staging_path = str(bench.folder / "staging")
        self._bench = bench

    def create(self, name: str, **parameters: str) -> str:
        from jupyter_scheduler.models import CreateJob

        wanted = {"input_uri": name, "name": "weekly", "runtime_environment_name": "here", "parameters": parameters}
        return self._real.create_job(CreateJob(**wanted, output_formats=["ipynb", "html"]))

    def status(self, job_id: str) -> str:
        return str(self._real.get_job(job_id, False).status)

    def ended(self, job_id: str, status: str) -> Any:
        wait_until(lambda: self.status(job_id) == status, what=f"the notebook job to be {status}")
        return self._real.get_job(job_id, False)

    def close(self) -> None:
        self._real.db_session.kw["bind"].dispose()
        wait_until(lambda: not multiprocessing.active_children(), what="the processes of notebook jobs to end")
        tracker: Any = resource_tracker
        tracker._resource_tracker._stop()  # a process that `multiprocessing` leaves for the next spawn
        del self._real
        gc.collect()

    def stop(self, job_id: str) -> None:
        self._real.stop_job(job_id)

    def output(self, job_id: str, kind: str) -> str:
        return Path(self._real.get_staging_paths(self._real.get_job(job_id, False))[kind]).read_text()

    def job(self, job_id: str) -> Any:
        """Return the job of a notebook job, None before it is submitted."""
        try:
            return self._bench.kit.get(job_id.replace("-", ""))
        except JobNotFound:
            return None


@pytest.fixture
def scheduler(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduler]:
    for name, value in bench.place.items():
        monkeypatch.setenv(f"JOBKIT_{name.upper()}", value)
    bench.worker()
    write_notebook(bench.folder / "report.ipynb", "region", "1 / n", parameters="region = 'EU'\nn = 1")
    write_notebook(bench.folder / "long.ipynb", "import time\ntime.sleep(600)")
    scheduler = Scheduler(bench)
    yield scheduler
    scheduler.close()


def test_a_notebook_job_runs_here_and_its_outputs_can_be_downloaded(scheduler: Scheduler) -> None:
    job_id = scheduler.create("report.ipynb", region='"US"')

    scheduler.ended(job_id, "COMPLETED")
    assert scheduler.job(job_id).params == {"region": "US", "n": 1}
    assert scheduler.job(job_id).snapshot.spec.title == "weekly"
    assert "region = 'US'" in scheduler.output(job_id, "ipynb")
    assert "<!doctype html>" in scheduler.output(job_id, "html")


def test_a_failed_one_has_the_error_and_the_outputs(scheduler: Scheduler) -> None:
    refused, failing = scheduler.create("report.ipynb", n="none"), scheduler.create("report.ipynb", n="0")

    assert scheduler.ended(refused, "FAILED").status_message == "n must be a whole number, not 'none'"
    assert scheduler.ended(failing, "FAILED").status_message == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in scheduler.output(failing, "ipynb")


def test_stop_cancels_the_job(scheduler: Scheduler) -> None:
    job_id = scheduler.create("long.ipynb")
    job = wait_until(lambda: scheduler.job(job_id), what="the job to be submitted")
    wait_until(lambda: job.state == "running", what="the job to run")

    scheduler.stop(job_id)

    assert job.wait(60)
    assert job.state == "cancelled"
    assert scheduler.status(job_id) == "STOPPED"
