"""Submits per second of one process, without workers: one at a time, from coroutines, in bulk."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack

from benchmarks.place import Driver, Place
from benchmarks.table import Row, against

_ONE, _MANY, _MAP = "submit, one at a time", "submit, 64 coroutines", "map, beside one at a time"


def measure(place: Place) -> list[Row]:
    place.flush()
    names = [name for name in ("huey", "saq", "arq") if name in place.peers]
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    n = place.pick(3_000, 50)
    with ExitStack() as stack:
        drivers = {name: stack.enter_context(Driver(name, place)) for name in ["jobkit", *names]}
        for _ in range(place.pick(5, 1)):
            for name, driver in drivers.items():
                values[_ONE][name].append(driver.ask("submit", n=n))
                if name != "huey":
                    values[_MANY][name].append(driver.ask("submit aio", n=n, at_once=64))
                if name == "jobkit":
                    values[_ONE]["jobkit aio"].append(driver.ask("submit aio", n=n, at_once=1))
                    values[_MAP]["jobkit map"].append(driver.ask("map", n=n))
                    values[_MAP]["one at a time"].append(values[_ONE][name][-1])
                place.flush()
    wanted = {_ONE: {"saq": 1.0}, _MANY: {"saq": 1.0}, _MAP: {"one at a time": 4.0}}
    return [
        row
        for figure, by_system in values.items()
        for row in against(figure, by_system, "per s", wanted[figure], is_more_better=True)
    ]
