"""`Range`: bounds of a parameter, written into its annotation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jobkit.model import InvalidParams


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest allowed value, both included: `n: Annotated[int, jobkit.Range(1, 100)] = 10`.

    Args:
        min: smallest number, or None for no limit. Of text and lists it bounds the length.
        max: largest number, or None for no limit.

    Raises:
        InvalidParams: a bound is not a number, or `min` is above `max`.

    It bounds numbers by their value, text by its number of characters, lists and tuples by their number of items.
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
            if math.isinf(bound):  # no limit, and JSON has no infinity
                object.__setattr__(self, name, None)
        if self.min is not None and self.max is not None and self.min > self.max:
            raise InvalidParams(f"Range min must not be above max, but {self.min!r} is above {self.max!r}", "min")
