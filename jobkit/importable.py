"""Modules that another process can import by their names; the code of all others is sent by value."""

from __future__ import annotations

import importlib.machinery
import os
import sys
import weakref
from collections.abc import Iterable
from types import ModuleType
from typing import Any

#: Answers for loaded modules, for as long as they exist.
_known: weakref.WeakKeyDictionary[ModuleType, bool] = weakref.WeakKeyDictionary()

_SUFFIXES = tuple(importlib.machinery.all_suffixes())


def is_importable(name: str) -> bool:
    """Return True if an import of this name in another process gives the module that is loaded here.

    False for what only looks like a module: a notebook or script (`__main__`), an app that Panel serves, and what
    `exec`, `runpy` or a load by path under another name has made. True if no such module is loaded: pickle finds out.
    """
    if name in ("__main__", "__mp_main__"):
        return False
    module = sys.modules.get(name)
    if module is None:
        return True
    try:
        return _known[module]
    except KeyError:
        found = _known[module] = _is_found(name, module)
        return found
    except TypeError:  # not a module, and it has no hash or weak reference
        return _is_found(name, module)


def module_of(value: Any) -> str:
    """Return the name of the module of a function, class or instance; "" if it has none."""
    name = getattr(value, "__module__", "")
    return name if isinstance(name, str) else ""


def _is_found(name: str, module: ModuleType) -> bool:
    if name in sys.builtin_module_names:
        return True
    own, parent = getattr(module, "__name__", name), name.rpartition(".")[0]
    if own != name and sys.modules.get(own) is module:  # `os.path` is `posixpath`
        return is_importable(own)
    if parent and not is_importable(parent):
        return False
    spec, file = getattr(module, "__spec__", None), str(getattr(module, "__file__", None) or "")
    if not file:  # made by code: that of its package runs in the other process, too
        return spec is not None or parent in sys.modules
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    if spec is not None and _is_in(sys.path if path is None else path, name, file):
        return True
    for finder in sys.meta_path:
        try:
            other = finder.find_spec(name, path)
        except Exception:  # a finder may be anybody's
            continue
        if other is not None and not other.origin:  # a folder without code has the name, or a finder makes the module
            return other.submodule_search_locations is None
        if other is not None:
            return os.path.realpath(str(other.origin)) == os.path.realpath(file)
    return False


def _is_in(path: Iterable[str], name: str, file: str) -> bool:
    """Return True if one of these folders has the file under this name: `a.b` is `b.py`, `b/__init__.py` or `b.so`."""
    suffix = max((each for each in _SUFFIXES if file.endswith(each)), key=len, default="")
    folder, last = os.path.split(file.removesuffix(suffix))
    if last == "__init__":
        folder, last = os.path.split(folder)
    return bool(suffix) and last == name.rpartition(".")[2] and folder in path
