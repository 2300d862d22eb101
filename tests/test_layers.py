"""The rooms: imports match the table in `docs/architecture.md`, and files that pages name exist."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from jobkit.features import FEATURES
from tests.syntax import tree_of

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jobkit"
FACE = "__init__"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Programs as a user would write them: they use the public names.
PROGRAMS = {Path("demo.py")}

#: The rooms of features: their declarations with the list of them, which anybody may read, and all else.
LIST, FEATURE = "features", "features/NAME"

#: Modules beside the list that name types of features.
LISTED = ("jobs", "names", "nouns", "verbs")

#: The features that each feature is declared to come after, and may import.
AFTER = {feature.name: feature.after for feature in FEATURES}

#: The rooms that may import a library. The rest of jobkit works without it.
KNOWN_TO = {
    "arq": {"worker", FEATURE},
    "redis": {"store", "worker", FEATURE},
    "panel": {"ui", FEATURE},
    "bokeh": {"ui", FEATURE},
    "tornado": {"ui", "http", FEATURE},
    "jwt": {"http"},
    "cronsim": {FEATURE},
    "anywidget": {"ui"},
    "ipywidgets": {"ui"},
    "click": {"cli", FEATURE},
    "rich": {"cli", FEATURE},
    "joblib": {FEATURE},
    "opentelemetry": {FEATURE},
    "mlflow": {FEATURE},
    "apprise": {FEATURE},
    "optuna": {FEATURE},
    "dask": {FEATURE},
    "distributed": {FEATURE},
    "ray": {FEATURE},
    "kubernetes": {FEATURE},
    "jupyter_scheduler": {FEATURE},
    "pyarrow": {FEATURE, "ui"},
}


@dataclass(frozen=True)
class Import:
    """One import: `is_later` if it is inside a function; `names` are the imported names."""

    module: str
    line: int
    is_later: bool
    names: tuple[str, ...] = ()


@functools.cache
def imports(path: Path) -> tuple[Import, ...]:
    def visit(node: ast.AST, is_later: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, is_later)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: a relative import; write it in full"
                names = tuple(alias.name for alias in child.names)
                yield Import(child.module or "", child.lineno, is_later, names)
            is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from visit(child, is_later or is_function)

    return tuple(visit(tree_of(path.read_text("utf-8")), False))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    if parts[0] == LIST and path.name not in ("__init__.py", *(f"{name}.py" for name in LISTED)):
        return FEATURE
    return parts[0].removesuffix(".py")


ROOMS = {room_of(path) for path in MODULES}


def rooms_imported(one: Import) -> set[str]:
    """Return the rooms that an import reaches; `from jobkit import model` reaches a room by its name."""
    head, *rest = one.module.split(".")
    if head != "jobkit":
        return set()
    if rest[:1] == [LIST] and rest[1:] and rest[1] not in LISTED:
        is_whole = rest[2:] or any((PACKAGE / LIST / rest[1] / f"{name}.py").exists() for name in one.names)
        return {FEATURE if is_whole else LIST}
    if rest:
        return {rest[0]}
    return {name if name in ROOMS else FACE for name in one.names} or {FACE}


class Table:
    """The rooms that each room may import, at module level and later."""

    def __init__(self, text: str) -> None:
        section = text.partition("## Rooms")[2].partition("\n## ")[0]
        self.now: dict[str, set[str]] = {}
        self.later: dict[str, set[str]] = {}
        rows = [line.strip("| \n").split(" | ") for line in section.splitlines() if line.startswith("| `")]
        everything = {room for first, *_ in rows for room in self._rooms(first)}
        for first, *_, rule in rows:
            now, _, later = rule.replace("`", "").partition("; later: ")
            allowed = self._allowed(now, everything)
            for room in self._rooms(first):
                self.now[room] = allowed
                self.later[room] = allowed | self._allowed(later, everything)

    @staticmethod
    def _rooms(cell: str) -> list[str]:
        return [name.removesuffix("/").removesuffix(".py") for name in re.findall(r"`([\w/.]+)`", cell)]

    def _allowed(self, rule: str, everything: set[str]) -> set[str]:
        allowed: set[str] = set()
        for part in filter(None, rule.split(", ")):
            name, _, and_below = part.partition(" and below")
            if part == "nothing":
                continue
            if part == "all":
                allowed |= everything
            elif part == "all above":
                allowed |= set(self.now)
            else:
                assert part == name or part.endswith(" and below"), f"not understood: {part!r}"
                assert name in self.now or name in everything, f"{name!r} is not a room of the table"
                allowed.add(name)
                if part != name:
                    allowed |= self._below(name)
            assert not and_below
        return allowed

    def _below(self, room: str) -> set[str]:
        found: set[str] = set()
        rest = [room]
        while rest:
            new = self.now[rest.pop()] - found
            found |= new
            rest += new
        return found


@pytest.fixture(scope="module")
def table() -> Table:
    return Table((ROOT / "docs" / "architecture.md").read_text("utf-8"))


def test_the_table_lists_every_room_and_runs_downwards(table: Table) -> None:
    assert set(table.now) == ROOMS
    rooms = list(table.now)
    for index, (room, allowed) in enumerate(table.now.items()):
        if room not in ("cli", "__main__"):  # they may import all
            assert allowed <= set(rooms[:index]), f"{room} may import {allowed - set(rooms[:index])}, which comes later"


def _breaches(path: Path, table: Table) -> Iterator[str]:
    """Yield one line for each forbidden import of a module."""
    room, name = room_of(path), path.relative_to(PACKAGE)
    for one in imports(path):
        where = f"jobkit/{name}:{one.line}: {room}"
        library = one.module.partition(".")[0]
        if room not in KNOWN_TO.get(library, {room}):
            yield f"{where} may not know {library}"
        if room == "model" and library not in {"jobkit", "msgspec", *sys.stdlib_module_names}:
            yield f"{where} is pure and imports {library}"
        if one.is_later and one.names == ("__version__",):
            continue
        if name in PROGRAMS and one.module == "jobkit":
            continue
        if room == LIST and path.parent.name == LIST:  # it names the types of nouns
            continue
        head, _, of = one.module.partition(f"jobkit.{LIST}.")
        own = name.parts[1] if room == FEATURE else ""
        known = (own, *AFTER.get(own, ()))
        if room == FEATURE and not head and of.split(".")[0] not in known:
            yield f"{where} imports another feature: {one.module}"
        allowed = (table.later if one.is_later else table.now)[room] | {room}
        yield from (f"{where} may not import {other}" for other in sorted(rooms_imported(one) - allowed))


def test_modules_import_only_rooms_that_theirs_may_import(table: Table) -> None:
    breaches = [line for path in MODULES for line in _breaches(path, table)]

    assert not breaches, "\n".join(breaches)


def test_files_have_no_circular_imports() -> None:
    """Check imports for types, inside functions and of packages, too; by file, and by folder of `ui`."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}
    by_file: dict[str, set[str]] = {}
    by_folder: dict[str, set[str]] = {}
    for name, path in files.items():
        for one in imports(path):
            for other in {one.module, *(f"{one.module}.{part}" for part in one.names)} & files.keys() - {name}:
                by_file.setdefault(name, set()).add(other)
                folder, below = name.split(".")[1:-1], other.split(".")[1:-1]
                if folder[:1] == below[:1] == ["ui"] and folder[1:] and below[1:] and folder != below:
                    by_folder.setdefault(folder[1], set()).add(below[1])

    list(TopologicalSorter(by_file).static_order())  # raises CycleError, which names the circle
    list(TopologicalSorter(by_folder).static_order())


@functools.cache
def _files() -> tuple[str, ...]:
    """Return the files and folders of the project, except hidden ones: an environment has many thousands."""
    own = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    return tuple(path.relative_to(ROOT).as_posix() for top in own for path in (top, *top.rglob("*")))


def _missing_files(page: str) -> Iterator[str]:
    """Yield the files and folders that a page names in backticks and that do not exist in the project."""
    for name in re.findall(r"`([\w./-]+(?:/|\.(?:py|lua|js|css|md)))`", (ROOT / page).read_text("utf-8")):
        if "NAME" not in name and not any(f"/{path}".endswith(f"/{name.rstrip('/')}") for path in _files()):
            yield f"{page} names {name}"


def test_files_that_pages_name_exist() -> None:
    missing = [line for page in ("docs/architecture.md", "CONTRIBUTING.md") for line in _missing_files(page)]

    assert not missing, "\n".join(missing)


def _defined(path: Path) -> Iterator[str]:
    """Yield the names that a module defines or imports, also inside functions."""
    for node in ast.walk(tree_of(path.read_text("utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)


def _exists(name: str) -> bool:
    """Return whether "jobkit.room.module.NAME" is a module of jobkit, or a name in one."""
    path, rest = PACKAGE, name.split(".")[1:]
    while rest and (path / rest[0]).is_dir():
        path /= rest.pop(0)
    module = path / f"{rest.pop(0)}.py" if rest and (path / f"{rest[0]}.py").exists() else path / "__init__.py"
    return not rest or rest[0] in _defined(module)


def test_names_of_jobkit_in_strings_of_tests_exist() -> None:
    """mypy does not see those that a test patches or imports by a string."""
    missing = [
        f"{path.relative_to(ROOT)}:{node.lineno} names {node.value}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(tree_of(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"jobkit(\.\w+)+", node.value) and node.value.split(".")[1] in ROOMS and not _exists(node.value)
    ]

    assert not missing, "\n".join(missing)


_HEAVY = ["panel", "bokeh", "tornado", "pandas", "numpy", "IPython", "ipywidgets", "rich", "cryptography.hazmat"]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("jobkit", [*_HEAVY, "arq", "redis", "click", "asyncio"]),
        ("jobkit.worker.main", [*_HEAVY, "param"]),
        ("jobkit.worker, jobkit.features.arq.door", [*_HEAVY, "param"]),
    ],
)
def test_an_import_loads_nothing_that_is_heavy_and_not_needed(module: str, heavy: list[str]) -> None:
    code = f"import json, sys, {module}; print(json.dumps([name for name in {heavy} if name in sys.modules]))"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_each_public_name_can_be_the_first_that_a_program_uses() -> None:
    code = "import os, jobkit\nfor name in jobkit.__all__:\n if not os.fork(): getattr(jobkit, name); os._exit(0)\n"
    code += "codes = [os.wait()[1] for _ in jobkit.__all__]\nassert not any(codes), codes"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_no_function_of_a_package_has_the_name_of_a_module_in_it() -> None:
    """The import of that module would replace it."""
    replaced = [
        f"{path}: {node.name}"
        for path in PACKAGE.rglob("__init__.py")
        for node in tree_of(path.read_text("utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and ((path.parent / f"{node.name}.py").exists() or (path.parent / node.name).is_dir())
    ]
    assert not replaced


def test_no_two_classes_have_the_same_name() -> None:
    """A name with two meanings must be looked up by each reader."""
    names = Counter(
        node.name
        for path in MODULES
        for node in ast.walk(tree_of(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []
