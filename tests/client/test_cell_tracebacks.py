"""Errors of code typed in cells: the place as IPython calls it, with the lines around it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from jobkit.client.kit import Kit
from jobkit.model import JobFailed

HELPER = '''\
def mean(scores):
    """Return the mean."""
    total = sum(scores)
    return total / len(scores)
'''

TASK = """\
import functools

def logged(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)
    return inner

@logged
def evaluate(scores):
    return mean(scores)
"""


def run(shell: Any, source: str) -> str:
    """Run a cell; return what IPython calls it."""
    shell.run_cell(source, store_history=True).raise_error()
    return f"Cell In[{shell.execution_count - 1}]"


def test_the_traceback_names_the_cells_and_has_the_lines_around_the_error(shell: Any, kit: Kit) -> None:
    helper, task = run(shell, HELPER), run(shell, TASK)

    job = kit.submit(shell.user_ns["evaluate"], [])
    job.wait(60)

    assert job.error.where == f"{helper}, line 4 in mean"
    without_carets = re.sub(r"^ *\^+\n", "", job.traceback, flags=re.MULTILINE)  # Python 3.13 leaves them out
    assert without_carets == (
        "Traceback (most recent call last):\n"
        f"  {task}, line 6, in inner\n"
        "    return function(*args)\n"
        f"  {task}, line 11, in evaluate\n"
        "    return mean(scores)\n"
        f"  {helper}, line 4, in mean\n"
        '      2 """Return the mean."""\n'
        "      3 total = sum(scores)\n"
        "----> 4 return total / len(scores)\n"
        "ZeroDivisionError: division by zero"
    )
    with pytest.raises(JobFailed, match=r"----> 4 return total / len\(scores\)") as failed:
        job.result()
    assert [entry.name for entry in failed.traceback] == [
        "test_the_traceback_names_the_cells_and_has_the_lines_around_the_error",
        "result",
    ]


@pytest.mark.parametrize(
    ("source", "line", "name"),
    [
        ("made = lambda x: (\n    x / 0\n)", 2, "<lambda>"),
        ("def outer():\n    def inner(x):\n        return x / 0\n    return inner\nmade = outer()", 3, "inner"),
        ("class Halver:\n    def __call__(self, x):\n        return x / 0\nmade = Halver().__call__", 3, "__call__"),
    ],
)
def test_lambdas_nested_functions_and_methods_have_their_lines(
    shell: Any, kit: Kit, source: str, line: int, name: str
) -> None:
    cell = run(shell, source)

    job = kit.submit(shell.user_ns["made"], 1)
    job.wait(60)

    assert job.error.where == f"{cell}, line {line} in {name}"
    assert f"----> {line} " in job.traceback
    assert f"{line}\t" in job.error.source


def test_a_repeated_job_has_the_lines_too(shell: Any, kit: Kit) -> None:
    cell = run(shell, "def halve(x):\n    return x / 0")
    job = kit.submit(shell.user_ns["halve"], 1)
    job.wait(60)

    for again in (job.retry(), job.rerun(x=2)):
        again.wait(60)
        assert again.error.where == f"{cell}, line 2 in halve"
        assert "----> 2     return x / 0" in again.traceback


def test_failures_of_a_cell_that_is_run_again_are_one_group(shell: Any, kit: Kit) -> None:
    for _ in range(2):
        run(shell, "def halve(x):\n    return x / 0")
        kit.submit(shell.user_ns["halve"], 1).wait(60)

    (group,) = kit.failures()
    assert group.count == 2


def test_code_without_source_has_its_line_number(kit: Kit) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("def halve(x):\n    return x / 0", "<generated>", "exec"), names)

    job = kit.submit(names["halve"], 1)
    job.wait(60)

    assert job.error.where == "line 2 in halve"
    assert job.error.source == ""
