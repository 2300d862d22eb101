"""The rules of a schedule, checked: what becomes of missed slots, and of one whose run before has not ended."""

from __future__ import annotations

from typing import Any

from jobkit.model import InvalidParams
from jobkit.model.schedule import MISSED, OVERLAP

#: Of missed slots, at most so many are run after all; their jobs are stored in one step.
MOST_MISSED = 500
MOST_RUNS = 1_000_000_000


def checked_rules(missed: Any = None, missed_limit: Any = None, overlap: Any = None) -> dict[str, Any]:
    """Those that were given, as `ScheduleSpec` has them.

    Raises:
        InvalidParams: a value that is not allowed; names it, and those that are.
    """
    rules: dict[str, Any] = {}
    for name, value, allowed in (("missed", missed, MISSED), ("overlap", overlap, OVERLAP)):
        if value is not None:
            if value not in allowed:
                raise InvalidParams(f"{name} must be one of {', '.join(allowed)}, not {value!r}"[:300], name)
            rules[name] = str(value)
    if missed_limit is not None:
        rules["missed_limit"] = _whole("missed_limit", missed_limit, MOST_MISSED)
    return rules


def checked_count(value: Any) -> int:
    """So many runs in all; 0 for no bound where nothing was given.

    Raises:
        InvalidParams: not a whole number from 1.
    """
    return 0 if value is None else _whole("count", value, MOST_RUNS)


def _whole(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidParams(f"{name} must be a whole number from 1 to {most}, not {value!r}"[:300], name)
    return value
