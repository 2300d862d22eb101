"""The page for people with a problem quotes sentences that the code has."""

from __future__ import annotations

import ast
import re

from tests.support import ROOT
from tests.syntax import tree_of

#: Pieces of a sentence that are too short to tell anything.
_LEAST = 8


def sentences() -> str:
    """Return all texts of the package; `…` stands for what they insert."""
    found = [path.read_text("utf-8") for path in (ROOT / "jobkit").rglob("*.lua")]
    for path in (ROOT / "jobkit").rglob("*.py"):
        for node in ast.walk(tree_of(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_every_sentence_of_the_page_is_in_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    quoted = [text for cell in re.findall(r"(?m)^\| (`.*?`[^|]*?) \|", page) for text in re.findall(r"`(.+?)`", cell)]
    known = sentences()

    pieces = [piece.strip() for text in quoted if not text.startswith("jobkit ") for piece in text.split("…")]
    pieces = [piece for piece in pieces if len(piece) >= _LEAST]

    assert len(quoted) > 40
    assert [piece for piece in pieces if piece not in known] == []
