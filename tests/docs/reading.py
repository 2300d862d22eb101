"""Pages as their reader runs them: blocks of Python in their order, in one namespace for each page.

Comments say what a fence does not, as Sybil reads them: `<!-- skip: next "reason" -->` keeps a block from being run,
and `<!-- invisible-code-block: python ... -->` has what a page takes for granted. `mytasks.py` has what many pages do.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat.v4
from IPython.core.interactiveshell import InteractiveShell
from sybil import Example
from sybil.document import Document
from sybil.parsers.myst import CodeBlockParser, SkipParser

import jobkit
from tests.support import ROOT
from tests.syntax import tree_of

#: All pages. The changelog will need an exception when it tells of things that have gone.
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

#: The functions that pages take for granted.
GRANTED = Path(__file__).with_name("mytasks.py")

#: Comment of a statement that raises: `# JobFailed: ...`, or `# refused: ...` for an argument that is not allowed.
_RAISES = re.compile(r"  # (?:refused|JobFailed|InvalidParams|JobCancelled)\b")


#: A fence, and the comment before it.
_FENCE = re.compile(
    r"^(?:<!-- (?P<comment>[^\n]*) -->\n+)?(?P<begin>(?P<indent> *)(?P<mark>```+|~~~+|:::+))(?P<info>[^\n`]*)\n"
    r"(?P<text>.*?)^(?P=indent)(?P=mark) *$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Fence:
    """A fenced block of a page.

    Attributes:
        page: with its path from the root. language: first word behind the fence; `{name}` for a directive of the site.
        argument: what follows it. comment: the comment on the line before, if it is one line.
    """

    page: str
    line: int
    language: str
    argument: str
    text: str
    comment: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def fences(page: Path) -> list[Fence]:
    """Return all fenced blocks of a page in their order."""
    text, name = page.read_text("utf-8"), page.relative_to(ROOT).as_posix()
    found = []
    for match in _FENCE.finditer(text):
        language, _, argument = match["info"].strip().partition(" ")
        line = text.count("\n", 0, match.start("begin")) + 1
        found.append(Fence(name, line, language, argument, match["text"], match["comment"] or ""))
    return found


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of a page in one language."""
    return [fence.text for fence in fences(ROOT / page) if fence.language == language]


def read(path: Path) -> Document:
    """Return the blocks of Python of a page."""
    return Document.parse(str(path), CodeBlockParser("python", run), SkipParser())


def shown(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of each block of Python that a reader sees."""
    for example in read(path):
        if example.region.evaluator is run and not example.document.text.startswith("<!--", example.region.start):
            yield example.line, str(example.parsed)


def completed(code: str) -> str:
    """Return a block without commands of IPython. Decorators alone get a function each."""
    lines = ["" if re.match(r"[%!]", line) else line for line in code.rstrip().split("\n")]
    if all(line.startswith("@") for line in lines):
        lines = [f"{line}\ndef function(user=''): ..." for line in lines]
    return "\n".join(lines)


def parsed(code: str) -> ast.Module:
    """Return the tree of a block."""
    return tree_of(completed(code))


def granted() -> dict[str, Any]:
    """Return the namespace in which a page begins. Its functions belong to `__main__`, as in a notebook."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(GRANTED.read_text("utf-8"), str(GRANTED), "exec"), names)
    return names


def write_notebook() -> None:
    """Write the notebook that pages run, `report.ipynb`, to the working directory."""
    cells = [("region = 'EU'\nlimit = 10", ["parameters"]), ("f'{limit} orders of {region}'", [])]
    made = [nbformat.v4.new_code_cell(code, metadata={"tags": tags}) for code, tags in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=made), "report.ipynb")


def run_cells(text: str, names: dict[str, Any]) -> None:
    """Run a block with `%%` or `%load_ext` of IPython as one cell, with the extensions that earlier blocks loaded."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(user_ns=names)
    loads = names.setdefault("_loads", [])
    for cell in (*loads, text):
        shell.run_cell(cell).raise_error()
    loads += re.findall(r"(?m)^%load_ext .*", text)
    InteractiveShell.clear_instance()


def run(example: Example) -> None:
    """Run a block, statement by statement. One whose comment says that it raises must."""
    if re.search("(?m)^%(%|load_ext )", str(example.parsed)):
        return run_cells(str(example.parsed), example.namespace)
    text = completed(str(example.parsed))
    lines = text.split("\n")
    for statement in tree_of(text).body:
        end = statement.end_lineno or statement.lineno
        raises = _RAISES.search(lines[end - 1])
        ast.increment_lineno(statement, example.line + example.parsed.line_offset)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(ast.Module([statement], []), example.path, "exec", flags=flags, dont_inherit=True)
        try:
            waits = eval(code, example.namespace)
            if inspect.iscoroutine(waits):
                asyncio.run(waits)
        except (jobkit.JobkitError, TypeError):
            if not raises:
                raise
        else:
            assert not raises, f"{example.path}:{statement.lineno} raises nothing"
