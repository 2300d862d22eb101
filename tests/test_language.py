"""Plain technical English in docstrings, comments, messages and pages: everything in `CLEAN`.

`python -m tests.test_language PATH...` prints the findings of any file or folder; `make check` checks `CLEAN`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.syntax import tree_of

ROOT = Path(__file__).parent.parent

DOCS = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))

#: Folders and pages that are checked.
CLEAN = (
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    *(f"docs/{page}" for page in DOCS),
    "jobkit",
    "benchmarks",
    "tests",
)

#: "in a process of its own and ..."; "of its own workers" is fine.
_OWN = r"of (its|their|our) own(?=[^\w ]|$| (and|with|for|that|is|are|in|by|so|to|at|on|which|if|when|while|each)\b)"

#: Pattern -> what to write instead.
ANYWHERE = {
    r"where (it|there|nobody|somebody|none|that|they|this|no|not|one|he|she)\b(?! can be\b)": '"if" or "when"',
    r"whoever\b|whom\b|whomever\b": "the noun: caller, user, worker",
    r"nobody\b|somebody\b": 'the noun: "no worker", "a user"',
    r"who (looks|asks|comes|speaks|is|has|was|waits)\b": "the noun: caller, user, subscriber, session",
    r"of one's\b|of one (that|who|which|of)\b|those of one\b": 'the noun again: "the owner\'s jobs"',
    _OWN: '"own", "separate": "in a separate process"',
    r"the ones? that\b": "the noun again",
    r"mend(s|ed|ing)?\b": "fix",
    r"in (the|its|their) place of\b": '"instead of", "replaces"',
    r"but for (its|the|their|a|an|one|some)\b": '"except"',
    r"what is there\b|all there is\b|what there is\b": "the noun: snapshot, contents, all jobs",
    r"what (comes|came|became|becomes) of\b": '"result", "outcome"',
    r"(it|that|this) is (?-i:none)\b": '"does not exist", "is not valid"',
    r"is told (of|by|when|that|what)\b|are told\b|be told\b|tells (it|them|him|all|others)\b": "notify",
    r"look(s|ed)? again\b": "poll, retry",
    r"so long as\b|for so long\b": '"while", "for up to N seconds"',
    r"harms? nobody\b|costs? nothing\b": "the effect itself",
}
#: The first words of a docstring.
FIRST = {
    r"(What|Whether|Who|Whose|Whom|How|Where|Which|Those|These|That)\b": (
        '"Return ..." or another verb for functions; a noun phrase for classes and modules'
    ),
}
_ANYWHERE = [(re.compile(rf"\b(?:{pattern})", re.IGNORECASE), instead) for pattern, instead in ANYWHERE.items()]
#: All of them at once, which is much faster.
_ANY = re.compile(rf"\b(?:{'|'.join(ANYWHERE)})", re.IGNORECASE)
_FIRST = [(re.compile(pattern), instead) for pattern, instead in FIRST.items()]
_COMMENTS = {
    ".lua": re.compile(r"--\[\[.*?\]\]|--[^\n]*", re.DOTALL),
    ".css": re.compile(r"/\*.*?\*/", re.DOTALL),
}


#: Comments, and string and template literals. A template inside of a template ends the outer one, which is good enough.
_JS = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`""", re.DOTALL)


def texts(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield `(line, text, is_docstring)` of everything in a file that people read."""
    source = path.read_text("utf-8")
    if path.suffix == ".py":
        yield from _python(source)
    elif path.suffix == ".md":
        prose = re.sub(r"```.*?```|`[^`\n]*`", lambda code: "\n" * code[0].count("\n"), source, flags=re.DOTALL)
        yield 1, prose, False
    elif path.suffix == ".js":
        for match in _JS.finditer(source):
            if " " in match[0]:  # a single word is data
                text = match[0].removeprefix("/**").lstrip(" *\n")
                yield source.count("\n", 0, match.start()) + 1, text, match[0].startswith("/**")
    elif path.suffix in _COMMENTS:
        for match in _COMMENTS[path.suffix].finditer(source):
            yield source.count("\n", 0, match.start()) + 1, match[0], False


def _python(source: str) -> Iterator[tuple[int, str, bool]]:
    docstrings = set()
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docstrings.add(id(node.value))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_docstring = id(node) in docstrings
            if is_docstring or " " in node.value:  # a single word is data
                yield node.lineno, node.value, is_docstring
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name[5:].replace("_", " "), False
    for n, line in enumerate(source.splitlines(), 1):
        yield n, line.partition("#")[2], False  # also the rest of a text with a "#", which is checked anyway


def findings(path: Path) -> Iterator[str]:
    """Yield one line for each finding: place, the words, and what to write instead."""
    for line, text, is_docstring in texts(path):
        for match in _ANY.finditer(text):
            instead = next(instead for pattern, instead in _ANYWHERE if pattern.match(text, match.start()))
            at = line + text.count("\n", 0, match.start())
            yield f"{path.relative_to(ROOT)}:{at}: {match[0]!r}; write {instead}"
        if is_docstring:
            for pattern, instead in _FIRST:
                if match := pattern.match(text):
                    yield f"{path.relative_to(ROOT)}:{line}: starts with {match[0]!r}; write {instead}"


def files(name: str) -> list[Path]:
    path = (ROOT / name).resolve()
    suffixes = {".py", ".md", ".js", *_COMMENTS}
    found = sorted(each for each in path.rglob("*") if each.suffix in suffixes) if path.is_dir() else [path]
    return [each for each in found if each != Path(__file__).resolve()]  # it names what it finds


@pytest.mark.parametrize("name", CLEAN)
def test_clean_rooms_stay_in_plain_technical_english(name: str) -> None:
    found = [line for path in files(name) for line in findings(path)]

    assert files(name), f"{name} does not exist"
    assert not found, "\n".join(found)


def main(names: list[str]) -> int:
    found = [line for name in names or CLEAN for path in files(name) for line in findings(path)]
    print("\n".join(found) or "language: no findings")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
