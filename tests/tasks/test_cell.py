"""A notebook cell as a function: its variables, its result, and refused cells."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import pytest

from jobkit.model import InvalidParams
from jobkit.tasks.cell import Cell, read_cell

HAS: dict[str, Any] = dict.fromkeys(("n", "data", "helper", "i", "x", "np", "total"), 1)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("n + 1", ("n",)),
        ("n = 1\nn + 1", ()),
        ("n = n + 1\nn", ("n",)),
        ("n += 1", ("n",)),
        ("for i in data: print(i)", ("data",)),
        ("import numpy as np\nnp.zeros(3)", ()),
        ("def f(): return helper(n)\nf()", ("helper", "n")),
        ("def f(): return later()\ndef later(): return 1\nf()", ()),
        ("[i * n for i in data]", ("data", "n")),
        ("if n:\n    x = 1\nprint(x)", ("n", "x")),
        ("x = 1\nif x:\n    total = 2\nprint(total)", ("total",)),
        ("class A:\n    i = 1\n    j = i + n", ("n",)),
        ("with open('f') as i: x = i.read()\nlen(x)", ()),
        ("lambda: x", ("x",)),
        ("f'{n}'", ("n",)),
        ("print(data[n]); display(x)", ("data", "n", "x")),
        ("await helper()", ("helper",)),
        ("def f():\n    global made\n    made = 1\nf()\nmade", ()),
        ("try:\n    x = 1\nexcept ValueError as error:\n    print(error)", ()),
        ("from math import *\nsqrt(n)", ("n",)),
    ],
)
def test_a_cell_takes_the_variables_that_it_does_not_define(source: str, names: tuple[str, ...]) -> None:
    assert sorted(read_cell(source, HAS)) == sorted(names)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a = 1\nmissing + a", "line 3 of the cell: missing is not defined"),
        ("def f():\n    return missing", "line 3 of the cell: missing is not defined"),
        ("def f(:", "line 2 of the cell: invalid syntax"),
        ("get_ipython().system('ls')", "a job has no notebook around it"),
    ],
)
def test_cells_that_cannot_run_are_refused_before_they_are_sent(source: str, message: str) -> None:
    with pytest.raises(InvalidParams, match=message):
        read_cell(source, HAS)


def test_a_cell_returns_its_last_expression_and_is_sent_unchanged() -> None:
    cell = pickle.loads(pickle.dumps(Cell("def f(k):\n    return k * n\nm = 2\nf(m)", ["n"], "mine")))

    assert cell(n=21) == 42
    assert cell.__name__ == "mine"
    assert Cell("m = 2")() is None


def test_a_cell_may_await() -> None:
    assert Cell("import asyncio\nawait asyncio.sleep(0, result=7)")() == 7


def test_functions_of_a_cell_see_each_other_and_its_globals() -> None:
    source = "def even(k): return k == 0 or odd(k - 1)\ndef odd(k): return k != 0 and even(k - 1)\neven(10)"

    assert Cell(source)() is True


def test_a_traceback_shows_the_lines_of_the_cell() -> None:
    try:
        Cell("a = 1\nb = a / 0")()
    except ZeroDivisionError as error:
        text = "".join(traceback.format_exception(error))

    assert 'File "<job cell>", line 2' in text
    assert "b = a / 0" in text


def test_display_prints_in_a_job(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("builtins.display", raising=False)  # of an IPython that another test has used

    Cell("display(1, 'two')")()

    assert capsys.readouterr().out == "1\ntwo\n"
