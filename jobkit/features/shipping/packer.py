"""Modules of the user's own that travel with a call: found in the pickle of the call, and in the modules themselves.

The pickle names what it needs, and the modules what they import; none of it is run.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import itertools
import os
import pickletools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from jobkit.features.shipping.pack import IGNORE_FILE, MAX_FILES, packed
from jobkit.model import InvalidParams
from jobkit.tasks.call import Packer
from jobkit.tasks.sources import parsed

#: Patterns that hold everywhere.
_IGNORED = (".*", "__pycache__", "*.pyc", "*.egg-info", "node_modules", "venv", "build", "dist")

#: What is found in a pickle of more bytes is remembered for the other calls of its batch.
_LARGE_BYTES = 100_000

#: What is found in a pickle of at most so many bytes is remembered for later calls.
_SMALL_BYTES = 10_000

_STRINGS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})

#: Keys of a pickle whose values only say where code comes from.
_OWN = ("__module__", "__name__", "__package__", "__file__")


def names_in(bodies: Iterable[bytes], roots: Sequence[str], known: dict[bytes, set[str]] | None = None) -> set[str]:
    """Return the modules below `roots` that pickles refer to. `known`: what large ones of earlier calls refer to."""
    top = _union(*map(_modules_in, roots))
    found: set[str] = set()
    for body in bodies:
        names = None if known is None else known.get(body)
        if names is None:
            is_named = _beginning_with(top).search(body) is not None
            texts = () if not is_named else _kept(body) if len(body) <= _SMALL_BYTES else _referred(body)
            names = {name for name in texts if name.partition(".")[0] in top}
            if known is not None and len(body) > _LARGE_BYTES:
                known[body] = names
        found |= names
    return found


@functools.lru_cache(maxsize=16)
def _beginning_with(names: frozenset[str]) -> re.Pattern[bytes]:
    """Return what finds a text in a pickle that begins with one of these names, faster than a reader of pickles does.

    The file name of a script is in each pickle of its functions, and is no such text.
    """
    each = b"|".join(re.escape(name.encode()) for name in sorted(names)) or b"(?!)"
    return re.compile(rb"\x8c.(?:" + each + rb")(?!\w)", re.DOTALL)


@functools.lru_cache(maxsize=16)
def _union(*names: frozenset[str]) -> frozenset[str]:
    return frozenset().union(*names)


def _modules_in(root: str) -> frozenset[str]:
    try:
        return _listed(root, os.stat(root).st_mtime_ns)
    except OSError:
        return frozenset()


@functools.lru_cache(maxsize=64)
def _listed(root: str, _: int) -> frozenset[str]:
    """Return the names of the modules and packages in a folder; any folder in it may be one without `__init__.py`."""
    found = set()
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            name, dot, suffix = entry.name.partition(".")
            is_module = suffix == "py" if dot else os.path.isdir(entry.path)  # False for links to nowhere
            if is_module and name.isidentifier() and name not in ("setup", "conftest"):
                found.add(name)
    return frozenset(found - {"jobkit"})


@functools.lru_cache(maxsize=256)
def _kept(body: bytes) -> frozenset[str]:
    """`_referred` of a small pickle, which is often submitted again."""
    return frozenset(_referred(body))


def _referred(body: bytes) -> Iterator[str]:
    """Yield the texts of a pickle that may be names of modules: all but those that only say where code comes from."""
    memo: list[Any] = []
    last = before = None
    try:
        for opcode, argument, _ in pickletools.genops(body):
            name = opcode.name
            if name == "MEMOIZE":
                memo.append(last)
                continue
            if name in _STRINGS:
                before, last = last, argument
            elif name in ("BINGET", "LONG_BINGET") and isinstance(argument, int):
                before, last = last, memo[argument] if argument < len(memo) else None
            else:
                last = None
                continue
            if (
                isinstance(last, str)
                and before not in _OWN
                and last.isascii()
                and last.replace(".", "_").isidentifier()
            ):
                yield last
    except Exception:  # not a pickle that we understand: what was found is found
        return


def closure(names: Iterable[str], roots: Sequence[str]) -> dict[str, Path]:
    """Return the files of these modules and of all that they import below `roots`, by path in the pack."""
    found: dict[str, Path] = {}
    left = sorted(names)
    seen: set[str] = set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        for part in itertools.accumulate(name.split("."), "{}.{}".format):
            path = next(filter(None, (_file_of(part, root) for root in roots)), None)
            if path is None and any(Path(root, *part.split(".")).is_dir() for root in roots):
                continue  # a package without `__init__.py`
            if path is None:
                break
            where, file = path
            if where not in found:
                found[where] = file
                left += _imports(file, part)
    return found


def _file_of(name: str, root: str) -> tuple[str, Path] | None:
    relative = name.replace(".", "/")
    for where in (f"{relative}/__init__.py", f"{relative}.py"):
        if (path := Path(root, where)).is_file():
            return where, path
    return None


def _imports(file: Path, name: str) -> list[str]:
    try:
        return _imports_of(file, name, file.stat().st_mtime_ns)
    except OSError:
        return []


@functools.lru_cache(maxsize=2_000)
def _imports_of(file: Path, name: str, _: int) -> list[str]:
    """Return the modules that a module imports, also those that its `from` imports may name."""
    try:
        tree = parsed(file.read_bytes())
    except (SyntaxError, ValueError):
        return []
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found


def chosen(ship: Sequence[str]) -> dict[str, Path]:
    """Return the files of the option `ship`, by path in the pack: files, packages, and folders to import from.

    Raises:
        InvalidParams: there is no such file or folder.
    """
    found: dict[str, Path] = {}
    for each in ship:
        path = Path(each).expanduser()
        if path.is_file():
            found.setdefault(path.name, path)
        elif path.is_dir():
            path = Path(os.path.abspath(path))  # a link keeps its name
            base = path.parent if (path / "__init__.py").is_file() else path
            for file in _files_below(path):
                found.setdefault(file.relative_to(base).as_posix(), file)
                if len(found) > MAX_FILES:  # enough to be refused: do not walk through a disk
                    return found
        else:
            raise InvalidParams(f"ship names {each!r}, and there is no such file or folder in {os.getcwd()}", "ship")
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    patterns = [*_IGNORED, *_ignored_by(folder)]
    for where, folders, files in os.walk(folder):  # links to folders are not followed
        relative = PurePosixPath(Path(where).relative_to(folder).as_posix())
        folders[:] = sorted(name for name in folders if not _is_ignored(relative / name, patterns, is_folder=True))
        for name in sorted(files):
            path = Path(where, name)
            if not _is_ignored(relative / name, patterns, is_folder=False) and path.is_file():
                yield path


def _ignored_by(folder: Path) -> list[str]:
    """Return the patterns of the nearest ignore file, in this folder or above."""
    for each in (folder, *folder.parents):
        with suppress(OSError):
            lines = (each / IGNORE_FILE).read_text("utf-8").splitlines()
            return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return []


def _is_ignored(path: PurePosixPath, patterns: Sequence[str], *, is_folder: bool) -> bool:
    """Return True if a pattern matches, as in a .gitignore: the last one that does decides, `!` takes back, a slash at
    the end means folders, one elsewhere anchors it."""
    is_ignored = False
    for pattern in patterns:
        is_back, plain = pattern.startswith("!"), pattern.lstrip("!")
        if plain.endswith("/"):
            if not is_folder:
                continue
            plain = plain.rstrip("/")
        matches = (
            fnmatch.fnmatchcase(path.as_posix(), plain.lstrip("/"))
            if "/" in plain
            else fnmatch.fnmatchcase(path.name, plain)
        )
        if matches:
            is_ignored = not is_back
    return is_ignored


def packer(task: str, ship: bool | Sequence[str] | None, ref: str, roots: Sequence[str]) -> Packer:
    """Return the function that finds what travels with a call from its pickles; see the option `ship`.

    Args:
        ref: of the function, "" if it is sent by value. roots: folders that modules are imported from.
    """

    def pack(bodies: list[bytes], known: dict[bytes, set[str]]) -> tuple[object, Callable[[], bytes]]:
        if isinstance(ship, (list, tuple)):
            return tuple(ship), lambda: packed(chosen(ship), task)
        names = frozenset([*names_in(bodies, roots, known), *([ref.partition(":")[0]] if ref else [])])
        return names, lambda: packed(closure(names, roots), task)

    return pack
