"""Code in the documentation names things that exist: imports, attributes of public objects, keywords of calls.

Blocks of Python are parsed, not run, since many stand for a user's own code. Commands are checked in `test_docs.py`;
the tutorials among the notebooks are run by their own tests.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import jobkit
from jobkit.client.pools import Pool
from jobkit.run.inside.context import Context
from tests.support import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Variables of the documentation, and what they stand for: `job` is a handle, or `jobkit.current()`.
OBJECTS: dict[str, tuple[Any, ...]] = {
    "jobkit": (jobkit,),
    "kit": (jobkit.Kit,),
    "job": (jobkit.Job, Context),
    "batch": (jobkit.Batch,),
    "study": (jobkit.Study,),
    "pool": (Pool,),
}

#: Names of Dask and Optuna, which their users meet beside ours.
ELSEWHERE = {
    "job.get",
    "kit.gather",
    "study.optimize",
    "study.best_value",
    "study.best_params",
    "study.trials_dataframe",
}


def blocks() -> Iterator[tuple[str, str]]:
    """Yield each block of Python with the place of its first line."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for found in re.finditer(r"^( *)```python\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, found.start()) + 2
            code = "\n".join(row.removeprefix(found[1]) for row in found[2].split("\n"))
            yield f"{page.relative_to(ROOT)}:{line}", code


def parsed(code: str) -> ast.AST:
    """Return the tree of a block without commands of IPython, and lines that show what is refused."""
    lines = [line for line in code.strip().split("\n") if not re.match(r"[%!]", line) and "# refused" not in line]
    if lines and lines[-1].startswith("@"):
        lines.append("def function(): ...")
    return ast.parse("\n".join(lines))


@functools.cache
def names_of(owner: str) -> frozenset[str]:
    """Return the attributes of what a variable stands for, also those that an instance gets."""
    names: set[str] = set()
    for kind in OBJECTS[owner]:
        names |= set(dir(kind))
        for base in (base for base in getattr(kind, "__mro__", ()) if base.__module__.startswith("jobkit")):
            names |= set(re.findall(r"self\.(\w+)\b[^=\n]* = ", inspect.getsource(base)))
    return frozenset(names)


def unknown_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "jobkit":
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                is_module = (
                    importlib.util.find_spec(f"{node.module}.{alias.name}") if hasattr(module, "__path__") else None
                )
                if not is_module and not hasattr(module, alias.name):
                    yield f"{node.module} has no {alias.name}"


def unknown_attributes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in OBJECTS:
            owner = node.value.id
            if node.attr not in names_of(owner) and not is_submodule(owner, node.attr):
                yield f"{owner} has no {node.attr}"


def is_submodule(package: str, name: str) -> bool:
    return package.startswith("jobkit") and importlib.util.find_spec(f"{package}.{name}") is not None


def unknown_keywords(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        allowed = keywords_of(call)
        if allowed is not None:
            yield from (f"{call} has no {each.arg}=" for each in node.keywords if each.arg and each.arg not in allowed)


def keywords_of(call: str) -> set[str] | None:
    """Return the keywords of a call of ours; None if it takes any, or is not one of ours."""
    owner, _, name = call.rpartition(".")
    kinds = (jobkit.Kit,) if name == "options" else OBJECTS.get(owner, ())
    functions = [found for kind in kinds if callable(found := getattr(kind, name, None))]
    taken = [parameter for each in functions for parameter in inspect.signature(each).parameters.values()]
    if not functions or any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        return None
    return {parameter.name for parameter in taken}


CHECKS: list[Callable[[ast.AST], Iterator[str]]] = [unknown_imports, unknown_attributes, unknown_keywords]


@pytest.mark.parametrize(("place", "code"), [pytest.param(*each, id=each[0]) for each in blocks()])
def test_code_in_the_documentation_names_what_exists(place: str, code: str) -> None:
    tree = parsed(code)

    assert [problem for check in CHECKS for problem in check(tree)] == [], place


def named(text: str) -> Iterator[tuple[str, str]]:
    """Yield variable and attribute of each `kit.submit(...)` and alike in the running text of a page."""
    without_blocks = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`\n]+)`", without_blocks):
        for owner, name in re.findall(rf"(?<![\w.$/-])({'|'.join(OBJECTS)})\.(?:aio\.)?([a-z_]+)\b(?![-./])", code):
            if name not in ("py", "json", "html") and f"{owner}.{name}" not in ELSEWHERE:
                yield owner, name


def test_names_in_the_text_of_the_documentation_exist() -> None:
    missing = {
        f"{page.relative_to(ROOT)}: {owner} has no {name}"
        for page in PAGES
        for owner, name in named(page.read_text("utf-8"))
        if name not in names_of(owner) and not is_submodule(owner, name)
    }

    assert sorted(missing) == []
