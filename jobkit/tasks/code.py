"""Modules of the user's own that travel with a call: found, packed by content, unpacked by the process that runs it.

Which modules those are is read from the pickle of the call, which names what it needs, and from the imports of the
modules themselves; none of it is run. A pack is a list of paths and contents. Its SHA-256 is part of the sealed call.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import glob
import importlib
import itertools
import os
import pickletools
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from jobkit.model import InvalidParams, SignatureError
from jobkit.model.format import size

#: A pack is at most so large, and has at most so many files.
MAX_BYTES, MAX_FILES = 20_000_000, 2_000

#: File of patterns, one a line, for what does not travel; in the folder that travels.
IGNORE_FILE = ".jobkitignore"

#: Patterns that hold everywhere.
_IGNORED = (".*", "__pycache__", "*.pyc", "*.egg-info", "node_modules", "venv", "build", "dist")

#: What is found in a pickle of more bytes is remembered for the other calls of its batch.
_LARGE_BYTES = 100_000

#: What is found in a pickle of at most so many bytes is remembered for later calls.
_SMALL_BYTES = 10_000

#: A path in a pack: names between slashes, none of which begins with a dot.
_PATH = re.compile(r"(?:[\w+-][\w. +-]*/){0,20}[\w+-][\w. +-]*")

_STRINGS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})

#: Keys of a pickle whose values only say where code comes from.
_OWN = ("__module__", "__name__", "__package__", "__file__")

#: An unpacked pack that was not used for so many seconds is deleted by the next process that unpacks one.
_KEPT_S = 7 * 86_400.0


# -- finding ----------------------------------------------------------------------------------------------------------


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
        tree = ast.parse(file.read_bytes())
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


#: Returns for the pickles of a call (and what is known of those of earlier ones, see `names_in`) what is equal for
#: equal packs, and the function that makes the pack (b"" for none).
Packer = Callable[[list[bytes], dict[bytes, set[str]]], tuple[object, Callable[[], bytes]]]


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


# -- packing ----------------------------------------------------------------------------------------------------------


def packed(files: dict[str, Path], task: str) -> bytes:
    """Return a pack of files, b"" for no files; the same contents give the same bytes.

    Raises:
        InvalidParams: too many or too large, or a name that cannot be unpacked everywhere.
    """
    if not files:
        return b""
    for where in files:
        if not _PATH.fullmatch(where):
            raise InvalidParams(
                f"a file with the name {where!r} cannot travel with {task}: rename it, or ignore it", "ship"
            )
    try:
        sizes = {where: path.stat().st_size for where, path in files.items()}
        if len(files) <= MAX_FILES and sum(sizes.values()) <= MAX_BYTES:
            contents = {where: _read(path) for where, path in files.items()}
            sizes = {where: len(content) for where, content in contents.items()}  # some may have grown
    except OSError as error:
        raise InvalidParams(
            f"the code that travels with {task} cannot be read: {error.filename}: {error.strerror or error}", "ship"
        ) from None
    total = sum(sizes.values())
    if len(files) > MAX_FILES or total > MAX_BYTES:
        largest = max(sizes, key=lambda where: sizes[where])
        count = f"{len(files):,} files" if len(files) <= MAX_FILES else f"more than {MAX_FILES:,} files"
        raise InvalidParams(
            f"the code that would travel with {task} has {count} and {size(total)}, and may have {MAX_FILES:,} files "
            f"and {size(MAX_BYTES)}; the largest is {largest} ({size(sizes[largest])}): name what is not needed in "
            f"{IGNORE_FILE}, or what is needed with ship=[...]",
            "ship",
        )
    return pack_of(contents)


def _read(path: Path) -> bytes:
    """Return the content of a file, little more than what may travel."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def pack_of(contents: Mapping[str, bytes]) -> bytes:
    """Return the pack of these contents by path."""
    return msgspec.msgpack.encode(sorted(contents.items()))


_read_pack = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


def is_here(content: bytes, roots: Sequence[str]) -> bool:
    """Return True if the files of a pack are below these folders, unchanged, so that they can be imported from there.

    There they have their data files beside them. Raises SignatureError: it is no pack.
    """
    for where, body in files_of(content).items():
        found = next((path for root in roots if (path := Path(root, where)).is_file()), None)
        if found is None or found.read_bytes() != body:
            return False
    return True


def files_of(content: bytes) -> dict[str, bytes]:
    """Return the files of a pack by path. Raises SignatureError: a path leads out of the folder, or it is no pack."""
    try:
        files = _read_pack(content)
    except msgspec.MsgspecError as error:
        raise SignatureError(f"the code that came with it cannot be read: {error}") from None
    if len(files) > MAX_FILES or not all(_PATH.fullmatch(where) for where, _ in files):
        raise SignatureError("the code that came with it has a path that leads out of its folder")
    return dict(files)


def unpacked(content: bytes, name: str, below: Path) -> Path:
    """Return the folder with the files of a pack, unpacked unless it is there.

    Args:
        name: SHA-256 of the content, which was checked. below: folder of this user alone for all packs.

    Raises:
        SignatureError: a path leads out of the folder, or it is no pack. OSError: the disk.
    """
    try:
        private(below)
    except PermissionError:
        below = _private_beside(below)
    target = below / name[:32]
    with suppress(FileNotFoundError):
        os.utime(target)
        return target
    files = files_of(content)
    _sweep(below)
    aside = below / f".{secrets.token_hex(8)}"
    try:
        for where, body in files.items():
            path = aside / where
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_bytes(body)
        aside.mkdir(exist_ok=True, mode=0o700)
        os.rename(aside, target)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not target.is_dir():  # else another process was faster
            raise
    return target


def private(folder: Path) -> None:
    """Create a folder of this user alone. Raises OSError if another user owns it, or may write to it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022 or folder.is_symlink():
        raise PermissionError(f"{folder} is not a folder of this user alone: delete it")


def _private_beside(taken: Path) -> Path:
    """Return a folder of this user alone if another user made the usual one first."""
    for each in sorted(taken.parent.glob(f"{glob.escape(taken.name)}-*")):
        with suppress(OSError):
            private(each)
            return each
    return Path(tempfile.mkdtemp(prefix=f"{taken.name}-", dir=taken.parent))


def _sweep(folder: Path) -> None:
    before = time.time() - _KEPT_S
    for each in folder.iterdir():
        with suppress(OSError):
            if each.stat().st_mtime < before:
                shutil.rmtree(each, ignore_errors=True)


def use(folder: Path) -> None:
    """Import from this folder first. Modules of the same names that come from elsewhere are imported anew."""
    names = {path.name.partition(".")[0] for path in folder.iterdir()}
    for module, found in list(sys.modules.items()):
        if module.partition(".")[0] in names and not str(getattr(found, "__file__", None) or "").startswith(
            str(folder)
        ):
            del sys.modules[module]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
