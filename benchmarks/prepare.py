"""Cost of preparing a submit, before anything is sent: of a task of a module, and of a lambda."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.place import SECRET, Place
from benchmarks.systems.jobkit_tasks import counted
from benchmarks.table import Row, row
from jobkit.client.submit import SubmitOrigin, prepare
from jobkit.codec import Codec
from jobkit.settings import Settings
from jobkit.tasks.options import JobOptions
from jobkit.tasks.registry import registry

#: Microseconds that each may take.
_WANTED = {"a task of a module": 21.0, "a lambda": 60.0}


def measure(place: Place) -> list[Row]:
    origin = SubmitOrigin(Settings(url=place.url), Codec.from_secret(SECRET), "bench", ships=True)
    over, n = JobOptions(), place.pick(3_000, 50)
    functions: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "a task of a module": (counted, {}),
        "a lambda": (lambda x: x + 1, {"x": 41}),
    }
    values: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(place.pick(9, 1)):
        for name, (function, kwargs) in functions.items():
            began = time.perf_counter()
            for _ in range(n):
                prepare(registry.task_of(function), (), kwargs, over, origin)
            values[name].append((time.perf_counter() - began) / n * 1e6)
    rows = [row(f"prepare {name}", "jobkit", found, "us") for name, found in values.items()]
    return [
        Row(each.figure, each.system, each.value, each.unit, each.low, each.high, f"<= {most:g} us", each.value <= most)
        for each, most in zip(rows, _WANTED.values(), strict=True)
    ]
