"""Every kind of type hint: form input becomes the argument, and the job's shown arguments become it again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, TypedDict
from uuid import UUID

import msgspec
import param
import pytest

import jobkit
from jobkit.codec import is_plain
from jobkit.model import InvalidParams
from jobkit.tasks.info import TaskInfo, plain_arguments
from jobkit.tasks.specs import Range
from jobkit.tasks.task import TaskDef
from jobkit.tasks.values import shown_and_abridged
from jobkit.ui.form.form_model import read_form


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Method(StrEnum):
    EULER = "euler"
    RK4 = "rk4"


@dataclass
class Optimizer:
    """Update rule of weights.

    Attributes:
        lr: learning rate.
    """

    lr: Annotated[float, Range(0, 1)] = 0.01
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass
class Model:
    depth: int
    name: str = "net"
    optimizer: Optimizer = field(default_factory=Optimizer)
    sizes: list[int] = field(default_factory=lambda: [8, 8])
    start: date | None = None
    colour: Colour = Colour.RED


@dataclass(frozen=True, slots=True)
class Frozen:
    path: Path
    token: str | None = None


@dataclass
class Tree:
    size: int
    children: list[Tree] = field(default_factory=list)


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Options(TypedDict):
    verbose: bool
    limit: NotRequired[int]


class Plan(msgspec.Struct):
    steps: Annotated[int, msgspec.Meta(ge=1, le=9, description="How many.")]
    when: datetime | None = None


#: Type hint, value, and the form's input for it: typed texts or selected values.
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "int": (int, 5, "5"),
    "float": (float, 0.5, "0.5"),
    "bool": (bool, True, {"value": True}),
    "str": (str, "5", "5"),
    "long text": (str, "word " * 15, "word " * 15),
    "literal": (Literal["euler", 2], 2, {"value": "2"}),
    "enum": (Colour, Colour.BLUE, {"value": "BLUE"}),
    "str enum": (Method, Method.RK4, {"value": "RK4"}),
    "date": (date, date(2026, 1, 2), "2026-01-02"),
    "datetime": (datetime, datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04"),
    "zoned": (datetime, datetime(2026, 1, 2, 3, 4, 5, 600, UTC), "2026-01-02T03:04:05.000600+00:00"),
    "time": (time, time(3, 4), "03:04"),
    "timedelta": (timedelta, timedelta(seconds=90), "90"),
    "timedelta words": (timedelta, timedelta(hours=36), "36h"),
    "path": (Path, Path("/data/a b"), "/data/a b"),
    "uuid": (UUID, UUID(int=7), str(UUID(int=7))),
    "decimal": (Decimal, Decimal("1.50"), "1.50"),
    "bytes": (bytes, b"ab", "YWI="),
    "list of int": (list[int], [1, 2], "1, 2"),
    "list of text": (list[str], ["a", "b c"], "a, b c"),
    "list of dates": (list[date], [date(2026, 1, 2)], "2026-01-02"),
    "tuple": (tuple[int, ...], (1, 2), "1, 2"),
    "fixed tuple": (tuple[int, Path], (1, Path("a")), '[1, "a"]'),
    "set": (set[int], {1, 2}, "2, 1"),
    "frozenset": (frozenset[str], frozenset("ab"), "a, b"),
    "set of enums": (set[Colour], {Colour.RED}, "RED"),
    "dict": (dict[str, Any], {"a": [1, None]}, '{"a": [1, null]}'),
    "dict of dates": (dict[str, date], {"a": date(2026, 1, 2)}, '{"a": "2026-01-02"}'),
    "dict by int": (dict[int, Path], {1: Path("a")}, '{"1": "a"}'),
    "optional": (Optional[int], 5, "5"),  # noqa: UP045
    "none": (int | None, None, ""),
    "union": (int | str, 5, "5"),
    "union, the text": (int | str, "5", '"5"'),
    "union of structures": (Model | Point, Point(1.0, 2.0), '{"x": 1, "y": 2}'),
    "range": (Annotated[int, Range(1, 9)], 5, "5"),
    "any": (Any, {"a": 1}, '{"a": 1}'),
    "any, the text": (Any, "5", '"5"'),
    "dataclass": (Optimizer, Optimizer(0.5), {"lr": "0.5"}),
    "nested": (
        Model,
        Model(3, optimizer=Optimizer(betas=(0.5, 0.6)), sizes=[1], start=date(2026, 1, 2), colour=Colour.BLUE),
        {"depth": "3", "optimizer": {"betas": "0.5, 0.6"}, "sizes": "1", "start": "2026-01-02",
         "colour": {"value": "BLUE"}},
    ),
    "frozen": (Frozen, Frozen(Path("a")), {"path": "a"}),
    "tree": (Tree, Tree(1, [Tree(2)]), {"size": "1", "children": '[{"size": 2}]'}),
    "list of structures": (list[Point], [Point(1.0), Point(2.0, 3.0)], '[{"x": 1}, {"x": 2, "y": 3}]'),
    "dict of structures": (dict[str, Point], {"a": Point(1.0)}, '{"a": {"x": 1}}'),
    "optional structure": (Point | None, Point(1.0), {"x": "1"}),
    "no structure": (Point | None, None, {"none": True}),
    "typed dict": (Options, {"verbose": True}, {"verbose": {"value": True}}),
    "named tuple": (Point, Point(1.0, 2.0), {"x": "1", "y": "2"}),
    "msgspec": (Plan, Plan(3, datetime(2026, 1, 2)), {"steps": "3", "when": "2026-01-02T00:00"}),
}  # fmt: skip


def attrs_kind() -> tuple[Any, Any, Any]:
    attrs = pytest.importorskip("attrs")
    made = attrs.make_class("Made", {"lr": attrs.field(type=float), "_n": attrs.field(type=int, default=1)})
    return made, made(0.5, 2), {"lr": "0.5", "_n": "2"}


def pydantic_kind() -> tuple[Any, Any, Any]:
    pydantic = pytest.importorskip("pydantic")
    made = pydantic.create_model(
        "Made", lr=(float, pydantic.Field(le=1)), when=(datetime, datetime(2026, 1, 2)), sizes=(list[int], [1])
    )
    return made, made(lr=0.5, sizes=[2, 3]), {"lr": "0.5", "sizes": "2, 3"}


def pydantic_dataclass() -> tuple[Any, Any, Any]:
    dataclasses_ = pytest.importorskip("pydantic.dataclasses")
    made = dataclasses_.dataclass(dataclasses.make_dataclass("Made", [("lr", float), ("n", int, 1)]))
    return made, made(lr=0.5), {"lr": "0.5"}


MORE = {"attrs": attrs_kind, "pydantic": pydantic_kind, "pydantic dataclass": pydantic_dataclass}


def task_of(hint: Any, default: Any = dataclasses.MISSING) -> TaskDef[..., Any]:
    def take(value): ...  # type: ignore[no-untyped-def]

    take.__annotations__ = {"value": hint}
    if default is not dataclasses.MISSING:
        take.__defaults__ = (default,)
    return TaskDef(take, name="take")


def published(task: TaskDef[..., Any]) -> TaskInfo:
    """Return the task as a dashboard knows it without importing its code."""
    return TaskInfo.from_definition(json.loads(json.dumps(task.info().to_json())))


def fields_of(name: str, sent: Any) -> dict[str, Any]:
    """Return the browser's request: one field for each input, with dotted names inside structures."""
    if isinstance(sent, str):
        return {name: {"text": sent}}
    if sent.keys() & {"value", "none"}:
        return {name: sent}
    return {path: each for part, value in sent.items() for path, each in fields_of(f"{name}.{part}", value).items()}


def received(task: TaskDef[..., Any], info: TaskInfo, values: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Submit by name with these values; return `(argument, arguments as the job shows them)`."""
    sent = plain_arguments(info.check(values), info.params)
    assert is_plain(sent)  # no pickle crosses Redis
    shown, abridged = shown_and_abridged(sent)
    assert not abridged
    return task.signature.bind((), sent)["value"], json.loads(json.dumps(shown))


@pytest.fixture(params=[*KINDS, *MORE])
def kind(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    return KINDS[request.param] if request.param in KINDS else MORE[request.param]()


def test_form_to_job_to_change_gives_the_same_value(kind: tuple[Any, Any, Any]) -> None:
    hint, wanted, sent = kind
    task = task_of(hint)
    info = published(task)

    values, errors = read_form(info.params, fields_of("value", sent))
    first, shown = received(task, info, values)
    # A field that "Edit and run" filled in and the user did not change sends the job's value.
    again, errors_again = read_form(info.params, {name: {"value": value} for name, value in shown.items()})
    second, _ = received(task, info, again)

    assert (errors, errors_again) == ({}, {})
    assert first == wanted
    assert type(first) is type(wanted)
    assert (second, type(second)) == (wanted, type(wanted))


def test_a_shown_python_value_can_be_changed_back(kind: tuple[Any, Any, Any]) -> None:
    hint, wanted, _ = kind
    task = task_of(hint)
    if isinstance(wanted, bytes):
        pytest.skip("bytes are shown by their number")

    shown, abridged = shown_and_abridged(task.signature.bind((wanted,), {}))
    again, errors = read_form(published(task).params, {"value": {"value": json.loads(json.dumps(shown))["value"]}})

    assert (abridged, errors) == ((), {})
    assert received(task, published(task), again)[0] == wanted


def test_an_unchanged_default_is_shown_as_the_default(kind: tuple[Any, Any, Any]) -> None:
    from jobkit.tasks.info import defaults_of

    hint, wanted, _ = kind
    task = task_of(hint, wanted)
    if isinstance(wanted, bytes):
        pytest.skip("bytes are shown by their number")

    shown, _ = shown_and_abridged(task.signature.bind((), {}))

    assert defaults_of({"take": published(task)})["take"] == shown
    (spec,) = published(task).params
    assert spec.has_default
    assert task.signature.bind((), {"value": spec.default})["value"] == wanted


@pytest.mark.parametrize(
    ("value", "sentence", "name"),
    [
        ({"depth": "x"}, "model.depth must be a whole number, not 'x'", "model.depth"),
        ({"depth": 1, "optimizer": {"lr": 2}}, "model.optimizer.lr must be a number from 0 to 1, not 2",
         "model.optimizer.lr"),
        ({"depth": 1, "optimizer": {"betas": [1, "x"]}}, "model.optimizer.betas[1] must be a number, not 'x'",
         "model.optimizer.betas[1]"),
        ({}, "model.depth is missing: it must be a whole number", "model.depth"),
        ({"depth": 1, "lr": 2}, "model has no field 'lr'; its fields are: depth, name, optimizer, sizes, start, colour",
         "model.lr"),
        (5, "model must be a Model with depth, name, optimizer, sizes, start, colour, not 5", "model"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(value: Any, sentence: str, name: str) -> None:
    @jobkit.task(name="fit_model")
    def fit(model: Model) -> None: ...

    for check in (lambda: fit.signature.bind((), {"model": value}), lambda: published(fit).check({"model": value})):
        with pytest.raises(InvalidParams) as caught:
            check()
        assert str(caught.value) == sentence
        assert caught.value.field == name


def test_an_error_of_a_constructor_is_one_sentence() -> None:
    @dataclass
    class Even:
        n: int

        def __post_init__(self) -> None:
            if self.n % 2:
                raise ValueError(f"{self.n} is odd")

    with pytest.raises(InvalidParams, match=r"^value was refused by Even: 3 is odd$"):
        task_of(Even).signature.bind((), {"value": {"n": 3}})


def test_command_line_sets_one_field_and_keeps_the_others() -> None:
    default = Model(3, name="mine")
    info = published(task_of(Model, default))

    values = info.parse(["value.optimizer.lr=0.5", "value.sizes=1,2"])

    made = task_of(Model, default).signature.bind((), values)["value"]
    assert made == dataclasses.replace(default, optimizer=Optimizer(0.5), sizes=[1, 2])
    assert info.parse(['value={"depth": 7}'])["value"] == {"depth": 7}
    with pytest.raises(InvalidParams, match=r"value.optimizer has no field 'x'"):
        info.parse(["value.optimizer.x=1"])


def test_a_change_of_one_field_keeps_the_others_of_the_job() -> None:
    task = task_of(Model)
    changes = published(task).changes(["value.optimizer.lr=0.5"])
    job = Model(9, sizes=[4], optimizer=Optimizer(0.1, (0.3, 0.4)))

    bound = task.signature.changed(task.signature.bind((job,), {}), changes)

    assert changes == {"value.optimizer.lr": 0.5}
    assert bound["value"] == dataclasses.replace(job, optimizer=Optimizer(0.5, (0.3, 0.4)))


def test_changes_of_fields_that_depend_on_each_other_are_checked_together() -> None:
    @dataclass
    class Span:
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    signature = task_of(Span).signature
    bound = signature.bind((Span(1, 2),), {})

    assert signature.changed(bound, {"value.low": 5, "value.high": 9})["value"] == Span(5, 9)
    with pytest.raises(InvalidParams, match="low is above high"):
        signature.changed(bound, {"value.low": 5})


def test_json_schema_has_the_fields() -> None:
    schema = published(task_of(Model)).json_schema()["properties"]["value"]

    assert schema["required"] == ["depth"]
    assert schema["additionalProperties"] is False
    optimizer = schema["properties"]["optimizer"]
    assert optimizer["properties"]["lr"] == {
        "type": "number", "minimum": 0, "maximum": 1, "title": "lr", "description": "learning rate.", "default": 0.01,
    }  # fmt: skip
    assert optimizer["default"] == {"lr": 0.01, "betas": [0.9, 0.999]}


def test_secrets_inside_a_structure_are_masked_and_marked_as_abridged() -> None:
    shown, abridged = shown_and_abridged({"value": Frozen(Path("a"), token="hunter2"), "n": 1})

    assert shown == {"value": {"path": "a", "token": "***"}, "n": 1}
    assert abridged == ("value",)


class Fitting(jobkit.Task):
    model = param.ClassSelector(class_=Model, default=Model(3))
    when = param.CalendarDate(default=date(2026, 1, 2))

    def run(self) -> Any:
        return self.model


def test_a_task_class_takes_a_structure() -> None:
    info = published(Fitting.task_def())

    values, errors = read_form(info.params, fields_of("model", {"depth": "5"}))

    assert not errors
    assert Fitting.task_def().run_checked(**plain_arguments(info.check(values), info.params)) == Model(5)


def test_secrets_in_a_default_are_not_published() -> None:
    definition = json.dumps(task_of(Frozen, Frozen(Path("a"), token="hunter2")).info().to_json())

    assert "hunter2" not in definition
