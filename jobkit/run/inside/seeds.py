"""Random numbers of a job with a seed: those of `random`, numpy and torch.

Libraries that the job has not loaded yet are seeded when it imports them. The state before is put back afterwards,
because other code may run in the same process (`reuse=`, `sync://`).
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

#: The functions of a module that return its state, put it back and seed it.
_LIBRARIES = {
    "random": ("getstate", "setstate", "seed"),
    "numpy.random": ("get_state", "set_state", "seed"),
    "torch": ("get_rng_state", "set_rng_state", "manual_seed"),
}


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed the global generators while entered; no-op for None. `seed` is from 0 to 2**32 - 1."""
    if seed is None:
        yield
        return
    before = []
    for name, (get, put_back, start) in _LIBRARIES.items():
        if (module := sys.modules.get(name)) is not None:
            before.append((getattr(module, put_back), getattr(module, get)()))
            getattr(module, start)(seed)
    finder = _SeedOnImport(seed)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the job has changed the list
            sys.meta_path.remove(finder)
        for put_back, state in before:
            put_back(state)


class _SeedOnImport(importlib.abc.MetaPathFinder):
    """Finds the libraries by the other finders, and seeds each right after its import."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _LIBRARIES:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                loader: Any = spec.loader
                if hasattr(loader, "exec_module"):
                    loader.exec_module = self._seeding(name, loader.exec_module)
                return spec
        return None

    def _seeding(self, name: str, execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def exec_module(module: ModuleType) -> None:
            execute(module)
            getattr(module, _LIBRARIES[name][2])(self._seed)

        return exec_module
