"""Parameters of a notebook, by papermill's convention: the assignments of the cell that is tagged `parameters`.

    region = "EU"                                # two-letter code      (text, with help)
    since: date = date(2026, 1, 1)               # an annotation decides the type
    limit: Annotated[int, Range(1, 100)] = 10    # and bounds
    month: str                                   # without a value it is required

Values are given by a cell that is inserted behind it, as papermill does.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
import typing
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from jobkit.codec import pickled
from jobkit.model import InvalidParams
from jobkit.tasks.masking import is_secret, masked
from jobkit.tasks.sources import parsed
from jobkit.tasks.specs import Range

#: End of the names of notebook files.
SUFFIX = ".ipynb"

#: Tags of the cell of the parameters, and of the cell that is inserted behind it.
TAG, INJECTED = "parameters", "injected-parameters"

#: What annotations may name: the notebook's own imports have not run when its parameters are read.
_KNOWN: dict[str, Any] = {
    **{name: getattr(typing, name) for name in ("Annotated", "Any", "List", "Dict", "Literal", "Optional", "Union")},
    **{each.__name__: each for each in (bool, int, float, str, bytes, list, dict, tuple, set)},
    **{each.__name__: each for each in (date, datetime, time, timedelta, Decimal, Path, UUID, Range)},
}

#: Lines of IPython, which are no Python.
_MAGIC = re.compile(r"^\s*[%!].*$", re.MULTILINE)


class Computed:
    """Default of a parameter that only running its cell tells: `date.today()`. Its repr is the code."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __repr__(self) -> str:
        return self.code


def signature_in(source: str, name: str) -> inspect.Signature:
    """Return the parameters in the source of the cell, by name only. Runs nothing but annotations.

    Args:
        name: of the notebook, for messages.

    Raises:
        InvalidParams: the source is not Python.
    """
    source = _MAGIC.sub("", source)
    try:
        tree = parsed(source)
    except SyntaxError as error:
        raise InvalidParams(f"{name}: line {error.lineno} of the cell tagged {TAG!r}: {error.msg}", "path") from None
    comments = _comments(source)
    found: dict[str, inspect.Parameter] = {}
    for target, annotation, value, line in _assignments(tree):
        default, kind = _default(value), _hint(annotation)
        if annotation is None and default is not inspect.Parameter.empty and default is not None:
            kind = Any if isinstance(default, Computed) else type(default)
        if help_text := comments.get(line, ""):
            kind = Annotated[kind, help_text]
        found[target] = inspect.Parameter(target, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
    return inspect.Signature(list(found.values()))


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr | None, ast.expr | None, int]]:
    """Yield name, annotation, value and last line of each assignment to one name; later ones win."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, annotation = node.targets[0], None
        elif isinstance(node, ast.AnnAssign):
            target, annotation = node.target, node.annotation
        else:
            continue
        if isinstance(target, ast.Name) and not target.id.startswith("_"):
            yield target.id, annotation, node.value, node.end_lineno or node.lineno


def _default(value: ast.expr | None) -> Any:
    if value is None:
        return inspect.Parameter.empty
    try:
        return ast.literal_eval(value)
    except ValueError:
        return Computed(ast.unparse(value))


def _hint(annotation: ast.expr | None) -> Any:
    """Return the type that an annotation means, Any if it names something else."""
    if annotation is None:
        return Any
    code = re.sub(r"\b(?:typing|datetime|pathlib|jobkit|decimal|uuid)\.(?=\w)", "", ast.unparse(annotation))
    try:
        return eval(code, {"__builtins__": {}, **_KNOWN})
    except Exception:  # a class of the notebook's own
        return Any


def _comments(source: str) -> dict[int, str]:
    """Return the comments behind code, by line."""
    found: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip():
            found[token.start[0]] = token.string.lstrip("# ").strip()
    return found


def cell_of(parameters: Mapping[str, Any], file: Path) -> str:
    """Return the source of the cell that sets these parameters.

    Values without a source (a table, the result of another job) and with secrets are written to a file, which it reads.
    """
    imports, lines, others = set[str](), list[str](), dict[str, Any]()
    for name, value in parameters.items():
        try:
            source = _source(value, imports)
            if is_secret(name, value) or masked(source) != source:
                raise ValueError("the executed notebook is kept")
            lines.append(f"{name} = {source}")
        except ValueError:
            others[name] = value
            lines.append(f"{name} = _sent[{name!r}]  # {type(value).__name__}")
    if others:
        file.write_bytes(pickled(others)[1])
        imports |= {"import pickle", "from pathlib import Path"}
        lines.insert(0, f"_sent = pickle.loads(Path({str(file)!r}).read_bytes())")
    return "\n".join(["# Parameters", *sorted(imports), *lines])


def _source(value: Any, imports: set[str]) -> str:
    """Return an expression that gives a plain value, and add its imports. Raises ValueError for others."""
    kind = type(value)
    if value is None or kind in (bool, int, str, bytes):
        return repr(value)
    if kind is float:
        return repr(value) if value - value == 0 else f"float({str(value)!r})"
    if kind in (list, tuple, set, dict):
        if kind is dict:
            inner = ", ".join(f"{_source(k, imports)}: {_source(v, imports)}" for k, v in value.items())
            return f"{{{inner}}}"
        inner = ", ".join(_source(each, imports) for each in value)
        if kind is tuple:
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        return f"[{inner}]" if kind is list else f"set([{inner}])"
    if isinstance(value, Path):
        imports.add("from pathlib import Path")
        return f"Path({str(value)!r})"
    if kind in (date, datetime, time, timedelta) and getattr(value, "tzinfo", None) is None:
        imports.add("import datetime as _datetime")  # a notebook has its own `from datetime import datetime`
        return f"_{value!r}"
    if kind in (Decimal, UUID):
        imports.add(f"from {kind.__module__} import {kind.__name__}")
        return repr(value)
    if isinstance(value, Enum) and type(value.value) in (int, str):
        return repr(value.value)
    raise ValueError(f"no source of a {kind.__name__}")
