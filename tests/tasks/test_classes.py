"""Tasks as classes: param parameters are the message, `run` is the handler."""

from __future__ import annotations

import asyncio
import pickle
from datetime import date
from typing import Any

import cloudpickle
import pandas as pd
import param
import pytest

from jobkit.model import InvalidParams
from jobkit.tasks.registry import registry
from jobkit.tasks.task import TaskDef, load_ref, target_of
from jobkit.tasks.task_class import Task


class Simulate(Task, queue="gpu", timeout=60):
    """Simulate something."""

    n = param.Integer(10, bounds=(1, 100), doc="Number of\n steps.")
    rate = param.Number(0.5, bounds=(0, 1), inclusive_bounds=(False, True))
    method = param.Selector(default="rk4", objects=["euler", "rk4"])
    model = param.Selector(objects={"small": int, "large": float})
    tags = param.List(["a"], item_type=str)
    pair = param.NumericTuple((1.0, 2.0))
    day = param.CalendarDate(date(2026, 1, 2))
    table = param.DataFrame(None)
    verbose = param.Boolean(False)
    api_key = param.String("hunter2")
    _private = param.Integer(1)

    def run(self) -> Any:
        return self.n, self.method, self.tags


def spec(name: str) -> Any:
    return next(each for each in Simulate.task_def().params if each.name == name)


@pytest.fixture(autouse=True)
def _registered(_own_registry: None) -> None:
    registry.register(Simulate.task_def())


def test_subclassing_makes_and_registers_a_task() -> None:
    made = registry.known("Simulate")
    assert made is not None

    assert made is Simulate.task_def()
    assert made.title == "Simulate something"
    assert made.is_class
    assert (made.effective().queue, made.effective().timeout_s) == ("gpu", 60.0)


def test_parameters_become_specs_in_their_order() -> None:
    assert [(each.name, each.kind) for each in Simulate.task_def().params] == [
        ("n", "int"), ("rate", "float"), ("method", "choice"), ("model", "choice"), ("tags", "list"), ("pair", "list"),
        ("day", "date"), ("table", "table"), ("verbose", "bool"), ("api_key", "str"),
    ]  # fmt: skip
    assert (spec("n").min, spec("n").max, spec("n").default, spec("n").help) == (1, 100, 10, "Number of steps.")
    assert [choice.label for choice in spec("model").choices] == ["small", "large"]
    assert spec("table").nullable
    assert spec("api_key").is_secret
    assert "hunter2" not in str(Simulate.task_def().info().to_json())


def test_running_makes_an_instance_and_calls_run() -> None:
    assert Simulate.task_def()(n=3) == (3, "rk4", ["a"])
    assert target_of(Simulate)(n=4)[0] == 4
    assert Simulate(n=5).run()[0] == 5


def test_bound_arguments_are_checked_and_construct_the_class() -> None:
    bound = Simulate.task_def().signature.bind((), {"n": 5.0, "model": "large", "pair": [1, 2]})

    assert bound["n"] == 5
    assert bound["model"] is float
    assert bound["pair"] == (1.0, 2.0)
    assert "tags" not in bound  # the class copies its own list
    args, kwargs = Simulate.task_def().signature.call_args(bound)
    assert Simulate.task_def()(*args, **kwargs) == (5, "rk4", ["a"])


@pytest.mark.parametrize(
    ("args", "kwargs", "sentence"),
    [
        ((), {"n": 0}, "n must be a whole number from 1 to 100, not 0"),
        ((), {"rate": 0}, "rate must be a number from"),
        ((), {"method": "x"}, "method must be one of euler, rk4, not 'x'"),
        ((), {"tags": [1]}, "tags[0] must be text, not 1"),
        ((), {"m": 1}, "unexpected argument 'm'"),
        ((5,), {}, "takes at most 0 arguments by position, but 1 were given"),
        ((), {"_private": 1}, "unexpected argument '_private'"),
    ],
)
def test_parameter_that_is_not_allowed_is_refused(args: Any, kwargs: Any, sentence: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        Simulate.task_def().signature.bind(args, kwargs)

    assert sentence in str(caught.value)


def test_items_of_ranges_and_lists_have_their_types() -> None:
    class Report(Task):
        period = param.CalendarDateRange((date(2026, 1, 2), date(2026, 1, 3)))
        days = param.List([], item_type=date)
        methods = param.ListSelector(["a"], objects=["a", "b"])
        either = param.Selector(default="a", objects=["a", None])

        def run(self) -> Any:
            return self.period, self.days

    bound = Report.task_def().signature.bind(
        (), {"period": ["2026-02-01", "2026-02-03"], "days": ["2026-02-02"], "either": None}
    )

    assert bound["period"] == (date(2026, 2, 1), date(2026, 2, 3))
    assert bound["days"] == [date(2026, 2, 2)]
    assert bound["either"] is None
    with pytest.raises(InvalidParams, match=r"methods\[0\] must be one of a, b, not 'c'"):
        Report.task_def().signature.bind((), {"methods": ["c"]})


def test_table_parameter_takes_a_table() -> None:
    table = pd.DataFrame({"a": [1]})

    assert Simulate.task_def().signature.bind((), {"table": table})["table"] is table


def test_class_travels_by_reference_from_a_module_and_by_value_from_elsewhere() -> None:
    class Local(Task):
        n = param.Integer(2)

        def run(self) -> int:
            return self.n

    assert Simulate.task_def().ref == f"{__name__}:Simulate"
    assert target_of(load_ref(Simulate.task_def().ref))(n=7)[0] == 7
    assert Local.task_def().ref == ""
    back = pickle.loads(cloudpickle.dumps(Local.task_def()))
    assert isinstance(back, TaskDef)
    assert back(n=8) == 8
    assert pickle.loads(cloudpickle.dumps(Local)).submit.__doc__


def test_class_by_value_does_not_register_itself_in_the_worker() -> None:
    class Upper(Task):
        def run(self) -> int:
            return 1

    class Lower(Upper):
        n = param.Integer(3)

    body = cloudpickle.dumps(Lower.task_def())
    registry._tasks.clear()

    assert pickle.loads(body)(n=1) == 1
    assert registry.names() == []


def test_submit_goes_to_the_default_kit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kit:
        def submit(self, task: Any, *args: Any, **kwargs: Any) -> Any:
            return task.name, args, kwargs

    monkeypatch.setattr("jobkit.connect", Kit)

    assert Simulate.submit(n=5) == ("Simulate", (), {"n": 5})


def test_class_without_run_is_a_base_and_options_are_inherited() -> None:
    class Base(Task):
        n = param.Integer(1)

    class Child(Base, queue="gpu", name="kid"):
        def run(self) -> int:
            return self.n

    class Grandchild(Child, timeout=5):
        pass

    assert registry.names() == ["Grandchild", "Simulate", "kid"]
    assert Grandchild.task_def().effective().queue == "gpu"
    with pytest.raises(InvalidParams, match=r"Base has no run\(self\), so it cannot be submitted"):
        Base.submit(n=1)
    with pytest.raises(InvalidParams, match=r"Odd has options of a task but no run\(self\)"):

        class Odd(Task, queue="gpu"):
            pass


def test_async_run_is_async() -> None:
    class Later(Task):
        async def run(self) -> int:
            return 5

    assert Later.task_def().isolation == "async"
    assert asyncio.run(Later.task_def()()) == 5


def test_parameter_that_would_hide_a_method_is_refused() -> None:
    with pytest.raises(InvalidParams, match=r"Bad\.submit cannot be a parameter"):

        class Bad(Task):
            submit = param.Integer(1)  # type: ignore[assignment]

            def run(self) -> None: ...


def test_help_works_on_a_task_class(capsys: pytest.CaptureFixture[str]) -> None:
    help(Simulate)

    assert "Simulate something" in capsys.readouterr().out
