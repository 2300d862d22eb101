"""A job's arguments as pages show them: short, JSON, without secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.tasks.references import Reference
from jobkit.tasks.values import MAX_BYTES, shown_and_abridged


def shown(bound: Mapping[str, Any]) -> dict[str, Any]:
    return shown_and_abridged(bound)[0]


class Colour(Enum):
    RED = "r"


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "shows"),
    [
        (5, 5),
        (0.5, 0.5),
        (True, True),
        (None, None),
        ("euler", "euler"),
        ([1, 2, 3], [1, 2, 3]),
        ((1, "a"), [1, "a"]),
        ({"a": 1}, {"a": 1}),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (2**60, str(2**60)),
        pytest.param(10**5000, "a whole number of 16610 bits", id="huge"),
        ("x" * 500, "x" * 99 + "…"),
        (list(range(100)), "list of 100"),
        ({"password": "p", "a": {"token": "t"}}, {"password": "***", "a": {"token": "***"}}),
        (date(2026, 11, 24), "2026-11-24"),
        (Path("a/b"), "a/b"),
        (Colour.RED, "RED"),
        (b"abc", "3 bytes"),
        (pd.DataFrame({"a": range(120), "b": 1}), "DataFrame 120 × 2"),
        (np.zeros((3, 4)), "ndarray 3 × 4"),
        (Rude(), "a Rude"),
        ("\ud800", "?"),
    ],
)
def test_value_is_shown_as(value: Any, shows: Any) -> None:
    assert shown({"x": value}) == {"x": shows}


def test_secrets_are_masked_by_name() -> None:
    assert shown({"api_key": "k", "db_password": "p", "n": 1}) == {"api_key": "***", "db_password": "***", "n": 1}


def test_a_reference_to_a_result_names_its_job() -> None:
    assert shown({"x": Reference(["8f2"])}) == {"x": "result of job 8f2"}
    assert shown({"x": Reference(["a", "b"], is_many=True)}) == {"x": "results of 2 jobs"}


def test_many_long_arguments_stay_within_two_kilobytes() -> None:
    out = shown({f"argument_{n}": "é" * 500 for n in range(500)})

    assert len(msgspec.json.encode(out)) <= MAX_BYTES
    assert "…" in out


def test_arguments_that_are_shortened_together_are_abridged() -> None:
    bound = {f"text_{n}": "x" * 99 for n in range(30)} | {"n": 1}

    out, abridged = shown_and_abridged(bound)

    assert set(abridged) == {name for name in bound if out.get(name) != bound[name]}
    assert "n" not in abridged


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=15) | st.dictionaries(st.text(max_size=90), inner, max_size=15),
    max_leaves=60,
)


@given(st.dictionaries(st.text(max_size=90), values, max_size=80))
def test_anything_becomes_small_json(bound: dict[str, Any]) -> None:
    out = shown(bound)

    json.dumps(out, allow_nan=False)
    assert len(msgspec.json.encode(out)) <= MAX_BYTES
