"""Tracebacks as frames, and as text for terminals and notebooks."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from jobkit.model import ErrorKind, JobFailed, JobkitError
from jobkit.model.snapshot import JobError
from jobkit.model.trace import chain_of, lines_of, picture_of
from jobkit.run.inside.tracebacks import describe
from jobkit.testing import MemoryKit

TRACE = """Traceback (most recent call last):
  File "/home/ada/train.py", line 61, in load
    return scores["f1"]
           ~~~~~~^^^^^^
KeyError: 'f1'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/home/ada/train.py", line 12, in train
    evaluate()
  File "/usr/lib/python3.11/site-packages/sklearn/base.py", line 430, in fit
    inner()
  File "C:\\work\\train.py", line 28, in evaluate
ValueError: no score
for fold 3
"""


def test_a_traceback_is_read_root_cause_first_with_library_frames_marked() -> None:
    cause, last = chain_of(TRACE)

    assert (cause.headline, cause.frames[0].place, cause.frames[0].code) == (
        "KeyError: 'f1'",
        "train.py:61 in load",
        'return scores["f1"]',
    )
    assert [frame.is_library for frame in last.frames] == [False, True, False]
    assert last.frames[-1].place == "train.py:28 in evaluate"
    assert last.headline == "ValueError: no score"


def test_frames_of_cells_are_read_with_the_line_that_failed() -> None:
    [raised] = chain_of(
        "Traceback (most recent call last):\n"
        "  Cell In[26], line 5, in evaluate\n"
        "    return mean(scores)\n"
        "  Cell In[25], line 3, in mean\n"
        "      2     total = sum(scores)\n"
        "----> 3     return total / len(scores)\n"
        "ZeroDivisionError: division by zero"
    )

    assert [(frame.place, frame.code) for frame in raised.frames] == [
        ("Cell In[26], line 5 in evaluate", "return mean(scores)"),
        ("Cell In[25], line 3 in mean", "return total / len(scores)"),
    ]
    assert raised.headline == "ZeroDivisionError: division by zero"


def test_equal_frames_of_a_recursion_are_one_with_a_count() -> None:
    def dive(n: int) -> None:
        dive(n - 1) if n else fail()

    def fail() -> None:
        raise ValueError("at the bottom")

    with pytest.raises(ValueError, match="bottom") as info:
        dive(500)
    [raised] = chain_of("".join(traceback.format_exception(info.value)))

    assert [(frame.place.split()[-1], frame.count) for frame in raised.frames[1:]] == [("dive", 501), ("fail", 1)]
    assert raised.headline == "ValueError: at the bottom"


@pytest.mark.parametrize("text", ["", "no traceback at all", "\x00\n  File \n^^^", '  File "x", line 1'])
def test_text_that_is_not_a_traceback_is_accepted(text: str) -> None:
    chain_of(text)


def described(function: Callable[[], object]) -> JobError:
    with pytest.raises(BaseException) as info:  # noqa: PT011  # whatever it raises
        function()
    return describe(info.value)


def chained() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        raise KeyError("settings") from error


def several() -> None:
    errors = []
    for text in ("a", "b"):
        try:
            int(text)
        except ValueError as error:
            error.add_note(f"row {text}")
            errors.append(error)
    nested = ExceptionGroup("inner", errors)
    raise ExceptionGroup("outer", [nested, TypeError("c")])


def test_a_chain_begins_with_its_root_cause_and_has_the_lines_around_each_failing_one() -> None:
    cause, last = picture_of(described(chained))

    assert (cause.lead, last.lead, last.headline) == ("Root cause", "Then", "KeyError: 'settings'")
    assert cause.headline.startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert [frame.is_library for frame in cause.frames][:2] == [False, True]
    assert cause.frames[0].code == 'json.loads("{")'
    assert f"\t        {cause.frames[0].code}\n" in cause.frames[0].source
    assert last.frames[-1].source


def test_the_exceptions_of_a_group_come_before_it_with_their_notes() -> None:
    chain = picture_of(described(several))

    assert [(raised.lead, raised.headline, raised.notes) for raised in chain] == [
        ("1 of 2", "ValueError: invalid literal for int() with base 10: 'a'", "row a"),
        ("2 of 2", "ValueError: invalid literal for int() with base 10: 'b'", "row b"),
        ("1 of 2", "ExceptionGroup: inner (2 sub-exceptions)", ""),
        ("2 of 2", "TypeError: c", ""),
        ("Then", "ExceptionGroup: outer (2 sub-exceptions)", ""),
    ]
    assert chain[0].frames[-1].code == "int(text)"
    assert chain[-1].frames[-1].code == 'raise ExceptionGroup("outer", [nested, TypeError("c")])'


def test_a_syntax_error_has_the_line_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong_syntax.py").write_text("a = 1\nb = 2 +* 3\n")
    monkeypatch.syspath_prepend(tmp_path)

    error = described(lambda: __import__("wrong_syntax"))
    [raised] = picture_of(error)

    assert error.where == "wrong_syntax.py:2"
    assert raised.frames[-1].source == "1\ta = 1\n2\tb = 2 +* 3"
    evaluated = picture_of(described(lambda: eval("1 +* 2")))[0].frames[-1]
    assert (evaluated.place, evaluated.code) == ("<string>:1", "1 +* 2\n   ^")


def test_a_crash_begins_with_its_headline_and_ends_with_the_last_lines_of_its_log() -> None:
    [raised] = chain_of(
        "Fatal Python error: Segmentation fault\n"
        "  Cell In[3], line 1 in main\n"
        "  Cell In[2], line 2 in crash\n"
        "      1 def crash():\n"
        "----> 2     string_at(0)\n\n"
        "The last lines of its log:\n  step 3"
    )

    assert raised.headline == "Fatal Python error: Segmentation fault"
    assert [frame.place for frame in raised.frames] == ["Cell In[3], line 1 in main", "Cell In[2], line 2 in crash"]
    assert raised.frames[-1].source == "1\tdef crash():\n2\t    string_at(0)"
    assert raised.notes == "The last lines of its log:\n  step 3"


def test_lines_of_a_message_are_no_notes_and_variables_are() -> None:
    error = JobError(ErrorKind.EXCEPTION, "E", "one\ntwo", "E: one\ntwo\nnoted\n\nLocal variables in f:\n  x = 1", "")

    [raised] = picture_of(error)

    assert raised.notes == "noted\n\nLocal variables in f:\n  x = 1"


def test_as_text_own_frames_have_their_lines_and_those_of_libraries_are_counted() -> None:
    lines = lines_of(described(chained))

    assert lines[0] == "Root cause:"
    assert next(line for line in lines if line.startswith("  ---> ")).endswith('        json.loads("{")')
    assert "  3 library frames" in lines
    assert lines.index("Then:") > lines.index("  3 library frames")
    assert lines[-1] == "KeyError: 'settings'"
    assert lines_of(JobError(ErrorKind.TIMEOUT, "timeout", "it took too long")) == ["it took too long"]


def test_a_failed_job_is_shown_in_a_cell_with_its_own_frames_and_the_line_that_wanted_its_result() -> None:
    error = described(chained)
    with pytest.raises(JobFailed) as info:
        raise JobFailed(f"job 1 (f) failed: KeyError: 'settings'\n\n{error.traceback}", error, lines_of(error))

    lines = info.value._render_traceback_()

    assert lines[1:3] == ["In the job:", "Root cause:"]
    here = lines[lines.index("Here:") :]
    assert here[1].startswith("  test_trace.py:")
    assert here[-1] == "JobFailed: job 1 (f) failed: KeyError: 'settings'"
    assert len(here) == 4
    with pytest.raises(JobFailed) as info:
        raise JobFailed("no more is known")
    assert info.value._render_traceback_()[-1] == "JobFailed: no more is known"


def test_every_exception_of_jobkit_is_shown_in_a_cell_with_the_users_lines_only() -> None:
    with MemoryKit() as kit:
        for wrong in (lambda: kit.get("5f0c1234aabbccdd"), lambda: kit.jobs(state="over")):
            with pytest.raises(JobkitError) as info:
                wrong()

            _, *lines, last = info.value._render_traceback_()
            assert [line.split(":")[0] for line in lines[::2]] == ["  test_trace.py"] * 2
            assert last == f"{type(info.value).__name__}: {info.value}"
