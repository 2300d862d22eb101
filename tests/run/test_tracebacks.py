"""Exceptions as text."""

from __future__ import annotations

import pytest

from jobkit.model import ErrorKind
from jobkit.model.snapshot import JobError
from jobkit.run.inside.tracebacks import crash_text, describe, error_body, error_types, fault_text
from jobkit.tasks.sources import Source, install, name_of


def caught(function: object) -> BaseException:
    with pytest.raises(BaseException) as info:  # noqa: PT011  # whatever it raises
        function()  # type: ignore[operator]
    return info.value


def test_where_names_the_deepest_frame_of_the_user() -> None:
    def evaluate() -> None:
        import json

        json.loads("{")

    error = describe(caught(evaluate))

    assert error.where.startswith("test_tracebacks.py:")
    assert error.where.endswith(" in evaluate")
    assert "json/decoder.py" in error.traceback


def test_the_lines_around_the_failing_one_are_kept_without_their_indentation() -> None:
    def evaluate() -> None:
        scores = {}
        if not scores:
            raise KeyError("f1")
        print("there are some")

    error = describe(caught(evaluate))

    lines = [line.partition("\t") for line in error.source.split("\n")]
    assert [text for _, _, text in lines[:4]] == [
        "scores = {}",
        "if not scores:",
        '    raise KeyError("f1")',
        'print("there are some")',
    ]
    assert len(lines) == 4  # not the empty ones behind it
    assert error.where.startswith(f"test_tracebacks.py:{lines[2][0]} ")
    assert JobError.from_wire(error.to_wire()) == error


def test_code_without_a_file_fails_without_its_lines() -> None:
    error = describe(caught(lambda: exec(compile("1 / 0", "<made up>", "exec"))))

    assert (error.type, error.where, error.source) == ("ZeroDivisionError", "<made up>:1 in <module>", "")


def test_without_a_frame_of_the_user_there_is_no_where() -> None:
    error = describe(KeyError("x"))

    assert (error.where, error.message) == ("", "'x'")


def test_code_that_cython_compiled_is_a_librarys() -> None:
    error = describe(caught(lambda: exec(compile("\n1 / 0", "pandas/_libs/index.pyx", "exec"))))

    assert error.where.endswith(" in <lambda>")


def test_a_chain_and_a_group_are_shown_in_full() -> None:
    def chained() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    def grouped() -> None:
        raise ExceptionGroup("several", [caught(chained), TypeError("third")])  # type: ignore[list-item]

    text = describe(caught(grouped)).traceback

    for part in ("first", "second", "third", "direct cause", "ExceptionGroup"):
        assert part in text


def test_a_deep_recursion_is_folded() -> None:
    def ping() -> None:
        pong()

    def pong() -> None:
        ping()

    error = describe(caught(ping))

    assert error.type == "RecursionError"
    assert len(error.traceback.split("\n")) <= 202
    assert "lines left out" in error.traceback


def test_hostile_messages_are_clean_and_bounded() -> None:
    error = describe(ValueError("\x1b[31mred\u202e" + "x" * 100_000), ErrorKind.EXCEPTION)

    assert error.message.startswith("redx")
    assert len(error.message) < 1_100
    assert "\x1b" not in error.traceback


def test_types_are_qualified_and_exceptions_survive_a_round_trip() -> None:
    class LocalError(OSError):
        pass

    assert error_types(LocalError())[0].endswith("LocalError")
    assert error_types(LocalError())[1:3] == ("OSError", "Exception")
    assert error_body(ValueError("x"))

    class Picky(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__()

    assert error_body(Picky(1, 2)) == b""


def test_a_crash_in_code_that_was_sent_names_its_cell_and_shows_its_lines() -> None:
    source = Source("Cell In[3]", 1, "def crash():\n    string_at(0)\n")
    name = name_of(source)
    install({name: source})
    report = (
        f'Fatal Python error: Segmentation fault\n\n  File "{name}", line 2 in crash\n  File "a.py", line 1 in main'
    )

    assert fault_text(report) == (
        "Fatal Python error: Segmentation fault\n"
        '  File "a.py", line 1 in main\n'
        "  Cell In[3], line 2 in crash\n"
        "      1 def crash():\n"
        "----> 2     string_at(0)",
        "Cell In[3], line 2 in crash",
    )


def test_a_crash_is_named() -> None:
    assert crash_text(-6) == ("SIGABRT", "the job's process died: signal 6 (SIGABRT)")
    assert crash_text(3)[0] == "exit status 3"
    assert fault_text("") == ("", "")
