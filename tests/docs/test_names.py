"""README and documentation name what exists: names of Python, keywords, commands, variables, files.

This holds for each block, also for those that `test_blocks.py` cannot run.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from sybil.evaluators.skip import Skipper

import jobkit
from benchmarks.__main__ import NAMES
from jobkit.features.pools.kit import Pool
from jobkit.features.pools.spec import pool_spec
from jobkit.http.routes import ROUTES
from jobkit.run.inside.context import Context
from jobkit.settings import Settings
from tests.docs.commands import check_command, check_options, commands_of
from tests.docs.reading import PAGES, parsed, read, shown
from tests.support import ROOT

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


#: Lines that show what is refused.
_REFUSED = re.compile("(?m)^.*# refused.*$")


@functools.cache
def names_of(owner: str) -> frozenset[str]:
    """Return the attributes of what a variable stands for, also those that an instance gets in its module."""
    names: set[str] = set()
    for kind in OBJECTS[owner]:
        names |= set(dir(kind))
        for base in (base for base in getattr(kind, "__mro__", ()) if base.__module__.startswith("jobkit")):
            names |= set(re.findall(r"self\.(\w+)\b[^=\n]* = ", Path(inspect.getfile(base)).read_text("utf-8")))
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


def refused_pools(tree: ast.AST) -> Iterator[str]:
    """Yield why a definition of a pool is refused: few pages of pools can be run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "kit.pool":
            options = {str(each.arg): ast.literal_eval(each.value) for each in node.keywords}
            try:
                pool_spec(ast.literal_eval(node.args[0]), **options)
            except jobkit.InvalidParams as error:
                yield str(error)


CHECKS: list[Callable[[ast.AST], Iterator[str]]] = [
    unknown_imports,
    unknown_attributes,
    unknown_keywords,
    refused_pools,
]


def place(page: Path, line: int = 0) -> str:
    return f"{page.relative_to(ROOT)}:{line}"


def test_code_in_the_documentation_names_what_exists() -> None:
    blocks = [(place(page, line), parsed(_REFUSED.sub("", code))) for page in PAGES for line, code in shown(page)]

    assert len(blocks) > 90
    assert [f"{where}: {problem}" for where, tree in blocks for check in CHECKS for problem in check(tree)] == []


def test_each_block_that_is_not_run_says_why() -> None:
    for page in PAGES:
        for example in read(page):
            if isinstance(example.region.evaluator, Skipper):
                action, reason = example.parsed
                assert action == "next", place(page, example.line)
                assert len(reason or "") > 10, place(page, example.line)
                assert all((ROOT / path).exists() for path in re.findall(r"tests/[\w/.]+", reason)), reason


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def test_commands_in_the_documentation_exist() -> None:
    refused, found = [], 0
    for page in PAGES:
        named = re.findall(r"`jobkit ([a-z][^`\n]*)`", without_blocks(page.read_text("utf-8")))
        inline = [name.replace("\\|", "|").split() for name in named]
        for check, commands in ((check_command, commands_of(page)), (check_options, inline)):
            for words in commands:
                found += 1
                try:
                    check(words)
                except (click.ClickException, AssertionError) as error:
                    refused.append(f"{place(page)} jobkit {' '.join(words)}: {error}")

    assert refused == []
    assert found > 200
    with pytest.raises(click.NoSuchOption):
        check_command(["jobs", "--nope"])


def test_variables_in_the_documentation_exist() -> None:
    """They are settings, or stand in the source: those that the command line and the workers read or set."""
    source = "".join(path.read_text("utf-8") for path in (ROOT / "jobkit").rglob("*.py"))
    known = {f"JOBKIT_{name.upper()}" for name in Settings.__dataclass_fields__} | {"_JOBKIT_COMPLETE"}
    known |= set(re.findall(r'"(JOBKIT_[A-Z_]+)"', source)) | set(re.findall(r'envvar="(\w+)"', source))
    team = (path for path in (ROOT / "docs" / "team").iterdir() if path.suffix != ".md")

    for path in (*PAGES, *team):
        assert set(re.findall(r"\b_?JOBKIT_[A-Z_]*[A-Z]\b", path.read_text("utf-8"))) <= known, path


def test_measurements_in_the_documentation_can_be_repeated() -> None:
    """They are options of `python -m benchmarks`, or separate modules."""
    for page in PAGES:
        for module, words in re.findall(
            r"python -m ((?:benchmarks|tests)[\w.]*)((?: [-\w]+)*)", page.read_text("utf-8")
        ):
            assert importlib.util.find_spec(module), f"{place(page)} {module}"
            if module == "benchmarks":
                assert re.fullmatch(rf"( --only ({'|'.join(NAMES)}))?( --no-peers)?", words), f"{place(page)}{words}"


def test_requests_in_the_documentation_have_a_route() -> None:
    """Ids and names of a path are in braces, or made up. CONTRIBUTING.md invents a route, to show how one is added."""
    known = [(route.method, re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route.path))) for route in ROUTES]
    missing, found = [], 0
    for page in (page for page in PAGES if page.name != "CONTRIBUTING.md"):
        for method, path in re.findall(
            r"\b(GET|POST|DELETE) (/(?:api|\.well-known)/[^\s`?,;]*)", page.read_text("utf-8")
        ):
            found += 1
            if not any(method == each and re.fullmatch(pattern, path) for each, pattern in known):
                missing.append(f"{place(page)} {method} {path}")

    assert missing == []
    assert found > 30


def test_files_that_the_documentation_names_exist() -> None:
    missing = set()
    for page in PAGES:
        text = page.read_text("utf-8")
        named = re.findall(r"`((?:tests|jobkit|docs|benchmarks|examples|\.ci|\.github)/[\w./-]*)", text)
        linked = re.findall(r"\]\((?!https?:|mailto:|notebooks/)([^)#:\s]+)", text)
        missing |= {place(page) + path for path in named if not (ROOT / path).exists()}
        missing |= {place(page) + path for path in linked if not Path(os.path.join(page.parent, path)).exists()}

    assert missing == set()


#: Figures of speed, and what measured them. Limits, settings and sizes are no claims of speed.
_SPEED = re.compile(r"\d (ms|µs|MB/s|jobs/s)\b|\d jobs a second|times as fast|milliseconds?\b")
_SOURCE = re.compile(r"benchmarks|sizing\.md|tests/|tests\.chaos")

#: Pages of measurements, and of reasons, which tell what was measured then.
_MEASURED = ("benchmarks.md", "architecture.md")


def test_a_section_with_figures_of_speed_names_what_measured_them() -> None:
    for page in PAGES:
        if page.name in _MEASURED or page.parent.name == "decisions":
            continue
        for section in re.split(r"(?m)^(?=#+ )", without_blocks(page.read_text("utf-8"))):
            claims = _SPEED.search(re.sub(r"`[^`]*`", "", section))
            assert not claims or _SOURCE.search(section), f"{place(page)} {claims} in {section[:60]!r}"


def named(text: str) -> Iterator[tuple[str, str]]:
    """Yield variable and attribute of each `kit.submit(...)` and alike in the running text of a page."""
    for code in re.findall(r"`([^`\n]+)`", without_blocks(text)):
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
