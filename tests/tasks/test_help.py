"""Help and completion for tasks in notebooks: parameters, docstrings, names."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import param
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import jobkit
from jobkit.tasks.task import TaskDef


@jobkit.task(name="help_simulate")
def simulate(n: int = 1000, *, method: str = "rk4") -> float:
    """Simulate the pendulum.

    Args:
        n: number of steps.
    """
    return float(n)


class HelpTrain(jobkit.Task):
    """Train a model."""

    epochs = param.Integer(10)
    rate = param.Number(0.1)

    def run(self) -> int:
        return int(self.epochs)


@pytest.fixture(scope="module")
def shell() -> InteractiveShell:
    made = InteractiveShell()  # not the instance of the process
    made.push({"simulate": simulate, "HelpTrain": HelpTrain, "jobkit": jobkit})
    made.run_cell("@jobkit.task\nasync def of_a_cell(a: int, b: str = 'x') -> int:\n    'Of a cell.'\n    return a")
    yield made
    made.history_manager.end_session()


def test_submit_has_the_parameters_and_the_docstring_of_its_task() -> None:
    for task in (simulate, simulate.options(queue="gpu")):
        assert str(inspect.signature(task.submit)) == "(n: 'int' = 1000, *, method: 'str' = 'rk4') -> 'Job'"
        assert inspect.getdoc(task.submit).startswith("Simulate the pendulum.\n\nArgs:")
    assert repr(simulate.options(queue="gpu").submit) == "<task help_simulate(n, method)>.options(queue='gpu').submit"
    assert str(inspect.signature(HelpTrain.submit)) == "(*, epochs=10, rate=0.1) -> 'Job'"
    assert inspect.getdoc(HelpTrain.submit) == "Train a model."
    assert list(inspect.signature(jobkit.Task.submit).parameters) == ["parameters"]  # a base class is no task
    assert TaskDef.submit.__doc__.startswith("Submit the task with these arguments")


def test_submit_can_be_passed_on_and_pickled() -> None:
    assert pickle.loads(pickle.dumps(simulate.submit)).__self__ is simulate


def test_submits_of_a_task_are_equal_like_bound_methods() -> None:
    """So one that was registered as a callback can be removed."""
    assert simulate.submit == simulate.submit
    assert len({simulate.submit, simulate.submit, simulate.options(queue="gpu").submit}) == 2


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("simulate.submit(", ["method=", "n="]),
        ("simulate.options(queue='gpu').submit", []),
        ("HelpTrain.submit(ep", ["epochs="]),
        ("of_a_cell.submit(", ["a=", "b="]),
        ("simulate.options(ti", ["timeout=", "title="]),
        ("jobkit.task(ret", ["retries=", "retry_on="]),
    ],
)
def test_ipython_completes_arguments_and_options(shell: InteractiveShell, code: str, shown: list[str]) -> None:
    with provisionalcompleter():
        found = [each.text for each in shell.Completer.completions(code, len(code))]

    assert [text for text in found if text.endswith("=")] == shown


def test_the_help_of_ipython_shows_one_signature(shell: InteractiveShell) -> None:
    found: Any = shell.object_inspect("of_a_cell.submit")

    assert found["definition"].startswith("of_a_cell.submit(a: int, b: str = 'x')")
    assert found["docstring"] == "Of a cell."
    assert not found["call_def"]


def test_dir_of_a_task_lists_what_users_type() -> None:
    for task in (simulate, simulate.options(queue="gpu")):
        assert {"form", "map", "name", "options", "submit", "sweep"} <= set(dir(task))
        assert not {"chosen", "code_version", "effective", "given", "info", "run_checked", "source_dir"} & set(
            dir(task)
        )
    assert {"epochs", "rate", "run", "submit", "options", "map", "sweep"} <= set(dir(HelpTrain))
