"""Functions and classes without a module (of a notebook, a lambda) on their way to the processes that a job starts.

`multiprocessing` pickles them by name, which fails in a job: the `__main__` of its process is not the notebook. So they
are sent by value, as on their way into the job.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

from jobkit.run.inside.context import active

#: This process has got such code from a job, and may send it back.
_is_helper = False


def _patch_reduction(module: Any) -> None:
    def reducer_override(pickler: Any, obj: Any) -> Any:
        is_here = isinstance(obj, (FunctionType, type)) and (_is_helper or active() is not None)
        if is_here and not _has_name(obj):
            import cloudpickle

            return _rebuilt, (cloudpickle.dumps(obj),)
        return NotImplemented

    module.ForkingPickler.reducer_override = reducer_override


def _has_name(obj: FunctionType | type) -> bool:
    """Return whether its module has it under its name."""
    found: Any = sys.modules.get(obj.__module__)
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj


def _rebuilt(data: bytes) -> Any:
    import cloudpickle

    global _is_helper
    if not _is_helper and active() is None:
        _is_helper = True
        _patch_reduction(importlib.import_module("multiprocessing.reduction"))
    return cloudpickle.loads(data)


PATCHES: dict[str, Callable[[Any], None]] = {"multiprocessing.reduction": _patch_reduction}
