"""`Range`: bounds of a parameter in its annotation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jobkit.model import InvalidParams


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest allowed value, both inclusive: `n: Annotated[int, jobkit.Range(1, 100)] = 10`.

    Args:
        min: smallest number, or None for no limit. For text and lists, the minimum length.
        max: largest number, or None for no limit.

    Raises:
        InvalidParams: a bound is not a number, or `min` is above `max`.

    Numbers are bounded by value, text by number of characters, lists and tuples by number of items.
    """

    min: float | None = None
    max: float | None = None

    def __post_init__(self) -> None:
        for name in ("min", "max"):
            bound = getattr(self, name)
            if bound is None:
                continue
            if isinstance(bound, bool) or not isinstance(bound, (int, float)) or math.isnan(bound):
                raise InvalidParams(f"Range {name} must be a number or None, not {bound!r}", name)
            if math.isinf(bound):  # no limit; JSON has no infinity
                object.__setattr__(self, name, None)
        if self.min is not None and self.max is not None and self.min > self.max:
            raise InvalidParams(f"Range min must not be above max, but {self.min!r} is above {self.max!r}", "min")
