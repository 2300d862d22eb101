"""A notebook cell as a function: its source, the variables that it uses, the value of its last expression.

`%%job` submits a `Cell`, which runs the source as a module, so functions of the cell see each other and its other names
as in the notebook. `read_cell` finds the variables that must be sent with it.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import dis
import inspect
import linecache
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType
from typing import Any

import msgspec

from jobkit.model import InvalidParams
from jobkit.model.format import shortened
from jobkit.tasks.sources import Source, install, name_of, parsed

#: Name of the cell's value in its namespace, and of its file in a traceback.
_VALUE, FILE = "__jobkit_value__", "<job cell>"

_LOADS = frozenset({"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"})
_STORES = frozenset({"STORE_NAME", "STORE_GLOBAL"})

#: Statements of which a part may not run.
_MAYBE = (ast.If, ast.Try, ast.While, ast.Match, ast.IfExp, ast.BoolOp, ast.TryStar)

#: Names that IPython defines in every cell. A job has only `display`.
_NOTEBOOK, _DISPLAY = "get_ipython", "display"


class Cell:
    """Source that is called with its variables by name; returns the value of its last expression, or None.

    Attributes:
        label: "Cell In[25]" if it stands below a magic in a cell of that name, which then is its first line; or "".
        first_line: that line, as it was typed.
        is_anonymous: its name is that of a variable for the job, and says nothing of the code.
    """

    is_anonymous = True

    def __init__(
        self,
        source: str,
        names: Iterable[str] = (),
        name: str = "cell",
        label: str = "",
        first_line: str = "%%job",
    ) -> None:
        self.source, self.names, self.label, self.first_line = source, tuple(names), label, first_line
        self.__jobkit_source__ = source
        self.__name__ = self.__qualname__ = name
        self.__doc__ = ""
        parameters = [inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY) for each in self.names]
        self.__signature__ = inspect.Signature(parameters)

    def __reduce__(self) -> tuple[Any, ...]:
        return Cell, (self.source, self.names, self.__name__, self.label, self.first_line)

    def __call__(self, /, **variables: Any) -> Any:
        shown = {} if hasattr(builtins, _DISPLAY) else {_DISPLAY: _shown}  # jobs have one that draws
        namespace: dict[str, Any] = {"__name__": "__main__", **shown, **variables}
        tree = parsed(self.source, FILE)
        if self.label:
            source = Source(self.label, 1, f"{self.first_line}\n{self.source}")
            filename = name_of(source)
            install({filename: source})
            ast.increment_lineno(tree)
        else:
            lines, filename = self.source.splitlines(keepends=True), FILE
            linecache.cache[FILE] = (len(self.source), None, lines, FILE)
        code = _compiled(tree, filename, takes_value=True)
        running = eval(code, namespace)
        if code.co_flags & inspect.CO_COROUTINE:  # the cell uses await
            asyncio.run(running)
        return namespace.get(_VALUE)


def title_of(source: str) -> str:
    """Return the first line of a cell that says something: a comment's text, else the code."""
    lines = [line.strip() for line in source.splitlines() if line.strip(" #\t")]
    first = lines[0].lstrip("# ") if lines else "cell"
    return shortened("".join(c if c.isprintable() else " " for c in first), 60)


def _shown(*values: Any, **_: Any) -> None:
    for value in values:
        print(value)


def _compiled(tree: ast.Module, filename: str = FILE, *, takes_value: bool = False) -> CodeType:
    if takes_value and tree.body and isinstance(last := tree.body[-1], ast.Expr):
        target = ast.Name(_VALUE, ast.Store())
        tree.body[-1] = ast.fix_missing_locations(ast.copy_location(ast.Assign([target], last.value), last))
    code: CodeType = compile(tree, filename, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


class _Names(msgspec.Struct):
    """Names in the statements of a cell that have been read so far."""

    wanted: dict[str, int] = {}  # name to the line of its first read
    # the same for reads inside functions, which happen when they are called
    later: dict[str, int] = {}
    sure: set[str] = set()
    stored: set[str] = set()


def read_cell(source: str, variables: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the variables that the cell uses, in the order of their first read.

    Args:
        source: Python code below the line of the magic, already transformed by IPython.
        variables: the variables of the notebook.

    Raises:
        InvalidParams: not valid Python, or an undefined name; the message has the name and the line. The line of the
            magic is line 1, as in the notebook and in tracebacks.
    """
    source = f"\n{source}"
    try:
        tree = parsed(source, FILE)
        _compiled(parsed(source, FILE))
    except SyntaxError as error:
        raise InvalidParams(f"line {error.lineno} of the cell: {error.msg}", "cell") from None
    names = _Names()
    for statement in tree.body:
        _read_statement(statement, names)
    for name, line in names.later.items():
        if name not in names.sure:
            names.wanted.setdefault(name, line)
    if _NOTEBOOK in names.wanted:
        raise InvalidParams(
            f"line {names.wanted[_NOTEBOOK]} of the cell: a job has no notebook around it, so magics (%...) and shell "
            "lines (!...) do not work in it; use subprocess.run, or put the line into a separate cell",
            "cell",
        )
    has_star = any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in tree.body)
    found = []
    for name, line in names.wanted.items():
        if name in variables and name != _DISPLAY:
            found.append(name)
        elif not (name in names.stored or hasattr(builtins, name) or name == _DISPLAY or has_star):
            raise InvalidParams(
                f"line {line} of the cell: {name} is not defined, neither in the cell nor in the notebook", name
            )
    return tuple(found)


def _read_statement(statement: ast.stmt, names: _Names) -> None:
    code = _compiled(ast.Module([statement], []))
    is_sure = not any(isinstance(node, _MAYBE) for node in ast.walk(statement))
    stored: set[str] = set()
    for name, line, is_load in _accesses(code):
        if not is_load:
            stored.add(name)
        elif name not in names.sure and not (is_sure and name in stored):
            names.wanted.setdefault(name, line)
    for inner in _inner(code):
        own = {name for name, _, is_load in _accesses(inner) if not is_load}
        for name, line, is_load in _accesses(inner):
            if is_load and name not in own:
                names.later.setdefault(name, line)
            elif not is_load and inner.co_flags & inspect.CO_OPTIMIZED:  # not the body of a class
                names.stored.add(name)  # by a `global` statement
    names.stored |= stored
    if is_sure or isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        names.sure |= stored


def _accesses(code: CodeType) -> Iterator[tuple[str, int, bool]]:
    """Yield `(name, line, is_read)` for each access to a global name, in order."""
    for instruction in dis.get_instructions(code):
        is_load = instruction.opname in _LOADS
        if (is_load or instruction.opname in _STORES) and not str(instruction.argval).startswith("__"):
            line = instruction.positions.lineno if instruction.positions else None
            yield str(instruction.argval), line or 1, is_load


def _inner(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inner(constant)
