"""Names of rooms above, for those that they import: a task shows its form and submits itself to the default kit.

Loaded when they are used, by name; these are the only steps upwards.
"""

from __future__ import annotations

import importlib
from typing import Any


def public(name: str) -> Any:
    """Return the public name `jobkit.NAME`."""
    return getattr(importlib.import_module("jobkit"), name)


def ui() -> Any:
    """Return `jobkit.ui`."""
    return importlib.import_module("jobkit.ui")
