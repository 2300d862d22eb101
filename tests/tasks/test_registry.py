"""Names and tasks: one name, one function; and the task of any callable."""

from __future__ import annotations

import functools
import gc
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from jobkit.model import InvalidParams, JobkitError
from jobkit.tasks.registry import Registry, registry, task, unknown_task
from jobkit.tasks.task import TaskDef
from jobkit.tasks.task_class import Task


def one(n: int) -> int:
    return n


def other(n: int) -> int:
    return n


def cell(source: str, module: str = "__main__") -> Any:
    """Run a notebook cell again: define a new function of the same name in the same module."""
    scope = {"__name__": module, "task": task}
    exec(source, scope)
    return scope


def test_two_functions_under_one_name_are_refused_with_both_places() -> None:
    tasks = Registry()
    tasks.register(TaskDef(one, name="work"))

    with pytest.raises(InvalidParams) as caught:
        tasks.register(TaskDef(other, name="work"))

    lines = [f"{Path(__file__)}:{each.__code__.co_firstlineno}" for each in (one, other)]
    assert all(line in str(caught.value) for line in lines)
    assert "two tasks are named 'work'" in str(caught.value)


def test_cell_that_is_run_again_replaces_its_own() -> None:
    first = cell("@task\ndef simulate(n: int): return n")["simulate"]
    second = cell("@task\ndef simulate(n: float): return n")["simulate"]

    assert registry.known("simulate") is second is not first


def test_module_that_runs_as_a_script_and_is_imported_is_the_same(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "as_both.py").write_text("from jobkit.tasks.registry import task\n@task\ndef twice(n): return 2 * n\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.load(["as_both"])
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "as_both.py"), raising=False)

    cell("@task\ndef twice(n): return 2 * n")

    assert registry.names() == ["twice"]
    del sys.modules["as_both"]


def test_unknown_task_names_the_close_ones_and_the_known() -> None:
    assert unknown_task("simulat", ["train", "simulate"]) == (
        "there is no task 'simulat' (did you mean 'simulate'?); known tasks are: simulate, train"
    )
    for known in ([], ["train"]):
        assert unknown_task("x", known).endswith(
            ". Start a worker that has its module: `jobkit worker -t MODULE`, or set JOBKIT_TASKS"
        )


def test_load_imports_modules_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tasks_here.py").write_text("from jobkit.tasks.registry import task\n@task\ndef here(): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])

    assert [each.name for each in registry.load(["my_tasks_here"])] == ["here"]
    assert registry.load([])[0].source_dir == str(tmp_path)
    del sys.modules["my_tasks_here"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def f(:", "SyntaxError"),
        ("raise ValueError", "ValueError: no message"),
    ],
)
def test_module_that_fails_is_reported_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, sentence: str
) -> None:
    (tmp_path / "fails_here.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(JobkitError) as caught:
        registry.load(["fails_here"])

    assert "module 'fails_here' could not be imported" in str(caught.value)
    assert sentence in str(caught.value)


def test_file_name_instead_of_a_module_is_refused_with_the_module() -> None:
    with pytest.raises(JobkitError, match=r"write 'pkg\.tasks' instead of './pkg/tasks\.py'"):
        registry.load(["./pkg/tasks.py"])


class Model:
    def fit(self, n: int) -> int:
        return n

    def __call__(self, n: int) -> int:
        return -n


@pytest.mark.parametrize(
    ("function", "name", "ref"),
    [
        (one, "one", f"{__name__}:one"),
        (len, "len", "builtins:len"),
        (lambda x: x, "lambda", ""),
        (functools.partial(one, 1), "one", ""),
        (Model().fit, "fit", ""),
        (Model(), "Model", ""),
        (Model, "Model", f"{__name__}:Model"),
        (Model.fit, "fit", f"{__name__}:Model.fit"),
        (str.upper, "upper", ""),
    ],
)
def test_any_callable_has_a_task(function: Any, name: str, ref: str) -> None:
    found = registry.task_of(function)

    assert (found.name, found.ref, found.function) == (name, ref, function)
    assert registry.names() == []


def test_task_of_a_task_is_itself() -> None:
    made = task(one)

    class Work(Task):
        def run(self) -> int:
            return 1

    assert registry.task_of(made) is made
    assert registry.task_of(made.options(queue="x")).function is one
    assert registry.task_of(Work) is Work.task_def()


def test_functions_of_modules_are_inspected_once_and_closures_not_cached() -> None:
    def make() -> Any:
        table = list(range(1000))
        return lambda: table

    closure = make()
    gone = weakref.ref(closure)
    registry.task_of(closure)
    assert registry.task_of(one) is registry.task_of(one)

    del closure
    gc.collect()

    assert gone() is None


@pytest.mark.parametrize("thing", [5, "simulate", None])
def test_uncallable_objects_are_refused(thing: Any) -> None:
    with pytest.raises(InvalidParams, match="only a task or another callable can be submitted"):
        registry.task_of(thing)
