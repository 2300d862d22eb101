"""Line diffs between two states of a repository of which only the diffs to one commit are known."""

from __future__ import annotations

import difflib
import random

import pytest

from jobkit.features.compare.code_diff import between, of_lines
from jobkit.features.provenance.made_by import sections


def as_git(old: list[str], new: list[str]) -> str:
    lines = difflib.unified_diff(old, new, "a/train.py", "b/train.py", n=3, lineterm="")
    return "\n".join(["diff --git a/train.py b/train.py", *lines, ""]) if old != new else ""


def edited(lines: list[str], chance: random.Random) -> list[str]:
    out = []
    for line in lines:
        dice = chance.random()
        out += [] if dice < 0.05 else [f"{line} changed"] if dice < 0.1 else [line, "more"] if dice < 0.15 else [line]
    return out


@pytest.mark.parametrize("seed", range(20))
def test_changed_lines_are_those_that_the_whole_files_differ_by(seed: int) -> None:
    chance = random.Random(seed)
    base = [f"line {n}" for n in range(80)]
    one, other = edited(base, chance), edited(base, chance)

    found = between("train.py", as_git(base, one), as_git(base, other))

    kept = [text for mark, text in found.lines if mark in " -"], [text for mark, text in found.lines if mark in " +"]
    for file, lines in zip((one, other), kept, strict=True):
        at = iter(file)
        assert all(any(line == each for each in at) for line in lines)  # in the order of the file
    assert len(one) - found.removed + found.added == len(other)


def test_a_file_that_only_one_side_has_changed_or_added_is_compared_with_the_commit() -> None:
    head = "diff --git a/new.py b/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/new.py\n"
    new = f"{head}@@ -0,0 +1,2 @@\n+a = 1\n+b = 2\n"

    assert list(between("new.py", "", new).lines) == [("+", "a = 1"), ("+", "b = 2")]
    assert list(between("new.py", new, "").lines) == [("-", "a = 1"), ("-", "b = 2")]
    assert list(sections(f"{new}{new.replace('new.py', 'other file.py')}")) == ["new.py", "other file.py"]


def test_what_is_no_text_is_said_to_differ() -> None:
    binary = "diff --git a/x.png b/x.png\nBinary files a/x.png and b/x.png differ\n"

    assert between("x.png", binary, "").note == "it is not text, or its lines were not kept"


def test_long_differences_are_cut_and_very_long_texts_not_compared() -> None:
    many, more = ([f"{word} {n}" for n in range(900)] for word in ("old", "new"))

    assert of_lines("f", many, more).note == "1,400 more lines"
    assert of_lines("f", ["x"] * 5_000, ["y"]).note == "it has more than 4,000 lines"
