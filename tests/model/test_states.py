"""A state that a job never leaves is listed in five files: order, words, colours, and the lists in Lua and on pages."""

from __future__ import annotations

import re

import pytest

from jobkit.model import ENDS, TERMINAL, UNSUCCESSFUL, EventType, JobState
from jobkit.model.format import END_WORDS, FACES, GLYPHS
from tests.test_layers import PACKAGE

#: Files that list these states.
HOMES = {"model/events.py", "model/format.py", "store/lua/lib/call.lua", "ui/words/common.js", "ui/words/tokens.css"}

#: Names of ends in code: a line with three of them lists the ends. What an outcome of an attempt may be is none.
NAMED = re.compile(r"""["'](succeeded|failed|cancelled)["']|\bJobState\.(SUCCEEDED|FAILED|CANCELLED)\b""")
#: Files that show other words in the colours of a job's states.
BORROWED = {"features/audit/audit.js", "features/pools/pools.js"}


def test_a_job_ends_with_a_value_or_in_one_of_the_other_ways() -> None:
    assert ENDS[0] is JobState.SUCCEEDED
    assert set(ENDS) == TERMINAL == {JobState.SUCCEEDED, *UNSUCCESSFUL}
    assert [state.is_terminal for state in JobState] == [False] * 3 + [True] * len(ENDS)
    assert [EventType(end) for end in ENDS]


def test_each_end_has_a_word_a_sign_and_a_verb() -> None:
    assert [name for names in (FACES, GLYPHS, END_WORDS) for name in ENDS if name not in names] == []


@pytest.mark.parametrize(
    ("path", "pattern"),
    [("store/lua/lib/call.lua", r"local ENDS = \{(.*)\}"), ("ui/words/common.js", r"const ENDS = \[([^\]]*)\]")],
)
def test_lua_and_pages_have_the_same_ends_in_the_same_order(path: str, pattern: str) -> None:
    found = re.search(pattern, (PACKAGE / path).read_text("utf-8"))

    assert found is not None
    assert re.findall(r"\w+", found[1]) == list(ENDS)


def test_each_end_has_its_colours() -> None:
    tokens = (PACKAGE / "ui/words/tokens.css").read_text("utf-8")

    assert [end for end in ENDS if f"--jk-{end}:" not in tokens] == []


def test_no_other_file_lists_the_ends() -> None:
    files = [path for end in ("py", "js", "lua", "css") for path in sorted(PACKAGE.rglob(f"*.{end}"))]

    found = [
        f"{name}: {line.strip()}"
        for path in files
        if (name := path.relative_to(PACKAGE).as_posix()) not in HOMES | BORROWED
        for line in path.read_text("utf-8").splitlines()
        if not line.lstrip().startswith("outcome: ")
        if len(set(NAMED.findall(line))) >= 3
    ]
    assert len(files) > 400
    assert found == []
