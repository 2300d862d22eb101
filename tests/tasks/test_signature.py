"""From a function to its parameters, and from a call to its arguments."""

from __future__ import annotations

import collections.abc
import functools
import timeit
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import pytest

from jobkit.model import InvalidParams
from jobkit.tasks.signature import signature_of
from jobkit.tasks.specs import Range
from jobkit.tasks.task import TaskDef

if TYPE_CHECKING:
    import pandas as pd
    import polars  # type: ignore[import-not-found]


class Colour(Enum):
    RED = "r"
    BLUE = "b"


def kinds(function: Any) -> dict[str, str]:
    return {spec.name: spec.kind for spec in signature_of(function).params}


def test_each_hint_becomes_its_kind() -> None:
    def f(
        a: int,
        b: float,
        c: bool,
        d: str,
        e: Literal["x", "y"],
        f: Colour,
        g: Path,
        h: date,
        i: datetime,
        j: list[int],
        k: tuple[str, ...],
        lookup: dict[str, int],
        m: int | None,
        n: Optional[str],  # noqa: UP045
        o: Annotated[int, Range(1, 5), "how many"],
        p: collections.abc.Sequence[float],
        q: int | float,
        r: str | Path,
        s: int | str,
        t: Any,
        u: collections.abc.Callable[[], int],
        v,
        w: "set[str]" = frozenset(),  # noqa: UP037
    ) -> None: ...

    assert kinds(f) == {
        "a": "int", "b": "float", "c": "bool", "d": "str", "e": "choice", "f": "choice", "g": "path", "h": "date",
        "i": "datetime", "j": "list", "k": "list", "lookup": "dict", "m": "int", "n": "str", "o": "int", "p": "list",
        "q": "float", "r": "path", "s": "union", "t": "any", "u": "any", "v": "any", "w": "list",
    }  # fmt: skip
    by_name = {spec.name: spec for spec in signature_of(f).params}
    assert by_name["m"].nullable
    assert by_name["n"].nullable
    assert (by_name["o"].min, by_name["o"].max, by_name["o"].help) == (1, 5, "how many")
    assert [choice.label for choice in by_name["f"].choices] == ["RED", "BLUE"]
    assert by_name["j"].item is not None
    assert by_name["j"].item.kind == "int"


def test_unresolvable_hints_do_not_affect_other_parameters() -> None:
    def f(table: pd.DataFrame, other: polars.DataFrame, gone: Gone, n: int) -> Gone: ...  # type: ignore[name-defined]  # noqa: F821

    assert kinds(f) == {"table": "table", "other": "table", "gone": "any", "n": "int"}


def test_hints_of_partials_instances_and_classes_are_found() -> None:
    class Model:
        n: str

        def __init__(self, n: int) -> None: ...

        def __call__(self, m: float) -> None: ...

    assert kinds(Model) == {"n": "int"}
    assert kinds(Model(1)) == {"m": "float"}
    assert kinds(Model(1).__call__) == {"m": "float"}
    assert kinds(functools.partial(simulate, method="rk4")) == {"n": "int", "method": "choice"}


def test_default_none_makes_a_parameter_nullable() -> None:
    def f(n: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    assert signature_of(f).bind((), {"n": None}) == {"n": None}


def test_defaults_are_published_as_json() -> None:
    thing = object()

    def f(a: date = date(2026, 1, 2), b: Path = Path("x"), c: Colour = Colour.BLUE, d: Any = thing,
          e: float = float("inf"), f: tuple[int, int] = (1, 2), password: str = "hunter2") -> None: ...  # fmt: skip

    specs = {spec.name: spec for spec in signature_of(f).params}

    assert specs["a"].default == "2026-01-02"
    assert specs["b"].default == "x"
    assert specs["c"].default == "BLUE"
    assert (specs["d"].default, specs["d"].has_default) == (None, True)
    assert "object" in specs["d"].default_text
    assert specs["e"].default_text == "inf"
    assert specs["f"].default == [1, 2]
    assert specs["password"].is_secret
    assert "hunter2" not in str(specs["password"])


def test_range_on_something_without_size_is_refused() -> None:
    def f(flag: Annotated[bool, Range(0, 1)]) -> None: ...

    with pytest.raises(InvalidParams, match="flag: a Range bounds numbers, texts and lists"):
        signature_of(f)


@pytest.mark.parametrize(("low", "high"), [(2, 1), ("a", None), (True, 2), (float("nan"), 1)])
def test_invalid_range_is_refused(low: Any, high: Any) -> None:
    with pytest.raises(InvalidParams, match="Range min must"):
        Range(low, high)


def simulate(n: Annotated[int, Range(1, 10**9)], method: Literal["euler", "rk4"] = "rk4") -> int:
    return n


def test_bound_arguments_are_full_and_coerced() -> None:
    assert signature_of(simulate).bind((5.0,), {}) == {"n": 5, "method": "rk4"}


@pytest.mark.parametrize(
    ("args", "kwargs", "sentence", "field"),
    [
        ((), {}, "missing argument 'n'", "n"),
        ((1,), {"n": 2}, "argument 'n' is given twice, by position and by name", "n"),
        ((1,), {"metod": "rk4"}, "unexpected argument 'metod' (did you mean 'method'?); the parameters are: n, method",
         "metod"),
        ((1,), {"zzz": 1}, "unexpected argument 'zzz'; the parameters are: n, method", "zzz"),
        ((1, "rk4", 3), {}, "takes at most 2 arguments by position, but 3 were given", None),
        ((0,), {}, "n must be a whole number from 1 to 1000000000, not 0", "n"),
    ],
)  # fmt: skip
def test_call_that_does_not_fit_is_refused_by_name(args: Any, kwargs: Any, sentence: str, field: str | None) -> None:
    with pytest.raises(InvalidParams) as caught:
        signature_of(simulate).bind(args, kwargs)

    assert str(caught.value) == sentence
    assert caught.value.field == field


def f_simple(a: int, b: int = 2) -> Any:
    return a, b


def f_star(a: int, *rest: int, b: int = 2, **more: int) -> Any:
    return a, rest, b, more


def f_only(a: int, /, b: int, *, c: int = 3, **more: int) -> Any:
    return a, b, c, more


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (f_simple, (1,), {}),
        (f_simple, (), {"b": 5, "a": 1}),
        (f_star, (1, 2, 3), {"b": 5, "z": 6}),
        (f_star, (), {"a": 1, "z": 6}),
        (f_only, (1, 2), {"c": 4}),
        (f_only, (1,), {"b": 2, "a": 9}),
        (functools.partial(f_simple, b=7), (1,), {}),
        (functools.partial(f_simple, 1), (), {"b": 3}),
        (len, ("abc",), {}),
        (max, (1, 2), {}),
        (print, (), {"end": ""}),
        (sorted, ([2, 1],), {"reverse": True}),
    ],
)
def test_call_through_bind_is_the_same_as_a_plain_call(function: Any, args: Any, kwargs: Any) -> None:
    signature = signature_of(function)

    again_args, again_kwargs = signature.call_args(signature.bind(args, kwargs))

    assert function(*again_args, **again_kwargs) == function(*args, **kwargs)


def test_some_arguments_can_be_changed_and_are_checked() -> None:
    signature = signature_of(f_star)
    bound = signature.bind((1, 2, 3), {"z": 4})

    again = signature.call_args(signature.changed(bound, {"a": 9, "y": 5}))

    assert f_star(*again[0], **again[1]) == (9, (2, 3), 2, {"z": 4, "y": 5})
    with pytest.raises(InvalidParams, match="a must be a whole number, not 'x'"):
        signature.changed(bound, {"a": "x"})
    with pytest.raises(InvalidParams, match="unexpected argument 'm'"):
        signature_of(simulate).changed({"n": 1}, {"m": 1})


def test_positional_only_argument_by_name_is_refused() -> None:
    def f(a: int, /) -> None: ...

    with pytest.raises(InvalidParams, match="argument 'a' can only be given by position"):
        signature_of(f).bind((), {"a": 1})


def test_help_comes_from_annotation_then_docstring() -> None:
    def f(n: int, m: Annotated[int, "from the hint"], n_steps: int) -> None:
        """Do it.

        Args:
            n: number of
                things.
            m: from the docstring.
        """

    task = TaskDef(f)

    assert [spec.help for spec in task.params] == ["number of things.", "from the hint", ""]
    assert [spec.label for spec in task.params] == ["n", "m", "n steps"]
    assert task.title == "Do it"


@pytest.mark.nightly
def test_binding_two_parameters_costs_at_most_15_microseconds() -> None:
    bind = TaskDef(simulate).signature.bind
    bind((), {"n": 1})

    best = min(timeit.repeat(lambda: bind((), {"n": 5, "method": "euler"}), number=2000, repeat=5)) / 2000

    assert best < 15e-6
