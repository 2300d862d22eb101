"""`ImportHook`: what is done to some modules right after their import."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any


class ImportHook:  # not a `MetaPathFinder`: `importlib.abc` would load `importlib.resources` in each process
    """Lets the other finders find these modules, and calls a function with each once it is loaded.

    To be put at the begin of `sys.meta_path`; it does nothing to modules that are loaded already.
    """

    def __init__(self, actions: Mapping[str, Callable[[Any], object]]) -> None:
        self._actions = actions

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._actions:
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            loader: Any = spec.loader

            def exec_module(module: ModuleType) -> None:
                del loader.exec_module  # the module must look as if it had not been hooked
                loader.exec_module(module)
                self._actions[name](module)

            loader.exec_module = exec_module
        return spec
