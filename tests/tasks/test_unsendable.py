"""Errors about functions that cannot be sent name the variable, and say what to do."""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobkit.codec import Codec
from jobkit.model import InvalidParams
from jobkit.tasks.call import Call, encode_call

CODEC = Codec([b"key"])

_CELL = """
import sqlite3, threading

con, lock = sqlite3.connect(":memory:"), threading.Lock()

def q(x):
    return con.execute(x).fetchone()

def outer(x):
    return q(x)

def nested():
    return [lock.locked() for _ in range(2)]

class Model:
    def fit(self):
        return con

def parameter(steps=(i for i in range(3))):
    return steps
"""


@pytest.fixture
def cell() -> Iterator[types.SimpleNamespace]:
    """Variables of a notebook."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(_CELL, names)
    yield types.SimpleNamespace(**names)
    names["con"].close()


def refusal(function: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(InvalidParams) as caught:
        encode_call(CODEC, Call(function, args, {}))
    return str(caught.value)


def test_the_variable_is_named_with_its_type_and_the_way_out(cell: types.SimpleNamespace) -> None:
    assert refusal(cell.q).startswith("`q` uses `con` (sqlite3.Connection), a global of ")
    assert refusal(cell.q).endswith(", which cannot be sent: open it inside `q`")
    assert refusal(cell.nested).endswith(", which cannot be sent: make it inside `nested`")


def test_the_functions_on_the_way_are_named(cell: types.SimpleNamespace) -> None:
    assert refusal(cell.outer).startswith("`outer` uses `q`, which uses `con` (sqlite3.Connection), a global")
    assert refusal(functools.partial(cell.q, 1)).startswith("`q` uses `con`")
    assert refusal(cell.Model().fit).startswith("`fit` uses `con`")


def test_variables_of_functions_around_it_and_defaults_are_named(cell: types.SimpleNamespace) -> None:
    lock = threading.Lock()

    assert refusal(lambda: lock.locked()).startswith("the lambda uses `lock`")
    assert "a variable around it" in refusal(lambda: lock.locked())
    assert refusal(cell.parameter).startswith("`parameter` uses `steps` (generator), the default of a parameter")


def test_an_argument_is_still_named_first(cell: types.SimpleNamespace) -> None:
    assert refusal(len, cell.con).startswith("argument 1 cannot be sent: ")
