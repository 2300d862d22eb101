"""Submits per second of one process, without workers: one at a time, from coroutines, in bulk."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack

from benchmarks.place import Driver, Place
from benchmarks.table import Row, least, row


def measure(place: Place) -> list[Row]:
    place.flush()
    names = [name for name in ("huey", "saq", "arq") if name in place.peers]
    one: dict[str, list[float]] = defaultdict(list)
    many: dict[str, list[float]] = defaultdict(list)
    bulk: list[float] = []
    n = place.pick(3_000, 50)
    with ExitStack() as stack:
        drivers = {name: stack.enter_context(Driver(name, place)) for name in ["jobkit", *names]}
        for _ in range(place.pick(5, 1)):
            for name, driver in drivers.items():
                one[name].append(driver.ask("submit", n=n))
                if name != "huey":
                    many[name].append(driver.ask("submit aio", n=n, at_once=64))
                if name == "jobkit":
                    bulk.append(driver.ask("submit many", n=n))
                place.flush()
    rows = [least("submit, one at a time", one["jobkit"], "per s", 6_000)]
    rows += [row("submit, one at a time", name, one[name], "per s") for name in names]
    rows.append(least("submit, 64 coroutines", many["jobkit"], "per s", 6_000))
    rows += [row("submit, 64 coroutines", name, many[name], "per s") for name in names if name != "huey"]
    rows.append(least("submit, in bulk", bulk, "per s", 30_000))
    return rows
