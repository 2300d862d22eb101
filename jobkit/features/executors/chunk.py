"""Several calls of a function as one job. The job's process imports this module, so it imports little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jobkit.tasks.task import name_of


class Chunk:
    """Calls a function once for each of several tuples of arguments; returns the list of values."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__name__ = name_of(function)  # the job's name
        self.__doc__ = ""  # else this class's would be the job's title

    def __call__(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [self._function(*args) for args in calls]
