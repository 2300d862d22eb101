"""`Differing`: which arguments of many jobs differ, as the jobs come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

#: Arguments that are named, at most.
_MOST = 20


class Differing:
    """Arguments that are not the same in all jobs that were read.

    Args:
        axes: arguments that were swept: they differ, and come first.
    """

    def __init__(self, axes: Sequence[str] = ()) -> None:
        self._axes = axes
        self._first: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self._having: Counter[str] = Counter()
        self._differ = set(axes)
        self._count = 0
        self._names: list[str] | None = None

    def read(self, params: Mapping[str, Any]) -> None:
        """Read the arguments of one job more."""
        self._count += 1
        self._names = None
        self._having.update(params.keys())
        for name, value in params.items():
            if name not in self._first:
                self._first[name], self._texts[name] = value, repr(value)
            elif name not in self._differ and repr(value) != self._texts[name]:
                self._differ.add(name)

    @property
    def names(self) -> list[str]:
        """Arguments that differ or that some jobs lack, at most 20; all arguments of a single job."""
        if self._names is None:
            found = [name for name in self._axes if name in self._first]
            found += [name for name in self._first if name not in self._axes and self._differs(name)]
            self._names = found[:_MOST]
        return self._names

    def _differs(self, name: str) -> bool:
        return self._count == 1 or name in self._differ or self._having[name] < self._count

    @property
    def others(self) -> dict[str, Any]:
        """The other arguments, with their first values."""
        return {name: value for name, value in self._first.items() if name not in self.names}
