"""The option `ship`."""

from __future__ import annotations

import os
from typing import Any

from jobkit.model import InvalidParams


def ship(name: str, value: Any) -> bool | tuple[str, ...]:
    """Return what `ship=` means: True, False, or paths of files and folders."""
    if isinstance(value, bool):
        return value
    paths = [value] if isinstance(value, (str, os.PathLike)) else value
    if (
        not isinstance(paths, (list, tuple))
        or not paths
        or not all(isinstance(each, (str, os.PathLike)) for each in paths)
    ):
        raise InvalidParams(
            f'{name} must be True, False, or paths of files and folders like ["src"], not {value!r}', name
        )
    return tuple(os.fspath(each) for each in paths)
