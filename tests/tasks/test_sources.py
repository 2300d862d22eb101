"""Lines of code that travel with functions."""

from __future__ import annotations

import ast
import linecache
from typing import Any

import pytest

from jobkit.codec import DYNAMIC, Codec
from jobkit.tasks.call import Call, encode_call, read_call, read_head
from jobkit.tasks.sources import label_of, parsed

CODEC = Codec([b"key"])


def typed(source: str, file: str) -> Any:
    """Return the function of a cell that the notebook keeps under this file name."""
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, file, "exec"), names)
    return next(value for value in names.values() if callable(value))


def test_equal_code_of_two_cells_has_equal_pickles() -> None:
    source = "def double(x):\n    return 2 * x\n"
    one, other = (
        read_head(encode_call(CODEC, Call(typed(source, file), (), {}))) for file in ("/tmp/1.py", "/tmp/2.py")
    )

    assert one.body == other.body
    assert [source.label for source in one.sources.values()] == ["/tmp/1.py"]
    assert [source.label for source in other.sources.values()] == ["/tmp/2.py"]


def test_plain_calls_carry_no_lines() -> None:
    assert b"sources" not in encode_call(CODEC, Call(None, (1, "a"), {}), ref="json:dumps")


def test_lines_of_a_very_long_function_stay_at_home() -> None:
    long = typed("def add(x):\n" + "    x += 1\n" * 10_000 + "    return x\n", "/tmp/3.py")
    head = read_head(encode_call(CODEC, Call(long, (), {})))

    function = read_call(head, allow_pickle=True).function

    assert head.sources == {}
    assert function is not None
    assert function(0) == 10_000
    assert function.__code__.co_filename == DYNAMIC


def test_only_the_lines_of_the_function_travel() -> None:
    source = "".join(f"x{i} = {i}\n" for i in range(100)) + "def double(x):\n    return 2 * x\n" + "\n" * 100
    head = read_head(encode_call(CODEC, Call(typed(source, "/tmp/4.py"), (), {})))

    ((name, sent),) = head.sources.items()
    read_call(head, allow_pickle=True)

    assert sent.text == "x98 = 98\nx99 = 99\ndef double(x):\n    return 2 * x\n\n\n"
    assert linecache.getline(name, 102) == "    return 2 * x\n"
    assert label_of(name) == "/tmp/4.py"


def test_code_is_parsed_again_when_another_thread_has_disturbed_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    parse, disturbed = ast.parse, iter([True, True, False])

    def may_fail(*args: Any) -> ast.Module:
        if next(disturbed):
            raise SystemError("AST constructor recursion depth mismatch (before=192, after=206)")
        return parse(*args)

    monkeypatch.setattr(ast, "parse", may_fail)

    assert isinstance(parsed("import this").body[0], ast.Import)
