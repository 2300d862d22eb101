"""The search text: every field, its values, and the sentence for each that is refused."""

from __future__ import annotations

import pytest

from jobkit.model import InvalidParams
from jobkit.store.grammar import HELP, parse, quoted
from jobkit.store.query import Query


def test_every_field_becomes_a_filter_and_the_rest_is_text() -> None:
    query = parse(
        "state:failed,waiting task:train* queue:gpu owner:ada tag:a,b worker:gpu-1 error:KeyError "
        'batch:b1,"b 2" "two words" x'
    )

    assert query == Query(
        states=("failed", "queued", "scheduled"),
        task=("train*",),
        queue=("gpu",),
        owner=("ada",),
        tag=("a", "b"),
        worker=("gpu-1",),
        error=("KeyError",),
        batch=("b1", "b 2"),
        search=("two words", "x"),
    )


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("age:<1h", None, 3600),
        ("age:1h", None, 3600),
        ("newer:90", None, 90),
        ("older:2d", 172_800, None),
        ("age:>=1.5m", 90, None),
        ("age:1h..2h", 3600, 7200),
        ("age:..2h", None, 7200),
        ("newer:1h older:10m", 600, 3600),
    ],
)
def test_ages_are_lengths_of_time(text: str, least: float | None, most: float | None) -> None:
    query = parse(text)

    assert (query.older_s, query.newer_s) == (least, most)


def test_a_duration_is_a_minimum_by_default() -> None:
    assert (parse("took:10s").took_min_s, parse("took:<500ms").took_max_s) == (10, 0.5)


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ('"state:failed"', ("state:failed",)),
        ("http://host:80/x", ("http://host:80/x",)),
        ("host:x", ("host:x",)),
        ("don't", ("don't",)),
        (r"C:\work", (r"c:\work",)),
        ('an "open quote', ("an", "open quote")),
        ('lr=0.003 name="x y"', ("lr=0.003", "name=x y")),
        ("state: :x", ("state:", ":x")),
        ('""', ()),
        ("", ()),
    ],
)
def test_an_unknown_field_is_text(text: str, texts: tuple[str, ...]) -> None:
    query = parse(text)

    assert query.texts == texts
    assert query.states == ()


def test_values_in_quotes_keep_spaces_and_commas() -> None:
    assert parse('task:"my task, too",other').task == ("my task, too", "other")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("state:faild", "state must be one of scheduled, .* not 'faild'"),
        ("age:soon", "age must be a length of time like 90s, 10m, 1h, 2d, 1w, 1y, not 'soon'"),
        ("older:<", "older must be a length of time"),
        ("took:5x", "took must be a length of time .* not '5x'"),
        ("age:2h..1h", "age must name the smaller length first"),
        ("age:..x", "age must be a length of time"),
        ("x" * 501, "at most 500 characters, this one has 501"),
    ],
)
def test_a_value_that_is_refused_is_named(text: str, sentence: str) -> None:
    with pytest.raises(InvalidParams, match=sentence):
        parse(text)


def test_words_of_a_command_line_keep_unquoted_spaces() -> None:
    line = " ".join(map(quoted, ["task:my task", "two words", "lr=0.1", "x:y z"]))

    assert parse(line) == Query(task=("my task",), search=("two words", "lr=0.1", "x:y z"))


def test_every_example_of_the_help_is_understood() -> None:
    for example, _ in HELP:
        parse(example)
