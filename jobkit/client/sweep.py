"""From the axes of a sweep to its points: every combination, one beside the other, or drawn at random.

`sweep(n=[1, 2], method=["euler", "rk4"])` gives the task's arguments lists of values. The words that steer the sweep
itself differ from arguments of the same name by their form: a list is an axis, a single value is an option.
"""

from __future__ import annotations

import itertools
import math
import random
import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec

from jobkit.model import InvalidParams
from jobkit.tasks.params import checked
from jobkit.tasks.specs import Range

#: Submitted by one call without a `limit=`: a range that was meant for something else is noticed here.
MAX_JOBS = 100_000

#: `limit=` may ask for so many.
MAX_LIMIT = 1_000_000

#: Words that steer a sweep, where their value is not a list.
WORDS = ("how", "samples", "seed", "limit", "stop_when", "name")

WAYS = ("grid", "zip", "random")


class Sweep(msgspec.Struct, frozen=True):
    """The points of a sweep or a map, which are the arguments of each job; `axes` names those that were swept."""

    points: Iterable[Any]
    axes: tuple[str, ...] = ()
    seed: int | None = None
    stop_when: Callable[..., object] | str | None = None
    name: str = ""


def sweep_of(given: Mapping[str, Any]) -> Sweep:
    """Return the sweep of the keyword arguments of `Kit.sweep`; in a grid the last axis is the fastest."""
    words = {name: given[name] for name in WORDS if name in given and not _is_axis(given[name])}
    axes = {name: axis for name, axis in given.items() if name not in words}
    how = words.get("how", "grid")
    if how not in WAYS:
        raise InvalidParams(f"how must be one of {', '.join(WAYS)}, not {how!r}", "how")
    if not axes:
        raise InvalidParams("a sweep needs at least one axis: sweep(n=[1, 2, 3])")
    limit = checked("limit", words.get("limit"), "int", min=1, max=MAX_LIMIT, nullable=True)
    for name in ("samples", "seed"):
        if words.get(name) is not None and how != "random":
            raise InvalidParams(f"{name} is for how='random'; a {how} sweep has no use for it", name)
    if how == "random":
        points, seed = _random(axes, words, limit)
        return Sweep(points, tuple(axes), seed, words.get("stop_when"), words.get("name", ""))
    values = {name: _values(name, axis, how, limit) for name, axis in axes.items()}
    lengths = {name: len(axis) for name, axis in values.items()}
    combined: Iterable[tuple[Any, ...]]
    if how == "zip":
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {_told(n)}" for name, n in lengths.items())
            raise InvalidParams(f"how='zip' needs axes of one length, but {told} values", next(iter(lengths)))
        count, combined = min(lengths.values()), zip(*values.values(), strict=True)
    else:
        count, combined = math.prod(lengths.values()), itertools.product(*values.values())
    if limit is None and count > MAX_JOBS:
        raise InvalidParams(
            f"this sweep has {_told(count)} points, more than {MAX_JOBS:,} jobs in one call: pass limit=1000 to submit "
            "only the first 1,000, or how='random', samples=1000",
            "limit",
        )
    points = [dict(zip(values, point, strict=True)) for point in itertools.islice(combined, limit)]
    return Sweep(points, tuple(axes), None, words.get("stop_when"), words.get("name", ""))


def _random(axes: Mapping[str, Any], words: Mapping[str, Any], limit: int | None) -> tuple[list[dict[str, Any]], int]:
    """Points drawn from lists and ranges; from lists alone, all of them different."""
    wanted = checked("samples", words.get("samples"), "int", min=1, max=MAX_LIMIT, nullable=True)
    if wanted is None and limit is None:
        raise InvalidParams("how='random' needs samples=, the number of points to draw", "samples")
    samples = min(wanted or MAX_LIMIT, limit or MAX_LIMIT)
    if samples > MAX_JOBS and limit is None:
        raise InvalidParams(f"samples={samples:,} is more than {MAX_JOBS:,} jobs in one call; pass limit= too", "limit")
    seed = checked("seed", words.get("seed"), "int", min=0, max=2**63, nullable=True)
    seed = secrets.randbelow(2**31) if seed is None else seed
    draw = random.Random(seed)
    pick = {name: _picker(name, axis, draw) for name, axis in axes.items() if isinstance(axis, Range)}
    lists = {name: _values(name, axis, "random", None) for name, axis in axes.items() if name not in pick}
    if pick:
        pick |= {name: partial(draw.choice, values) for name, values in lists.items()}
        return [{name: pick[name]() for name in axes} for _ in range(samples)], seed
    count = math.prod(len(values) for values in lists.values())
    if wanted is None:  # limit alone: at most so many
        samples = min(samples, count)
    if samples > count:
        raise InvalidParams(
            f"these axes have {count:,} combinations, fewer than samples={samples:,}: ask for at most {count:,}, "
            "or leave how= out to run all of them",
            "samples",
        )
    return [_nth(lists, n) for n in draw.sample(range(count), samples)], seed


def _picker(name: str, axis: Range, draw: random.Random) -> Callable[[], float]:
    """Return a function that draws a value of a range, whole if both of its ends are."""
    low, high = axis.min, axis.max
    if low is None or high is None:
        raise InvalidParams(f"axis {name}: a Range to draw from needs both ends, like Range(0.0, 1.0)", name)
    if isinstance(low, int) and isinstance(high, int):
        return partial(draw.randint, low, high)
    return partial(draw.uniform, low, high)


def _nth(values: Mapping[str, list[Any]], n: int) -> dict[str, Any]:
    """The combination with that number in the order of a grid."""
    point: dict[str, Any] = {}
    for name in reversed(list(values)):
        n, i = divmod(n, len(values[name]))
        point[name] = values[name][i]
    return {name: point[name] for name in values}


def _is_axis(value: Any) -> bool:
    return isinstance(value, Range) or (isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)))


def _values(name: str, axis: Any, how: str, limit: int | None) -> list[Any]:
    if isinstance(axis, Range):
        raise InvalidParams(
            f"axis {name} is a Range, from which only how='random', samples= can draw; give a list of values", name
        )
    if not _is_axis(axis):
        raise InvalidParams(f"axis {name} must be a list of values, not {axis!r}: write {name}=[{axis!r}]", name)
    tolist = getattr(axis, "tolist", None)  # an array or a Series: its values as Python's own numbers
    if callable(tolist):
        axis = tolist()
        if not isinstance(axis, list) or any(isinstance(value, list) for value in axis):
            raise InvalidParams(f"axis {name} must have one dimension", name)
    # A range knows its length; of an endless generator only so much is read.
    most = MAX_LIMIT + 1 if limit is None or how == "zip" else max(limit, 1)
    values = list(itertools.islice(axis, most))
    if not values:
        raise InvalidParams(f"axis {name} has no values", name)
    return values


def _told(count: int) -> str:
    return f"more than {MAX_LIMIT:,}" if count == MAX_LIMIT + 1 else f"{count:,}"  # of an endless axis
