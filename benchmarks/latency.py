"""Submit to return, to start and to result, one job at a time, with an idle worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack

from benchmarks.place import Driver, Place, running
from benchmarks.table import Row, against, percentile

#: Slots of the worker; huey does best with one thread.
_SLOTS = {"huey": 1}

_FIGURES = {"start": "submit to start", "result": "submit to result", "submit": "submit alone"}
_WANTED = {"start": {"huey": 1.0}, "result": {"huey": 1.0}, "submit": {"saq": 1.0}}
_SHARES = {"p50": 0.5, "p95": 0.95}

_Values = dict[str, dict[str, list[float]]]


def measure(place: Place) -> list[Row]:
    """Rounds of each system in turn. arq comes after them: its polling would disturb the others."""
    place.flush()
    values: _Values = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        drivers = {}
        for system in ["jobkit", *(name for name in ("huey", "saq") if name in place.peers)]:
            drivers[system] = _start(stack, system, place)
        for _ in range(place.pick(5, 1)):
            for system, driver in drivers.items():
                _take(values[system], driver.ask("latency", n=place.pick(150, 5)))
                if system == "jobkit":
                    _take(values["jobkit aio"], driver.ask("latency aio", n=place.pick(150, 5)))
    if "arq" in place.peers:
        for system, n in {"arq 0.01": place.pick(150, 2), "arq 0.5": place.pick(20, 1)}.items():
            with ExitStack() as stack:
                _take(values[system], _start(stack, system, place).ask("latency", n=n))
    rows = []
    for figure, name in _FIGURES.items():
        for label in _SHARES:
            found = {system: by[f"{figure} {label}"] for system, by in values.items()}
            rows += against(f"{name}, {label}", found, "ms", _WANTED.get(figure, {}))
    return rows


def _start(stack: ExitStack, system: str, place: Place) -> Driver:
    """A driver with its worker, both ready."""
    driver = stack.enter_context(Driver(system, place))
    stack.enter_context(running(driver.worker(_SLOTS.get(system, 10)), place, **driver.environment))
    driver.ask("latency", n=1)
    return driver


def _take(values: dict[str, list[float]], found: Mapping[str, list[float]]) -> None:
    for figure, times in found.items():
        for label, share in _SHARES.items():
            values[f"{figure} {label}"].append(percentile(times, share))
