"""`%%job` in a real IPython shell: options on the line, variables sent along, the last expression the result."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from jobkit.client.kit import Kit
from jobkit.client.magic import read_line, register
from jobkit.model import InvalidParams


@pytest.fixture(autouse=True)
def _knows_the_magic(shell: Any, kit: Kit) -> None:
    register(shell, lambda: kit)


def refusal(shell: Any, line: str, cell: str) -> str:
    from IPython.core.error import UsageError

    with pytest.raises(UsageError) as caught:
        shell.run_cell_magic("job", line, cell)
    return str(caught.value)


def test_a_cell_runs_as_a_job_with_the_variables_that_it_uses(shell: Any, kit: Kit) -> None:
    shell.run_cell("import math\nn = 3\ndef triple(x): return x * n\nunused = open")

    job = shell.run_cell_magic(
        "job", "mine tags=a,b retries=1", "# Triple it\nprint('hi')\ntriple(14) + math.floor(0.5)"
    )

    assert job.result(60) == 42
    assert shell.user_ns["mine"] is job
    assert (job.task, job.snapshot.spec.title, job.tags) == ("mine", "Triple it", ["a", "b"])
    assert job.params == {"triple": "function triple", "math": "module math"}
    assert "hi" in job.logs()


def test_an_error_in_a_cell_has_its_line(shell: Any) -> None:
    job = shell.run_cell_magic("job", "", "a = 1\nb = [][a]")

    job.wait(60)

    assert job.error.where == "Cell In[1], line 3 in <module>"
    assert job.error.source == "1\t%%job\n2\ta = 1\n3\tb = [][a]"
    assert job.error.traceback.count(", line ") == 1


def test_a_refusal_and_an_error_name_the_line_as_the_notebook_counts_it(shell: Any) -> None:
    """The line of the magic is line 1, and empty lines below it count."""
    assert "line 4 of the cell: undefined_thing is not" in refusal(shell, "y", "a = 1\nb = 2\nundefined_thing + 1")
    assert "line 4 of the cell: a job has no notebook" in refusal(shell, "y", "\na = 1\n!ls")

    job = shell.run_cell_magic("job", "", "\n \n1 / 0")
    job.wait(60)

    assert job.error.where == "Cell In[1], line 4 in <module>"


@pytest.mark.parametrize("is_counted_before", [True, False], ids=["IPython 9.18", "earlier IPython"])
def test_an_error_names_the_cell_that_was_run_and_has_its_first_line_as_typed(
    shell: Any, monkeypatch: pytest.MonkeyPatch, is_counted_before: bool
) -> None:
    for _ in range(2):
        shell.run_cell("pass", store_history=True)
    number = len(shell.user_ns["In"])
    submit = shell.find_cell_magic("job")

    def submit_with_count(line: str, cell: str) -> Any:
        monkeypatch.setattr(shell, "execution_count", number + is_counted_before)
        return submit(line, cell)

    shell.register_magic_function(submit_with_count, magic_kind="cell", magic_name="job")

    shell.run_cell("%%job r3 retries=0\nb = 1\nb / 0", store_history=True)

    job = shell.user_ns["r3"]
    job.wait(60)
    assert job.error.where == f"Cell In[{number}], line 3 in <module>"
    assert job.error.source == "1\t%%job r3 retries=0\n2\tb = 1\n3\tb / 0"


def test_cells_and_lambdas_have_no_usual_time_and_functions_with_a_name_do(shell: Any, kit: Kit) -> None:
    shell.run_cell("def mean(x): return x")

    jobs = [
        shell.run_cell_magic("job", "", "1"),
        shell.run_cell_magic("job", "report", "1"),
        kit.submit(lambda: 1),
        kit.submit(shell.user_ns["mean"], 1),
    ]
    jobs.append(jobs[1].rerun())

    for job in jobs:
        job.wait(60)
    assert [job.snapshot.spec.timed_as for job in jobs] == ["", "", "", "mean", ""]


def test_bad_lines_and_cells_are_one_sentence(shell: Any, kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.user_ns.update(lock=threading.Lock(), big=b"x" * 3_000_000, small=1)
    monkeypatch.setattr(kit.verbs.parts, "_most_bytes", 2_000_000)
    monkeypatch.setattr(kit.verbs.parts, "_file_store", lambda: None)  # as on a shared Redis without JOBKIT_RESULTS

    assert "missing is not defined" in refusal(shell, "", "missing + 1")
    assert "cannot be sent to a job: make it inside the cell" in refusal(shell, "", "lock.locked()")
    assert "argument 'big' of cell takes 3.0 MB, more than the 2.0 MB" in refusal(shell, "", "len(big) + small")
    assert "unknown option 'qeue' (did you mean 'queue'" in refusal(shell, "qeue=gpu", "1")
    assert "timeout must be a number of seconds" in refusal(shell, "timeout=soon", "1")
    assert "kit=nothing must be a variable" in refusal(shell, "kit=nothing", "1")
    assert "magics (%...) and shell lines" in refusal(shell, "", "!ls")
    assert kit.jobs() == []


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("", ("", {})),
        ("mine", ("mine", {})),
        ("mine queue=gpu timeout=1.5", ("mine", {"queue": "gpu", "timeout": 1.5})),
        ("--queue gpu --memory-limit=2GB", ("", {"queue": "gpu", "memory_limit": "2GB"})),
        ("title='two words' key=007", ("", {"title": "two words", "key": "007"})),
    ],
)
def test_the_line_has_a_name_and_options(line: str, read: tuple[str, dict[str, Any]]) -> None:
    assert read_line(line) == read


@pytest.mark.parametrize("line", ["a b", "3x", "--queue", "'open"])
def test_a_line_with_anything_else_is_refused(line: str) -> None:
    with pytest.raises(InvalidParams):
        read_line(line)
