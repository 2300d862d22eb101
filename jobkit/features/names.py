"""Public names of features that need no kit, loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["Worker"]

if TYPE_CHECKING:
    from jobkit.features.arq.door import Worker

_PUBLIC = {
    "Worker": "jobkit.features.arq.door",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
