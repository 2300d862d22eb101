"""Random numbers of a job with a seed: those of `random`, numpy and torch.

Libraries that the job has not loaded yet are seeded when it imports them. The state before is put back afterwards,
because other code may run in the same process (`reuse=`, `sync://`).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

from jobkit.run.inside.import_hook import ImportHook

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

    def start(module: ModuleType) -> None:
        getattr(module, _LIBRARIES[module.__name__][2])(seed)

    before = []
    for name, (get, put_back, _) in _LIBRARIES.items():
        if (module := sys.modules.get(name)) is not None:
            before.append((getattr(module, put_back), getattr(module, get)()))
            start(module)
    hook = ImportHook(dict.fromkeys(_LIBRARIES, start))
    sys.meta_path.insert(0, hook)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the job has changed the list
            sys.meta_path.remove(hook)
        for put_back, state in before:
            put_back(state)
