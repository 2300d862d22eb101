"""Forms of questions: what a job can ask for, and what its answer becomes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pandas as pd
import param
import pytest

import jobkit
from jobkit.features.questions.question import Question, form_of, made
from jobkit.model import InvalidParams


@dataclass
class Cut:
    noise: Annotated[int, jobkit.Range(0, 9)]
    token: str = "s3cret"


class Side(TypedDict, total=False):
    side: Literal["left", "right"]


class Tuning(param.Parameterized):
    rate = param.Number(0.1, bounds=(0, 1))


class Colour(Enum):
    RED = "#f00"


def choose(n: int, why: str = "") -> None: ...


def answered(wanted: Any, answer: Any) -> Any:
    """Return what the job gets for an answer that travels as JSON."""
    form = form_of(wanted)
    question = Question("?", form.params, form.is_one)
    wire = msgspec.json.encode({"text": "?", "params": [spec.to_json() for spec in form.params], "is_one": form.is_one})
    read = msgspec.json.decode(wire, type=Question)
    assert read.params == tuple(spec._as_data() for spec in question.params)
    return made(form, msgspec.json.decode(msgspec.json.encode(read.check(answer))))


@pytest.mark.parametrize(
    ("wanted", "answer", "value"),
    [
        (bool, True, True),
        (str, "text", "text"),
        (Literal["a", "b"], "b", "b"),
        (["red", "blue"], "red", "red"),
        ((1, 2), 2, 2),
        ({"Red": "#f00", "Blue": "#00f"}, "Blue", "#00f"),
        (Colour, "RED", Colour.RED),
        (Annotated[int, jobkit.Range(0, 9)], 9, 9),
        (list[int], [1, 2], [1, 2]),
        (int | None, None, None),
        (Cut, {"noise": 3}, Cut(3)),
        (Side, {"side": "left"}, {"side": "left"}),
        (Side, {}, {}),
        (choose, {"n": 3}, {"n": 3, "why": ""}),
        (inspect.signature(choose), {"n": 3, "why": "x"}, {"n": 3, "why": "x"}),
    ],
)
def test_an_answer_becomes_the_value_that_the_job_asked_for(wanted: Any, answer: Any, value: Any) -> None:
    assert answered(wanted, answer) == value


def test_a_class_of_param_gives_an_instance() -> None:
    assert answered(Tuning, {"rate": 0.5}).rate == 0.5
    assert answered(Tuning, {}).rate == 0.1


@pytest.mark.parametrize(
    ("wanted", "answer", "says"),
    [
        (bool, "perhaps", "answer must be true or false, not 'perhaps'"),
        (["red", "blue"], "green", "answer must be one of red, blue, not 'green'"),
        (Cut, {"noise": 12}, "noise must be a whole number from 0 to 9, not 12"),
        (Cut, {}, "missing argument 'noise'"),
        (Cut, {"noise": 1, "sise": 2}, "unexpected argument 'sise'"),
        (Cut, 3, "the answer must be values by name"),
        (str, "x" * 200_000, "at most 100,000 are allowed"),
    ],
)
def test_an_answer_that_is_not_allowed_is_refused_with_the_sentence_of_a_submit(
    wanted: Any, answer: Any, says: str
) -> None:
    with pytest.raises(InvalidParams, match=says):
        answered(wanted, answer)


@pytest.mark.parametrize("wanted", [object, [], "text", 5, pd.DataFrame, list[pd.DataFrame], lambda: None])
def test_what_no_form_can_be_made_of_is_refused(wanted: Any) -> None:
    with pytest.raises(InvalidParams):
        form_of(wanted)


def test_the_words_of_a_command_line_are_an_answer() -> None:
    several, one = form_of(Cut), form_of(bool)

    assert Question("?", several.params).parse(["noise=3"]) == {"noise": 3}
    for words in (["yes"], ["answer=yes"]):
        assert Question("?", one.params, True).parse(words) is True
    text = Question("?", form_of(str).params, True)
    assert text.parse(["two", "words"]) == "two words"


def test_the_history_shows_no_secrets_of_an_answer() -> None:
    question = Question("?", form_of(Cut).params)

    assert question.brief({"noise": 3, "token": "s3cret"}) == "noise=3, token=***"
