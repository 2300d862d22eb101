"""Results of other jobs as arguments.

They are placeholders until they are known: such a call is sent with None at each position and a list of which result
belongs where, so it stays plain data. The worker adds the results; the process that runs the job inserts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

#: Maximum depth of searched lists and dicts, and maximum number of items of one call.
MAX_DEPTH, MAX_ITEMS = 8, 200_000

#: `[steps, ids, is_many]`: the path from `[args, kwargs]` to a position, and the jobs whose results belong there.
Need = tuple[list[int], list[str], bool]

#: Types of values that contain no references.
PLAIN = frozenset({int, float, str, bool, bytes, type(None)})


class Reference:
    """Placeholder for the result of one job, or (`is_many`) for the list of the results of several."""

    __slots__ = ("ids", "is_many")

    def __init__(self, ids: Sequence[str], is_many: bool = False) -> None:
        self.ids, self.is_many = tuple(ids), is_many

    def __str__(self) -> str:
        return f"results of {len(self.ids)} jobs" if self.is_many else f"result of job {self.ids[0]}"


def replaced(value: Any, reference_of: Callable[[Any], Reference | None]) -> Any:
    """Return `value` with items replaced by references if `reference_of` returns one; `value` itself if there are none.

    Searches lists, tuples and dicts (of exactly these types).
    """
    left = MAX_ITEMS

    def of(value: Any, depth: int) -> Any:
        nonlocal left
        kind = type(value)
        if kind in PLAIN:
            return value
        if kind not in (list, tuple, dict):
            found = reference_of(value)
            return value if found is None else found
        values = list(value.values()) if kind is dict else value
        left -= len(values)
        if depth >= MAX_DEPTH or left < 0:
            return value
        changed = [of(item, depth + 1) for item in values]
        if all(a is b for a, b in zip(changed, values, strict=True)):
            return value
        return dict(zip(value, changed, strict=True)) if kind is dict else kind(changed)

    return of(value, 0)


def ids_of(value: Any) -> tuple[str, ...]:
    """Return the ids of all references in a value, without duplicates, in order."""
    return tuple(dict.fromkeys(job_id for reference, _ in _found(value, []) for job_id in reference.ids))


def taken_out(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any], list[Need]]:
    """Return the arguments with None for each reference, and the list of results to insert."""
    whole: Any = [list(args), dict(kwargs)]
    needs: list[Need] = [(steps, list(found.ids), found.is_many) for found, steps in _found(whole, [])]
    for steps, _, _ in needs:
        whole = put_at(whole, steps, None)
    return whole[0], whole[1], needs


def put_in(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    needs: Sequence[Need],
    value_of: Callable[[Sequence[str], bool], Any],
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments with `value_of(ids, is_many)` at each of these positions."""
    whole: Any = [list(args), dict(kwargs)]
    for steps, ids, is_many in needs:
        whole = put_at(whole, steps, value_of(ids, is_many))
    return whole[0], whole[1]


def _found(value: Any, steps: list[int]) -> Iterator[tuple[Reference, list[int]]]:
    kind = type(value)
    if kind is Reference:
        yield value, steps
    elif kind is list or kind is tuple or kind is dict:
        for i, item in enumerate(value.values() if kind is dict else value):
            if type(item) not in PLAIN:
                yield from _found(item, [*steps, i])


def put_at(value: Any, steps: Sequence[int], item: Any) -> Any:
    """Return a copy of `value` with `item` at the path `steps`."""
    if not steps:
        return item
    step = steps[0]
    if isinstance(value, dict):
        key = list(value)[step]
        return {**value, key: put_at(value[key], steps[1:], item)}
    items = list(value)
    items[step] = put_at(items[step], steps[1:], item)
    return tuple(items) if isinstance(value, tuple) else items
