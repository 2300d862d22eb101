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
        finders = sys.meta_path
        others = finders[finders.index(self) + 1 :] if self in finders else finders  # those before have asked us
        specs = (finder.find_spec(name, path, target) for finder in others if hasattr(finder, "find_spec"))
        spec = next(filter(None, specs), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            loader: Any = spec.loader
            execute = loader.exec_module  # of the loader, or of another hook

            def exec_module(module: ModuleType) -> None:
                vars(loader).pop("exec_module", None)  # the module must look as if it had not been hooked
                execute(module)
                self._actions[name](module)

            loader.exec_module = exec_module
        return spec
