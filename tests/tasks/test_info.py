"""Definitions of tasks, which other processes use without the code: checks, command line, schema."""

from __future__ import annotations

import json
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from jobkit.model import Backoff, InvalidParams
from jobkit.tasks.info import TaskInfo, plain_arguments
from jobkit.tasks.options import check_options
from jobkit.tasks.specs import Range
from jobkit.tasks.task import TaskDef


class Colour(Enum):
    RED = "r"
    BLUE = "b"


def simulate(n: Annotated[int, Range(1, 10)], colour: Colour = Colour.RED, day: date | None = None,
             out: Path = Path("."), sizes: list[int] = [1]) -> Any:  # fmt: skip  # noqa: B006
    """Simulate it.

    Args:
        n: number of steps.
    """
    return n, colour, day, out, sizes


TASK = TaskDef(simulate, options=check_options({"queue": "gpu", "timeout": 60, "backoff": 2, "tags": ["a"]}))


@pytest.fixture
def info() -> TaskInfo:
    return TaskInfo.from_definition(json.loads(json.dumps(TASK.info().to_json())))


def test_definition_survives_json(info: TaskInfo) -> None:
    assert info.to_json() == TASK.info().to_json()
    assert info.title == "Simulate it"
    assert info.params[0].help == "number of steps."
    assert info.options.backoff == Backoff(base=2)
    assert (info.effective().queue, info.effective().isolation) == ("gpu", "process")
    assert TASK.info().to_json()["queue"] == "gpu"
    assert TASK.info().to_json()["timeout"] == 60.0


def test_a_damaged_definition_is_understood() -> None:
    data = {"name": "x", "params": [{"name": "n", "kind": "quaternion", "new": 1}], "resources": {"gpu": 1}}

    info = TaskInfo.from_definition(data)

    assert info.title == "x"
    assert info.params[0].kind == "any"


def test_command_line_becomes_arguments_of_the_task(info: TaskInfo) -> None:
    values = info.parse(["n=5", "colour=BLUE", "day=2026-11-24", "out=a=b", "sizes=1,2"])

    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(plain_arguments(values)))

    bound = TASK.signature.bind((), wire)
    assert TASK(**bound) == (5, Colour.BLUE, date(2026, 11, 24), Path("a=b"), [1, 2])


def test_defaults_are_left_to_the_task(info: TaskInfo) -> None:
    assert info.check({"n": 1}) == {"n": 1}


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (["n=0"], "n must be a whole number from 1 to 10, not 0"),
        (["n"], "arguments are written name=value, not 'n'"),
        (["=5"], "arguments are written name=value"),
        (["n=1", "n=2"], "argument 'n' is given twice"),
        (["n=1", "color=RED"], "unexpected argument 'color' (did you mean 'colour'?)"),
        (["n=1", "colour=green"], "colour must be one of RED, BLUE, not 'green'"),
        ([], "missing argument 'n'"),
    ],
)
def test_command_line_that_does_not_fit_is_refused(info: TaskInfo, pairs: list[str], sentence: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        info.parse(pairs)

    assert sentence in str(caught.value)


def test_extra_arguments_pass_if_the_task_takes_them() -> None:
    def f(n: int, **more: Any) -> None: ...

    info = TaskInfo.from_definition(TaskDef(f).info().to_json())

    assert info.parse(["n=1", "x=[2]"]) == {"n": 1, "x": [2]}
    assert info.changes({"x": [2]}) == {"x": [2]}
    assert info.json_schema()["additionalProperties"] is True


def test_schema_names_the_task(info: TaskInfo) -> None:
    schema = info.json_schema()

    assert schema["title"] == "Simulate it"
    assert schema["properties"]["colour"]["default"] == "RED"
