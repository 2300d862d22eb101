"""A notebook as a function: its file, its parameters, the cell that sets them."""

from __future__ import annotations

import os
import pickle
import tempfile
from datetime import date, datetime
from pathlib import Path

import nbformat
import pytest

import jobkit
from jobkit import InvalidParams
from jobkit.features.notebooks.execution import _client, _library, _locked, _sweep
from jobkit.features.notebooks.parameters import cell_of
from jobkit.run.attempt import Rejected
from jobkit.run.inside import context
from jobkit.tasks.task import TaskDef

from .files import write_notebook

PARAMETERS = """
%matplotlib inline
from datetime import date
region = "EU"  # two-letter code
limit: Annotated[int, Range(1, 100)] = 10
day: date = date.today()
how: Literal["mean", "sum"] = "mean"
month: str
model = Model()
_own = 1
"""


@pytest.fixture
def task(tmp_path: Path) -> TaskDef[..., object]:
    path = write_notebook(tmp_path / "report.ipynb", "region", parameters=PARAMETERS, title="Sales by region")
    return TaskDef(jobkit.Notebook(path))


def test_the_cell_of_parameters_gives_names_types_defaults_and_help(task: TaskDef[..., object]) -> None:
    kinds = {spec.name: spec.kind for spec in task.params}

    assert kinds == {
        "region": "str", "limit": "int", "day": "date", "how": "choice", "month": "str", "model": "any"
    }  # fmt: skip
    by_name = {spec.name: spec for spec in task.params}
    assert (by_name["region"].default, by_name["region"].help) == ("EU", "two-letter code")
    assert by_name["day"].default_text == "date.today()"
    assert [spec.name for spec in task.params if spec.required] == ["month"]
    assert (task.name, task.title, task.isolation) == ("report", "Sales by region", "process")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"regio": "EU"}, "unexpected argument 'regio' (did you mean 'region'?)"),
        ({"limit": 1000}, "limit must be a whole number from 1 to 100, not 1000"),
        ({"day": "someday"}, "day must be a date like 2026-11-24, not 'someday'"),
        ({}, "missing argument 'month'"),
    ],
)
def test_a_parameter_that_is_wrong_is_refused_with_a_sentence(
    task: TaskDef[..., object], given: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InvalidParams) as refused:
        task.signature.bind((), {"month": "May"} | given if given else {})

    assert sentence in str(refused.value)


def test_only_parameters_that_are_given_are_set(task: TaskDef[..., object]) -> None:
    bound = task.signature.bind((), {"month": "May", "day": "2026-01-02"})

    assert task.signature.call_args(bound) == ((), {"month": "May", "day": date(2026, 1, 2)})


def test_a_notebook_without_the_tag_takes_no_parameters(tmp_path: Path) -> None:
    notebook = jobkit.Notebook(write_notebook(tmp_path / "plain.ipynb", "1"))

    with pytest.raises(InvalidParams, match="none of its cells has the tag 'parameters'"):
        notebook.check_names({"region": "EU"})


def test_a_worker_without_a_library_or_kernel_says_which(tmp_path: Path) -> None:
    julia = write_notebook(tmp_path / "n.ipynb", "1", language="julia").read_text().replace('"python3"', '"julia-1"')

    with pytest.raises(Rejected, match='pip install "panel-jobkit'):
        _library("no_such_library")
    with pytest.raises(Rejected, match="the notebook needs the kernel 'julia-1', which"):
        _client(nbformat.reads(julia, as_version=4), context.current())


def test_folders_of_killed_processes_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, used = tmp_path / "jobkit-notebook-left", tmp_path / "jobkit-notebook-used"
    for folder in (left, used, tmp_path / "jobkit-notebook-young", tmp_path / "other"):
        folder.mkdir()
    for folder in (left, used, tmp_path / "other"):
        os.utime(folder, (0, 0))

    with _locked(used):
        _sweep()

    assert {path.name for path in tmp_path.iterdir()} == {"jobkit-notebook-used", "jobkit-notebook-young", "other"}


@pytest.mark.nightly
async def test_a_notebook_that_is_called_runs_here(tmp_path: Path) -> None:
    report = jobkit.Notebook(write_notebook(tmp_path / "n.ipynb", "10 // n", parameters="n = 1"))

    assert await report(n=2) == 5
    with pytest.raises(jobkit.JobkitError, match="ZeroDivisionError"):
        await report(n=0)


def test_what_is_no_notebook_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.ipynb").write_text("[]")
    Path("old.ipynb").write_text('{"nbformat": 3, "worksheets": [], "cells": []}')
    write_notebook(tmp_path / "broken.ipynb", parameters="region = = 1")

    for name, sentence in {
        "none.ipynb": "the notebook 'none.ipynb' cannot be read in",
        "text.ipynb": "text.ipynb is not a notebook",
        "old.ipynb": "old.ipynb is of version 3 of the format",
        "broken.ipynb": "broken.ipynb: line 1 of the cell tagged 'parameters': invalid syntax",
    }.items():
        with pytest.raises(InvalidParams) as refused:
            jobkit.Notebook(name)
        assert sentence in str(refused.value)


def test_the_pickle_has_the_content_without_outputs_and_names_what_it_imports(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "n.ipynb", "import helpers\nfrom tools.io import read", "%%bash\nls")
    path.write_text(path.read_text().replace('"outputs": []', '"outputs": [{"secret": 1}]'))

    body = pickle.dumps(jobkit.Notebook(path))

    assert b"secret" not in body
    assert b"helpers" in body
    assert pickle.loads(body).imports == ("helpers", "tools.io")


def test_the_cell_of_values_gives_them_back(tmp_path: Path) -> None:
    values = {
        "a": 1, "b": float("inf"), "c": [None, True, {"k": (1,)}], "d": date(2026, 1, 2), "e": Path("x"), "f": 1 + 2j,
        "password": "sesame", "g": {"password": "sesame"}, "h": "redis://me:sesame@host",
    }  # fmt: skip

    source = cell_of(values, tmp_path / "values")
    found: dict[str, object] = {"datetime": datetime}  # by the notebook's own import
    exec(source, found)

    assert {name: found[name] for name in values} == values
    assert "sesame" not in source
    exec(cell_of({"half": lambda x: x / 2}, tmp_path / "values"), found)
    assert found["half"](4) == 2  # type: ignore[operator]
    assert found["datetime"] is datetime
