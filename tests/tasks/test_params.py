"""Checks of values by a `ParamSpec`: conversions, and the errors of invalid values."""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from enum import Enum, IntEnum
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.model import InvalidParams
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.params import check, describe, parse_text
from jobkit.tasks.references import Reference
from jobkit.tasks.specs import KINDS, Choice, ParamSpec, spec_of, with_default
from jobkit.tasks.values import plain, short_repr


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


def spec(kind: str, **more: Any) -> ParamSpec:
    return ParamSpec(name="n", kind=kind, **more)


def refusal(call: Any, *args: Any) -> InvalidParams | None:
    try:
        call(*args)
    except InvalidParams as error:
        return error
    return None


NUMBER = spec("int", min=1, max=1_000_000_000)
METHOD = spec_of("method", Literal["euler", "rk4"])


@pytest.mark.parametrize(
    ("of", "value", "becomes"),
    [
        (NUMBER, 1, 1),
        (NUMBER, 10**9, 10**9),
        (NUMBER, 5.0, 5),
        (NUMBER, np.int64(7), 7),
        (NUMBER, np.float64(7.0), 7),
        (spec("int"), 10**40, 10**40),
        (spec("int", nullable=True), None, None),
        (spec("float"), 1, 1.0),
        (spec("float"), np.float32(0.5), 0.5),
        (spec("float"), math.inf, math.inf),
        (spec("bool"), True, True),
        (spec("bool"), np.bool_(False), False),
        (spec("str"), "", ""),
        (spec("str", min=1, max=3), "abc", "abc"),
        (METHOD, "rk4", "rk4"),
        (spec_of("c", Literal[1, "1"]), 1, 1),
        (spec_of("c", Literal[1, 2]), "2", 2),
        (spec_of("c", Literal[True, 1]), 1, 1),
        (spec_of("c", Colour), Colour.RED, Colour.RED),
        (spec_of("c", Colour), "BLUE", Colour.BLUE),
        (spec_of("c", Colour), "b", Colour.BLUE),
        (spec_of("c", Level), 2, Level.HIGH),
        (spec("path"), "a/b", Path("a/b")),
        (spec("path"), Path("a"), Path("a")),
        (spec("date"), "2026-11-24", date(2026, 11, 24)),
        (spec("date"), datetime(2026, 11, 24), date(2026, 11, 24)),
        (spec("date"), pd.Timestamp("2026-11-24"), date(2026, 11, 24)),
        (spec("date"), np.datetime64("2026-11-24"), date(2026, 11, 24)),
        (spec("datetime"), "2026-11-24T16:30", datetime(2026, 11, 24, 16, 30)),
        (spec("datetime"), np.datetime64("2026-11-24T16:30:00", "ns"), datetime(2026, 11, 24, 16, 30)),
        (spec("datetime"), date(2026, 11, 24), datetime(2026, 11, 24)),
        (spec_of("l", list[int]), (1, 2.0), [1, 2]),
        (spec_of("l", list[int]), np.array([1, 2]), [1, 2]),
        (spec_of("l", tuple[float, float]), [1, 2], (1.0, 2.0)),
        (spec_of("l", set[str]), ["a", "a"], {"a"}),
        (spec_of("l", list[Colour]), ["RED"], [Colour.RED]),
        (spec("list"), range(3), [0, 1, 2]),
        (spec("dict"), {"a": 1}, {"a": 1}),
        (spec("any"), None, None),
    ],
)
def test_valid_values_are_converted_for_the_task(of: ParamSpec, value: Any, becomes: Any) -> None:
    got = check(of, value)

    assert got == becomes
    assert type(got) is type(becomes)


@pytest.mark.parametrize(
    ("of", "value", "sentence"),
    [
        (NUMBER, 0, "n must be a whole number from 1 to 1000000000, not 0"),
        (NUMBER, 1.5, "n must be a whole number from 1 to 1000000000, not 1.5"),
        (NUMBER, True, "n must be a whole number from 1 to 1000000000, not True"),
        (NUMBER, "5", "n must be a whole number from 1 to 1000000000, not '5'"),
        (NUMBER, None, "n must be a whole number from 1 to 1000000000, not None"),
        (NUMBER, math.inf, "n must be a whole number from 1 to 1000000000, not inf"),
        (spec("int", min=0), -1, "n must be a whole number, 0 or more, not -1"),
        (spec("int", max=0, nullable=True), 1, "n must be a whole number, at most 0 or None, not 1"),
        (spec("float", min=0, max=1), math.nan, "n must be a number from 0 to 1, not nan"),
        (spec("float"), 10**400, ", which is too large"),
        (spec("float"), False, "n must be a number, not False"),
        (spec("float"), 1j, "n must be a number, not 1j"),
        (spec("bool"), 1, "n must be true or false, not 1"),
        (spec("bool"), "true", "n must be true or false, not 'true'"),
        (spec("str"), 5, "n must be text, not 5"),
        (spec("str", min=2, max=3), "a", "n must be text with 2 to 3 characters, not 'a'"),
        (METHOD, "rk5", "method must be one of euler, rk4, not 'rk5'"),
        (spec_of("c", Literal[1, 2]), True, "c must be one of 1, 2, not True"),
        (spec_of("c", Colour), "green", "c must be one of RED, BLUE, not 'green'"),
        (spec("path"), "", "n must be a path, not ''"),
        (spec("path"), "a\0b", "n must be a path, not"),
        (spec("date"), "24.11.2026", "n must be a date like 2026-11-24, not '24.11.2026'"),
        (spec("date"), datetime(2026, 11, 24, 1), "n must be a date"),
        (spec("datetime"), "now", "n must be a date and time like 2026-11-24T16:30, not 'now'"),
        (spec("datetime"), np.datetime64("NaT", "us"), "n must be a date and time"),
        (spec("datetime"), 5, "n must be a date and time"),
        (spec_of("l", list[int]), [1, "x"], "l[1] must be a whole number, not 'x'"),
        (spec_of("l", list[list[int]]), [[1], [2, None]], "l[1][1] must be a whole number, not None"),
        (spec_of("l", list[int]), "12", "l must be a list of whole numbers, not '12'"),
        (spec_of("l", list[int]), {"a": 1}, "l must be a list of whole numbers"),
        (spec_of("l", tuple[int, int]), [1], "l must be a list of whole numbers with 2 items, not [1]"),
        (spec("list"), pd.DataFrame({"a": [1]}), "n must be a list, not DataFrame 1 × 1"),
        (spec("dict"), [1], "n must be a dictionary, not [1]"),
        (spec("table"), "x.csv", "n must be a table (a DataFrame), not 'x.csv'"),
        (spec("table"), {"a": [1], "b": [1, 2]}, "n must be a table"),
    ],
)
def test_refusal_names_the_field_the_value_and_what_is_allowed(of: ParamSpec, value: Any, sentence: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        check(of, value)

    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.field is not None


def test_refusals_do_not_show_secrets() -> None:
    token = spec_of("api_token", str)

    with pytest.raises(InvalidParams) as caught:
        check(token, ["hunter2"])

    assert "hunter2" not in str(caught.value)


def test_value_whose_repr_raises_is_refused_too() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(InvalidParams, match="n must be text, not a Rude"):
        check(spec("str"), Rude())


def test_a_reference_to_a_result_passes_every_check() -> None:
    pending = Reference(["a"])

    for kind in KINDS:
        assert check(spec(kind), pending) is pending
    assert check(spec_of("l", list[int]), [1, pending]) == [1, pending]


def test_table_is_accepted_as_such_and_as_json_records() -> None:
    table = pd.DataFrame({"a": [1, 2]})

    assert check(spec("table"), table) is table
    assert check(spec("table"), [{"a": 1}, {"a": 2}]).equals(table)
    assert check(spec("table"), {"a": [1, 2]}).equals(table)


@pytest.mark.parametrize(
    ("of", "text", "value"),
    [
        (NUMBER, "5", 5),
        (NUMBER, "1e6", 1_000_000),
        (spec("float"), "0.5", 0.5),
        (spec("float"), "3", 3.0),
        (spec("bool"), "Yes", True),
        (spec("bool"), "0", False),
        (spec("str"), "null", "null"),
        (spec("str", nullable=True), "null", None),
        (spec("str", nullable=True), "none", "none"),
        (spec("int", nullable=True), "none", None),
        (spec_of("c", Colour), "RED", Colour.RED),
        (spec("path"), "data.csv", Path("data.csv")),
        (spec("date"), "2026-11-24", date(2026, 11, 24)),
        (spec_of("l", list[int]), "1,2, 3", [1, 2, 3]),
        (spec_of("l", list[int]), "[1, 2]", [1, 2]),
        (spec_of("l", list[str]), "", []),
        (spec("dict"), '{"a": 1}', {"a": 1}),
        (spec("any"), "[1]", [1]),
        (spec("any"), "hello", "hello"),
    ],
)
def test_text_of_the_command_line_becomes_the_value(of: ParamSpec, text: str, value: Any) -> None:
    assert parse_text(of, text) == value


@pytest.mark.parametrize(
    ("of", "text", "sentence"),
    [
        (NUMBER, "x", "n must be a whole number from 1 to 1000000000, not 'x'"),
        (NUMBER, "", "n must be a whole number"),
        (NUMBER, "9" * 5000, "n must be a whole number"),
        (spec("bool"), "maybe", "n must be true or false, not 'maybe'"),
        (spec_of("l", list[int]), "1,x", "l[1] must be a whole number, not 'x'"),
        (spec_of("l", list[int]), "[1", "which is not JSON"),
        (spec("dict"), "a=1", "which is not JSON"),
        (spec("dict"), "[" * 100_000, "which is not JSON"),
        (spec("table"), "x.exe", "n must be the path of a table"),
        (spec("table"), "/nowhere/x.csv", "could not be read as a table"),
    ],
)
def test_text_that_does_not_fit_is_refused_by_name(of: ParamSpec, text: str, sentence: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        parse_text(of, text)

    assert sentence in str(caught.value)


def test_path_on_the_command_line_is_read_as_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")

    assert parse_text(spec("table"), str(tmp_path / "t.csv")).to_dict("list") == {"a": [1], "b": [2]}


def test_path_in_the_form_of_a_web_page_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")

    for of in (spec("table"), ParamSpec(name="n", kind="list", item=spec("table"))):
        assert "must be" in str(refusal(partial(parse_text, opens_files=False), of, str(tmp_path / "t.csv")))


def test_schema_tells_bounds_choices_items_and_what_is_required() -> None:
    params = (NUMBER, METHOD, spec_of("l", list[int]), with_default(spec_of("x", float | None), None))

    schema = TaskInfo("t", params=params).json_schema()

    assert schema["required"] == ["n", "method", "l"]
    assert schema["properties"]["n"] == {"type": "integer", "minimum": 1, "maximum": 1_000_000_000}
    assert schema["properties"]["method"] == {"enum": ["euler", "rk4"]}
    assert schema["properties"]["l"] == {"type": "array", "items": {"type": "integer"}}
    assert schema["properties"]["x"] == {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None}
    assert schema["additionalProperties"] is False
    json.dumps(schema, allow_nan=False)


numbers = st.none() | st.integers(-100, 100)
texts = st.text(max_size=20)
specs = st.builds(
    ParamSpec,
    name=st.text(min_size=1, max_size=10),
    kind=st.sampled_from(sorted(KINDS)),
    required=st.booleans(),
    default=st.none() | st.integers() | texts | st.lists(st.integers(), max_size=3),
    default_text=texts,
    nullable=st.booleans(),
    min=numbers,
    max=numbers,
    choices=st.lists(st.builds(Choice, texts, texts | st.integers()), max_size=3).map(tuple),
    item=st.none() | st.builds(ParamSpec, name=st.just("item"), kind=st.sampled_from(sorted(KINDS))),
    label=texts,
    help=texts,
    is_secret=st.booleans(),
)


@given(specs)
def test_spec_survives_json(of: ParamSpec) -> None:
    assert msgspec.convert(json.loads(json.dumps(of.to_json())), ParamSpec) == of


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.binary(max_size=5)
    | st.dates()
    | st.datetimes()
    | st.complex_numbers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(specs, values)
def test_any_value_passes_or_is_refused_in_one_sentence(of: ParamSpec, value: Any) -> None:
    refused = refusal(check, of, value)

    assert refused is None or (refused.field is not None and len(str(refused)) < 1000)


@given(specs, st.text(max_size=50))
def test_any_text_parses_or_is_refused_in_one_sentence(of: ParamSpec, text: str) -> None:
    refused = refusal(parse_text, of, text)

    assert refused is None or "must be" in str(refused) or "could not be read" in str(refused)


@given(st.sampled_from(["int", "float", "bool", "str", "date", "datetime", "path"]), st.data())
def test_plain_form_of_a_value_checks_back_to_the_value(kind: str, data: st.DataObject) -> None:
    strategy: dict[str, st.SearchStrategy[Any]] = {
        "int": st.integers(),
        "float": st.floats(allow_nan=False, allow_infinity=False),
        "bool": st.booleans(),
        "str": texts,
        "date": st.dates(),
        "datetime": st.datetimes(),
        "path": st.text("abc/.", min_size=1).map(Path),
    }
    value = data.draw(strategy[kind])

    back = check(spec(kind), json.loads(json.dumps(plain(value))))

    assert back == value
    assert type(back) is type(value) or isinstance(value, Path)


@given(st.text(max_size=300) | values)
def test_short_repr_is_one_line_of_bounded_length(value: Any) -> None:
    text = short_repr(value)

    assert len(text) <= 80
    assert text.isprintable()


def test_description_stays_short_with_many_choices() -> None:
    many = spec("choice", choices=tuple(Choice(str(n), n) for n in range(1000)))

    assert len(describe(many)) < 150
    assert "1000 in all" in describe(many)
