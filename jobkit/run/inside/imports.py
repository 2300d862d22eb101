"""Imports of a job: which installed modules it imports, and how long that takes.

A finder that finds nothing sits before all others. Python calls it for each module that is not loaded yet, and for no
other import, so it costs a microsecond where an import takes a millisecond.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

#: An import that takes longer is worth a message (s).
LONG_S = 0.5
#: So many modules are named at most.
MOST = 100


def _folders(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(os.path.join(sysconfig.get_path(name), "") for name in names))


#: Directories of installed packages, and all that are not the user's own.
_INSTALLED = _folders("purelib", "platlib") + tuple(
    os.path.join(path, "") for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")
)
_NOT_OWN = _INSTALLED + _folders("stdlib", "platstdlib")

#: Names without a dot of the modules that this process had before its first job, because earlier jobs needed them.
ahead: set[str] = set()


def is_installed(module: Any) -> bool:
    """Return True for a module of an installed package. Code of the user, which may change, is none; nor is jobkit."""
    found = namespace(module)
    return str(found.get("__file__")).startswith(_INSTALLED) and not str(found.get("__name__")).startswith("jobkit.")


def namespace(module: Any) -> Mapping[str, Any]:
    """Return what a module has so far. Asking a lazy module itself, even for its name, might import it."""
    try:
        found: Mapping[str, Any] = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return found


def is_own(path: str) -> bool:
    """Return True for a directory of the user's own modules, as an entry of `sys.path`."""
    return not os.path.join(os.path.abspath(path), "").startswith(_NOT_OWN)


def shadowed(names: Iterable[str]) -> list[str]:
    """Return those of these modules that the user's own directories have, too."""
    own = [path for path in sys.path if is_own(path) and os.path.isdir(path)]
    there = {entry.partition(".")[0] for path in own for entry in _listed(path)}.intersection(names)
    found = ((name, importlib.machinery.PathFinder.find_spec(name, own)) for name in sorted(there))
    return [name for name, spec in found if spec is not None and spec.origin is not None]


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def forget_shadowed() -> None:
    """Let an import find the user's own module, if an installed one of that name has been imported ahead."""
    for top in shadowed(ahead) if ahead else ():
        ahead.remove(top)  # from now on it is the user's own, for the next job of this process too
        for name in [name for name in sys.modules if name.partition(".")[0] == top]:
            del sys.modules[name]


def installed_at() -> dict[str, int]:
    """Return when packages were last installed or removed: the times (ns) of the directories with them."""
    return {path: os.stat(path).st_mtime_ns for path in _INSTALLED if os.path.isdir(path)}


class ImportWatch:
    """Notes the outermost installed modules that are imported while it is in `sys.meta_path`.

    None if variables are set before the first of them: it may have read them.

    Args:
        tell: called with the name of a package whose import takes long, and with "" when it is over; returns False to
            be called again a little later.
    """

    def __init__(self, tell: Callable[[str], bool]) -> None:
        self._tell = tell
        self._names: dict[str, None] = {}
        self._loading: list[str] = []  # each imported by the one before it
        self._began = 0.0
        self._told = False
        self._environ: dict[Any, Any] | None = _variables()  # None: the first was imported
        self._sets_variables = False

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Return None: the usual finders find the module."""
        while (outer := self._loading[-1:]) and not _is_loading(outer[0]):
            del self._loading[-1:]
        if outer and is_installed(sys.modules.get(outer[0])):
            if not self._told and time.monotonic() - self._began > LONG_S:
                top = outer[0].partition(".")[0]
                self._told = self._tell(top)
        else:
            self._look_at_variables()
            self._loading.append(name)
            self._names[name] = None
            self._began = time.monotonic()

    def _look_at_variables(self) -> None:
        if self._environ is None:
            return
        if any(is_installed(sys.modules.get(name)) for name in self._names):
            self._environ = None  # libraries set some, too
        elif self._environ != _variables():
            self._environ, self._sets_variables = None, True

    def tick(self) -> bool:
        """Tell of the end of an import that was told of; return whether one goes on. May be called in any thread."""
        if self._told and not any(map(_is_loading, self._loading[:])):
            self._told = not self._tell("")
        return self._told

    def names(self) -> list[str]:
        """Return the names of what was imported, at most `MOST`."""
        if self._sets_variables:
            return []
        return [name for name in self._names if is_installed(sys.modules.get(name))][:MOST]


def _variables() -> dict[Any, Any]:
    return dict(getattr(os.environ, "_data", os.environ))  # as they are: decoding all would take 30 us


def _is_loading(name: str) -> bool:
    return bool(getattr(namespace(sys.modules.get(name)).get("__spec__"), "_initializing", False))
