"""Previews of values, which pages show."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from jobkit.run.inside.shown_values import SUMMARY_LIMIT, TEXT_LIMIT, preview_of, safe_repr


@pytest.mark.parametrize(
    ("value", "summary"),
    [
        (None, "None"),
        (True, "True"),
        (3, "3"),
        (3.14159, "3.14159"),
        (1 / 3, "0.333333"),
        (float("nan"), "nan"),
        ("text", "text"),
        ("", "''"),
        ("0.5", "'0.5'"),
        ("True", "'True'"),
        ([1, 2], "[1, 2]"),
        (list(range(100)), "list of 100"),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": "x" * 60}, "dict of 5: a, b, c, …"),
        ({}, "empty dict"),
        (b"abc", "bytes of 3"),
        pytest.param(10**5000, "an integer of about 5,001 digits", id="huge"),
    ],
)
def test_summaries(value: Any, summary: str) -> None:
    preview, text = preview_of(value)

    assert text == summary
    json.dumps(preview, allow_nan=False)


def test_plain_values_are_kept_in_previews() -> None:
    assert preview_of(2.5)[0] == {"type": "float", "text": "2.5", "json": 2.5, "number": 2.5}
    assert preview_of({"a": [1, None]})[0]["json"] == {"a": [1, None]}
    assert "json" not in preview_of({1, 2})[0]


def test_html_is_kept_separately() -> None:
    class Rich:
        def _repr_html_(self) -> str:
            return "<b>bold</b>"

        def __repr__(self) -> str:
            return "rich"

    assert preview_of(Rich())[0] == {"type": "Rich", "text": "rich", "html": "<b>bold</b>"}


class Nasty:
    def __repr__(self) -> str:
        raise SystemExit(3)

    def _repr_html_(self) -> str:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


def test_a_value_whose_methods_all_raise_has_a_preview() -> None:
    assert preview_of(Nasty())[1] == "<Nasty object>"
    assert "Nasty" in preview_of([Nasty()])[0]["text"] or preview_of([Nasty()])[0]["type"] == "list"
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    preview_of(deep)


def test_text_is_bounded_and_clean() -> None:
    preview, summary = preview_of("\x1b[31m" + "y" * 100_000 + "\u202e")

    assert len(preview["text"]) <= TEXT_LIMIT
    assert "\x1b" not in preview["text"]
    assert len(summary) <= SUMMARY_LIMIT
    assert len(safe_repr("z" * 100_000)) < TEXT_LIMIT + 50


def test_no_library_is_imported_for_a_preview() -> None:
    import subprocess

    code = (
        "import sys; from jobkit.run.inside.shown_values import preview_of; preview_of([1]); preview_of(object());"
        "print([m for m in ('numpy', 'pandas', 'matplotlib', 'PIL', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
