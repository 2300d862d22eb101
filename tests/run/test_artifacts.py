"""Artifacts: their names, formats and sizes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobkit.model import InvalidParams
from jobkit.run.inside.context import current
from jobkit.run.inside.shown_values import Bounds, checked_name, render


@pytest.mark.parametrize("name", ["a", "plan 2.txt", "größe – ½", "x" * 200, "..a", "a.b.c"])
def test_a_name_may_have_any_printable_characters(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 201,
        "a/b",
        "a\\b",
        "..",
        ".",
        "a\nb",
        "a\x00",
        "\u202eexe.txt",
        "a\u2028b",
        " a",
        "a ",
        None,
        3,
        b"a",
        "\ud800",
    ],
)
def test_other_names_are_refused_with_what_is_allowed(name: Any) -> None:
    with pytest.raises(InvalidParams, match="must be 1 to 200 printable characters without / and"):
        checked_name(name)
    with pytest.raises(InvalidParams, match="must be 1 to 200"):
        current().save(name, b"also outside a job")


@pytest.mark.parametrize(
    ("name", "value", "media", "body"),
    [
        ("a", b"\x00", "application/octet-stream", b"\x00"),
        ("a.png", bytearray(b"x"), "image/png", b"x"),
        ("a", "hällo \udcff", "text/plain", "hällo \\udcff".encode()),
        ("a.csv", "a,b", "text/csv", b"a,b"),
        ("a.png", "no picture", "text/plain", b"no picture"),
        ("a", {"b": [1, None]}, "application/json", b'{"b": [1, null]}'),
        ("a", 3, "application/json", b"3"),
        ("a", {"loss": math.nan, "low": -math.inf}, "application/json", b'{"loss": null, "low": "-inf"}'),
        ("a", {"loss": np.float32(0.5), "n": [np.int64(3)]}, "application/json", b'{"loss": 0.5, "n": [3]}'),
        ("a", np.float64("nan"), "application/json", b"null"),
        ("a", "NaN", "text/plain", b"NaN"),
        ("a", ["NaN"], "application/json", b'["NaN"]'),
    ],
)
def test_text_bytes_and_json_are_kept_unchanged(name: str, value: Any, media: str, body: bytes) -> None:
    assert render(name, value) == (media, body)


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: None, 1j, np.complex64(1)])
def test_values_that_need_a_pickle_are_refused(value: Any) -> None:
    with pytest.raises(InvalidParams, match=r"cannot be kept; allowed are bytes, str, a pathlib\.Path"):
        render("a", value)


def test_the_refusal_of_a_container_says_what_is_in_it() -> None:
    with pytest.raises(InvalidParams, match=r"type dict cannot be kept \(.* a value of type ndarray\);"):
        render("a", {"b": [np.zeros(3)]})


def test_a_path_is_saved_as_its_file(tmp_path: Path) -> None:
    (tmp_path / "model.csv").write_text("1")

    assert render("m", tmp_path / "model.csv") == ("text/csv", tmp_path / "model.csv")
    with pytest.raises(InvalidParams, match="is not a file"):
        render("m", tmp_path)
    with pytest.raises(InvalidParams, match="is not a file"):
        render("m", tmp_path / "none")


def test_bounds_include_kept_artifacts_and_allow_replacing_one() -> None:
    bounds = Bounds(count=2, each_bytes=10, total_bytes=15)

    bounds.check({"a": 10}, "b", 5)
    bounds.check({"a": 10, "b": 5}, "a", 10)
    for kept, name, size, sentence in (
        ({}, "a", 11, "at most 10 are kept"),
        ({"a": 10}, "b", 6, "would make 16 bytes"),
        ({"a": 1, "b": 1}, "c", 1, "a job may keep 2"),
    ):
        with pytest.raises(InvalidParams, match=sentence):
            bounds.check(kept, name, size)


def test_saving_outside_a_job_has_no_effect() -> None:
    current().save("a", json)
