"""Notebooks are used like functions: submitted, scheduled, swept, cached, run again, at the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import jobkit
from jobkit.cli.queues import read_call
from jobkit.tasks.registry import registry
from jobkit.tasks.work import code_version
from jobkit.testing import MemoryKit

from .files import write_notebook


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_notebook(tmp_path / "report.ipynb", "n * 2", parameters="region = 'EU'\nn = 2", title="Sales")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _sent(jobs: Any) -> list[tuple[str, str, dict[str, Any]]]:
    return [(job.task, job.snapshot.spec.title, job.params) for job in jobs]


def test_a_submitted_notebook_is_a_job_with_its_parameters(jobkit_queue: MemoryKit, folder: Path) -> None:
    job = jobkit_queue.options(queue="gpu", tags=["report"]).notebook("report.ipynb", region="US")

    assert _sent([job]) == [("report", "Sales", {"region": "US", "n": 2})]
    assert (job.queue, job.tags) == ("gpu", ["report"])


async def test_a_notebook_is_submitted_by_a_coroutine(jobkit_queue: MemoryKit, folder: Path) -> None:
    job = await jobkit_queue.aio.notebook("report.ipynb", n=3)

    assert job.params == {"region": "EU", "n": 3}


@pytest.mark.parametrize("wrong", [{"n": "many"}, {"m": 1}])
def test_nothing_is_stored_if_a_parameter_is_refused(
    jobkit_queue: MemoryKit, folder: Path, wrong: dict[str, object]
) -> None:
    with pytest.raises(jobkit.InvalidParams):
        jobkit_queue.notebook("report.ipynb", **wrong)

    assert list(jobkit_queue.jobs()) == []


def test_a_notebook_is_scheduled_and_swept_like_a_function(jobkit_queue: MemoryKit, folder: Path) -> None:
    report = jobkit.Notebook("report.ipynb")

    schedule = jobkit_queue.schedule(report, {"region": "CH"}, cron="0 6 * * 1")
    batch = jobkit_queue.sweep(report, region=["EU", "US"])

    assert (schedule.task, schedule.params) == ("report", {"region": "CH", "n": 2})
    assert [job.params["region"] for job in batch.jobs] == ["EU", "US"]


def test_a_registered_notebook_has_a_form(folder: Path) -> None:
    task = jobkit.task(jobkit.Notebook("report.ipynb"))

    try:
        info = registry.known("report").info()
        assert task.name == info.name == "report"
        assert [(spec.name, spec.kind, spec.default) for spec in info.params] == [
            ("region", "str", "EU"),
            ("n", "int", 2),
        ]
    finally:
        registry._tasks.pop("report")


def test_the_command_line_reads_parameters_by_the_cell(jobkit_queue: MemoryKit, folder: Path) -> None:
    notebook, values = read_call(jobkit_queue, "report.ipynb", ["region=US", "n=3"])

    assert (notebook.name, values) == ("report", {"region": "US", "n": 3})
    with pytest.raises(jobkit.InvalidParams, match="n must be a whole number, not 'x'"):
        read_call(jobkit_queue, "report.ipynb", ["n=x"])


def test_a_changed_notebook_is_another_version_for_caches(folder: Path) -> None:
    before = code_version(jobkit.Notebook("report.ipynb"))

    write_notebook(folder / "report.ipynb", "n * 3")

    assert code_version(jobkit.Notebook("report.ipynb")) != before
