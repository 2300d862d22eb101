"""`MetricBuffer`: numbers that a running job logs, gathered until the next batch.

Logging a value costs an append: no lock, no pipe, no check that could raise. What cannot be kept is said once in the
job's log, since a job of nine hours must not end because of a metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobkit.model.metrics import NAMES_MOST, Point, by_position, curve_most
from jobkit.model.plain import now_ms

#: Points that one batch may have, and of one name at least: a plot shows no more within the moment of a batch.
_BATCH_MOST, _BATCH_LEAST = 1_280, 8

#: Points that wait at most; with more, the job waits for its worker.
_WAITING_MOST = 50_000

#: Characters of a name.
NAME_CHARS = 100

#: Sentences about refused metrics in one job's log, at most.
_SAID_MOST = 20

#: Steps are exact up to here.
_STEP_MOST = 2**53


class MetricBuffer:
    """Points of a job that have not been sent. `say` writes a line to the job's log."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()
        self._curves: dict[str, list[Point]] = {}
        self._refused: set[str] = set()
        self._last_steps: dict[str, float] = {}
        self._taken: dict[str, int] = {}
        self._next: float = 0
        self.count = 0

    def add(self, step: Any, numbers: Mapping[str, Any]) -> bool:
        """Add a point to each curve; return True if too many wait. Never raises."""
        at_ms, curves = now_ms(), self._curves
        if step is None:
            step = self._next
        elif type(step) is not int or not -_STEP_MOST < step < _STEP_MOST:
            step = self._checked(step)
        self._next = step + 1
        for name, value in numbers.items():
            if type(value) is not float and (value := self._number(name, value)) is None:
                continue
            try:
                curves[name].append((step, at_ms, value))
            except KeyError:
                if self._begin(name):
                    curves[name].append((step, at_ms, value))
        self.count += len(numbers)
        return self.count >= _WAITING_MOST

    def take(self) -> dict[str, Sequence[Point]]:
        """Return the points since the last call, thinned to what a plot can show."""
        self.count = 0
        taken = {}
        for name, points in list(self._curves.items()):
            if count := len(points):  # another thread may append meanwhile
                taken[name] = points[:count]
                del points[:count]
                self._check_order(name, taken[name])
        batch = batch_of(taken, self._taken)
        for name, points in taken.items():
            self._taken[name] += len(points)
        return batch

    def _begin(self, name: str) -> bool:
        if name in self._refused:
            return False
        if not is_name(name):
            why = f"metric {name!r:.120} is not kept: a name has 1 to {NAME_CHARS} printable characters"
        elif len(self._curves) >= NAMES_MOST:
            why = f"metric {name!r} and other new ones are not kept: a job may have {NAMES_MOST} names"
        else:
            self._taken[name], self._curves[name] = 0, []
            return True
        if len(self._refused) < 10 * NAMES_MOST:
            self._refused.add(name)
        self._once(why.split(":", 1)[1], why)
        return False

    def _number(self, name: str, value: Any) -> float | None:
        number = as_number(value)
        if number is None:
            shown = f"{type(value).__name__} {value!r:.60}" if isinstance(value, (str, bytes)) else type(value).__name__
            self._once(f"value {name!r:.120}", f"metric {name!r:.120} is a number, not {shown}: this value is not kept")
        return number

    def _checked(self, step: Any) -> float:
        number = as_number(step)
        if number is not None and -_STEP_MOST < number < _STEP_MOST:
            return int(number) if number.is_integer() else number
        shown = f"{step!r:.60}" if isinstance(step, (int, float, str)) else f"of type {type(step).__name__}"
        why = f"a step of log_metrics is a finite number, not {shown}: its metrics get the next step instead"
        self._once("step", why)
        return self._next

    def _check_order(self, name: str, points: list[Point]) -> None:
        steps = [point[0] for point in points]
        last = self._last_steps.get(name, steps[0])
        if steps[0] < last or (len(steps) > 1 and steps != sorted(steps)):
            self._once(
                "order",
                f"metric {name!r} has gone back to an earlier step; both are kept, in this order: log phases of a job "
                "under their own names, or with steps that go on",
            )
        self._last_steps[name] = steps[-1]

    def _once(self, what: str, sentence: str) -> None:
        if what not in self._said and len(self._said) < _SAID_MOST:
            self._said.add(what)
            self._say(sentence)


def as_number(value: Any) -> float | None:
    """Return a value as a float; None if it is no number."""
    if isinstance(value, (str, bytes, bytearray)):
        return None
    try:
        if getattr(value, "requires_grad", False) is True:  # torch warns of a loss that is not detached
            value = value.detach()
        return float(value)
    except Exception:  # no number, too large, or an object of the user's whose __float__ raises
        return None


def is_name(name: object) -> bool:
    """Return whether a metric may be called so: 1 to `NAME_CHARS` printable characters, no space at either end."""
    return isinstance(name, str) and 0 < len(name) <= NAME_CHARS and name.isprintable() and name.strip() == name


def batch_of(curves: Mapping[str, Sequence[Point]], sent: Mapping[str, int]) -> dict[str, Sequence[Point]]:
    """Return points that were logged within a moment, as many as a plot of that moment can show.

    Args:
        sent: number of points of each curve before. While the curve is not full, all points are kept.
    """
    most, all_most = max(_BATCH_LEAST, _BATCH_MOST // max(1, len(curves))), curve_most(len(sent))
    batch = {}
    for name, points in curves.items():
        is_small = len(points) <= max(most, all_most - sent[name])
        batch[name] = points if is_small else by_position(points, -(-4 * len(points) // most))
    return batch
