"""The setting `pools`: tables by name from a file, or from JSON in the environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def tables(value: Any) -> dict[str, Mapping[str, Any]]:
    """Return the options of each pool, which `kit.pools` checks."""
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, Mapping) or not all(isinstance(table, Mapping) for table in value.values()):
        raise TypeError
    return {str(name): dict(table) for name, table in value.items()}


READERS = {"pools": (tables, "a table of pools, each a table of options")}
