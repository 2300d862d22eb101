"""Completion of a search text: what can stand at its caret."""

from __future__ import annotations

import pytest

from jobkit.store.completion import COUNTED, Caret, caret_in, suggestions, unknown
from jobkit.store.grammar import FIELDS, parse


def texts(text: str, counts: dict[tuple[str, ...], int] | None = None) -> list[str]:
    """Return the suggestions at the end of a text."""
    caret = caret_in(text, len(text))
    return [] if caret is None else [each.text for each in suggestions(caret, counts)]


def test_a_word_begins_with_every_field_or_a_day() -> None:
    assert texts("") == [*(f"{name}:" for name in FIELDS), "today", "yesterday"]
    assert texts("state:failed t") == ["task:", "tag:", "took:", "today"]
    assert texts("adam") == []


@pytest.mark.parametrize(
    ("text", "at", "caret"),
    [
        ("state:failed ow", 15, Caret(13, 15, "ow", "", (), "state:failed ")),
        ("state:fai task:x", 9, Caret(6, 9, "fai", "state", (), "  task:x")),
        ("state:failed,ru", 15, Caret(13, 15, "ru", "state", ("failed",), " ")),
        ("state:fa,queued", 8, Caret(6, 8, "fa", "state", (), " ")),
        ('batch:"first tr', 15, Caret(6, 15, "first tr", "batch", (), " ")),
        ("-task:tr", 8, Caret(6, 8, "tr", "task", (), " ")),
        ("-ta", 3, Caret(1, 3, "ta", "", (), " ")),
        ("Task:", 5, Caret(5, 5, "", "task", (), " ")),
        ("a ", 2, Caret(2, 2, "", "", (), "a  ")),
    ],
)
def test_the_part_at_the_caret_is_replaced(text: str, at: int, caret: Caret) -> None:
    found = caret_in(text, at)

    assert found is not None
    assert found._replace(rest=found.rest.strip()) == caret._replace(rest=caret.rest.strip())


@pytest.mark.parametrize("text", ['"sta', "host:x", "http://x"])
def test_text_is_not_completed(text: str) -> None:
    assert texts(text) == []


def test_values_come_by_their_number_of_jobs_and_first_those_that_begin_like_it() -> None:
    counts = {("train",): 5, ("score",): 9, ("retrain",): 7, ("a task, too",): 1}

    assert texts("task:", counts) == ["score", "retrain", "train", '"a task, too"']
    assert texts("task:TR", counts) == ["train", "retrain"]
    assert texts("task:train,", counts) == ["score", "retrain", '"a task, too"']
    caret = caret_in("task:s", 6)
    assert caret is not None
    assert [(each.text, each.note) for each in suggestions(caret, {("score",): 1234})] == [("score", "1,234")]


def test_values_of_workers_batches_and_errors_are_what_the_field_takes() -> None:
    assert texts("worker:", {("gpu.lab-1.17.abcdef",): 2, ("gpu.lab-1.18.abcdef",): 1, ("",): 5}) == ["gpu.lab-1"]
    assert texts("batch:", {("b1\tfirst try",): 2, ("b2",): 1}) == ['"first try"', "b2"]
    assert texts("error:", {("KeyError\texception",): 2, ("",): 9}) == ["KeyError", "exception"]


def test_fixed_values_need_no_jobs_and_are_all_understood() -> None:
    assert texts("state:f") == ["failed"]
    assert texts("in:") == ["archive"]
    for name in FIELDS:
        for value in texts(f"{name}:", {("a b",): 1} if name in COUNTED[1:] else None):
            parse(f"{name}:{value}")


def test_a_value_that_no_job_has_is_named_with_a_close_one() -> None:
    counts = {("train",): 5, ("score",): 9}

    assert unknown(parse("task:trian"), "task", counts) == "No job has the task trian; did you mean train?"
    assert unknown(parse("owner:x"), "owner", {("ada",): 2}) == "No job has the owner x; there is ada"
    assert (
        unknown(parse("owner:x"), "owner", {("ada",): 2, ("bob",): 3}) == "No job has the owner x; there are bob, ada"
    )
    assert unknown(parse("error:KeyErr"), "error", {("KeyError\texception",): 2}).endswith("did you mean KeyError?")
    for known in ("task:train", "task:tr*", "task:x,train", "adam"):
        assert unknown(parse(known), "task", counts) == ""
