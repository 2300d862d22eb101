"""Variables of the failing frame, if they are requested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.run.inside.tracebacks import describe, keep_locals, shown

from .conftest import Heard, started
from .test_process import failure
from .test_tracebacks import caught


@pytest.fixture
def _kept() -> Iterator[None]:
    keep_locals(True)
    yield
    keep_locals(False)


def fails(n: int, password: str) -> None:
    import math

    row = {"x": n, "api_key": "hunter2-key"}
    url = "redis://user:hunter2@host/0"
    raise ValueError(math.pi, len(row), len(url))


def test_variables_are_not_kept_by_default() -> None:
    text = describe(caught(lambda: fails(3, "hunter2"))).traceback

    assert text.endswith("ValueError: (3.141592653589793, 2, 27)")


@pytest.mark.usefixtures("_kept")
def test_the_failing_frame_has_variables_without_secrets_modules_and_functions() -> None:
    error = describe(caught(lambda: fails(3, "hunter2")))

    head, _, text = error.traceback.partition("\n\nLocal variables in ")
    assert head.startswith("Traceback")
    assert text.split("\n") == [
        f"{error.where}:",
        "  n = 3",
        "  password = ***",
        "  row = {'api_key': ***, 'x': 3}",
        "  url = 'redis://user:***@host/0'",
    ]


@dataclass
class Login:
    name: str
    password: str


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Login("ada", "hunter2"), "Login(name='ada', password=***)"),
        ([{"Secret_Token": b"hunter2"}], "[{'Secret_Token': ***}]"),
        ("?access_token=hunter2&x=1", "'?access_token=***"),
        (Odd(), "<Odd instance at"),
        pytest.param(bytes(10**8), "(100,000,000 bytes)", id="many bytes"),  # which would name it
        pytest.param(list(range(10**6)), "[0, 1, 2, 3, 4, 5, ...]", id="a long list"),
        ("a\nb\x1b[31m", r"'a\nb\x1b[31m'"),
    ],
)
def test_a_value_is_shown_by_its_repr_or_size(value: Any, text: str) -> None:
    line = shown(value)

    assert text in line
    assert "hunter2" not in line


@given(
    st.recursive(st.none() | st.integers() | st.text() | st.binary(), lambda inner: st.lists(inner) | st.tuples(inner))
)
def test_any_value_is_one_bounded_line(value: Any) -> None:
    assert len(shown(value)) < 600
    assert shown(value).isprintable()


@pytest.mark.usefixtures("_kept")
async def test_a_jobs_process_keeps_variables_too(heard: Heard) -> None:
    def evaluate(n: int) -> float:
        half = n / 2
        return half / 0

    async with started(heard=heard) as runner:
        error = failure(await runner.do(evaluate, 3))

    assert error.traceback.endswith("  n = 3\n  half = 1.5")
