"""Decorated functions: still functions, sent by reference or by value, submitted through the default kit."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import subprocess
import sys
import textwrap
from datetime import date
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from jobkit.model import InvalidParams, UnknownTask
from jobkit.tasks.registry import registry, task
from jobkit.tasks.task import TaskDef, load_ref, source_dir, target_of


@task
def twice_as_much(n: int) -> int:
    """Double a number.

    Args:
        n: what is doubled.
    """
    return 2 * n


@task(name="slow-one", queue="gpu", timeout=5, title="A slow one")
async def slow(n: int = 1) -> int:
    return n


def plain_function(n: int) -> int:
    return n + 1


def test_calling_a_task_calls_the_function() -> None:
    assert twice_as_much(4) == 8
    assert asyncio.run(slow(3)) == 3  # type: ignore[arg-type]  # an awaitable coroutine


def test_task_looks_like_its_function() -> None:
    assert twice_as_much.__name__ == "twice_as_much"  # type: ignore[attr-defined]
    assert (twice_as_much.__doc__ or "").startswith("Double")
    assert str(inspect.signature(twice_as_much)) == "(n: 'int') -> 'int'"
    assert repr(twice_as_much) == "<task twice_as_much(n)>"


def test_title_is_the_given_one_or_the_first_line() -> None:
    assert twice_as_much.title == "Double a number"
    assert slow.title == "A slow one"
    assert TaskDef(plain_function).title == "plain_function"
    assert TaskDef(sum).title == "sum"


def test_async_function_runs_on_the_loop_by_default() -> None:
    assert (twice_as_much.isolation, slow.isolation) == ("process", "async")
    assert slow.effective().timeout_s == 5.0

    with pytest.raises(InvalidParams, match="isolation='async' needs an async def, and plain_function is a plain"):
        task(plain_function_copy(), isolation="async")  # type: ignore[call-overload]
    with pytest.raises(InvalidParams, match="isolation='async' needs an async def"):
        twice_as_much.options(isolation="async")


def plain_function_copy() -> Any:
    return plain_function


def test_function_of_a_module_travels_by_reference() -> None:
    assert twice_as_much.ref == f"{__name__}:twice_as_much"

    for dumps in (pickle.dumps, cloudpickle.dumps):
        assert pickle.loads(dumps(twice_as_much)) is twice_as_much
        assert len(dumps(twice_as_much)) < 200
    assert pickle.loads(pickle.dumps(twice_as_much.options(queue="x"))).chosen.queue == "x"


@pytest.mark.parametrize("make", [lambda: lambda x: x, lambda: functools.partial(plain_function, 1), lambda: [].append])
def test_functions_without_a_name_in_a_module_travel_by_value(make: Any) -> None:
    assert TaskDef(make(), name="t").ref == ""


def test_nested_function_travels_by_value_with_its_closure() -> None:
    factor = 3

    def triple(n: int) -> int:
        return factor * n

    made = TaskDef(triple)
    back = pickle.loads(cloudpickle.dumps(made))

    assert made.ref == ""
    assert back(2) == 6
    assert back.name == "triple"


def test_directory_of_a_module_that_is_not_installed_is_known() -> None:
    assert Path(twice_as_much.source_dir, *__name__.split(".")).with_suffix(".py") == Path(__file__)
    assert source_dir("json.decoder") == ""
    assert source_dir("pytest") == ""
    assert source_dir("math") == ""


def test_reference_leads_back_to_the_task_and_to_its_function() -> None:
    assert load_ref(twice_as_much.ref) is twice_as_much
    assert target_of(load_ref(twice_as_much.ref))(2) == 4
    assert target_of(twice_as_much.options(queue="x"))(2) == 4
    assert target_of(len) is len
    assert target_of(plain_function) is plain_function
    with pytest.raises(UnknownTask, match="has no 'gone'"):
        load_ref(f"{__name__}:gone")


def test_arguments_sent_as_text_are_coerced_where_the_task_runs() -> None:
    def year_of(day: date, out: Path) -> Any:
        return day.year, out

    made = TaskDef(year_of)
    target = target_of(made)

    assert target(day="2026-11-24", out="a") == (2026, Path("a"))
    assert target(date(2026, 11, 24), Path("a")) == (2026, Path("a"))
    with pytest.raises(InvalidParams, match="day must be a date"):
        target(day="x", out="a")


def run_script(folder: Path, text: str) -> str:
    (folder / "script.py").write_text(textwrap.dedent(text))
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, env={"PYTHONPATH": root}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_task_of_a_script_travels_by_value_without_registry_or_kit(tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_text(
        "import pickle, sys\n"
        "task = pickle.loads(open('task.pickle', 'rb').read())\n"
        "print(task(5), task.name, task.options_set.queue, type(task).__module__)\n"
        "assert task.function.__globals__['fact'] is task\n"
        "from jobkit.tasks.registry import registry\n"
        "print(registry.names())\n"
    )

    out = run_script(
        tmp_path,
        """
        import subprocess, sys
        import cloudpickle
        import jobkit
        from jobkit.tasks.registry import registry, task

        class Kit:
            def __reduce__(self):
                raise RuntimeError("a kit must not travel")

        kit = Kit()
        jobkit.connect = lambda: kit

        @task(queue="gpu")
        def fact(n: int) -> int:
            return 1 if n < 2 else n * fact(n - 1)

        assert fact.ref == "", fact.ref
        open("task.pickle", "wb").write(cloudpickle.dumps(fact))
        print(subprocess.run([sys.executable, "reader.py"], capture_output=True, text=True).stdout)
        """,
    )

    assert out.split("\n")[:2] == ["120 fact gpu jobkit.tasks.task", "[]"]


def test_importing_tasks_loads_nothing_heavy(tmp_path: Path) -> None:
    out = run_script(
        tmp_path,
        """
        import sys
        import jobkit.tasks
        heavy = {"panel", "bokeh", "tornado", "pandas", "numpy", "IPython", "docstring_parser", "redis", "asyncio"}
        print(sorted(heavy & set(sys.modules)))
        """,
    )

    assert out.strip() in ("[]", "['asyncio']")  # param itself may load asyncio


class Recorder:
    """Kit that records its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def submit(self, task: Any, *args: Any, **kwargs: Any) -> str:
        self.calls.append((task, args, kwargs))
        return "job"


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    kit = Recorder()
    monkeypatch.setattr("jobkit.connect", lambda: kit)
    return kit


def test_submit_and_options_go_to_the_default_kit(kit: Recorder) -> None:
    assert twice_as_much.submit(3) == "job"
    bound = twice_as_much.options(queue="gpu").options(delay=5)
    assert bound.submit(n=4) == "job"

    assert kit.calls == [(twice_as_much, (3,), {}), (bound, (), {"n": 4})]
    assert (bound.chosen.queue, bound.chosen.delay_s, bound.name) == ("gpu", 5.0, "twice_as_much")
    assert not twice_as_much.given
    assert repr(bound) == "<task twice_as_much(n)>.options(queue='gpu', delay=5)"
    assert bound(5) == 10


def test_wrong_option_is_refused_before_submit() -> None:
    with pytest.raises(InvalidParams, match="unknown option 'quue'"):
        twice_as_much.options(quue="gpu")


@pytest.mark.parametrize("name", ["", "a b", "x" * 201, "a\n", 5])
def test_invalid_name_is_refused(name: Any) -> None:
    if name == "":
        assert TaskDef(plain_function, name="").name == "plain_function"
        return
    with pytest.raises(InvalidParams, match="a task's name must be"):
        TaskDef(plain_function, name=name)


def test_name_may_be_of_any_language() -> None:
    def größe() -> None: ...

    assert TaskDef(größe).name == "größe"


def test_decorating_something_else_is_refused() -> None:
    with pytest.raises(InvalidParams, match="made from a function or a Task class, not from 5"):
        task(5)  # type: ignore[call-overload]


def test_task_in_a_class_is_a_method() -> None:
    class Bag:
        factor = 3

        @task
        def times(self, n: int) -> int:
            return self.factor * n

    assert Bag().times(2) == 6


def test_help_works_on_tasks_and_kits(capsys: pytest.CaptureFixture[str]) -> None:
    for each in (twice_as_much, twice_as_much.options(queue="x"), TaskDef, task, registry):
        help(each)

    assert "submit" in capsys.readouterr().out
