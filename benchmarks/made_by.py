"""Cost of naming what made a job, for each submit: with the facts of the process and without, in turns."""

from __future__ import annotations

import time
from collections import defaultdict

import jobkit
from benchmarks.place import SECRET, Place
from benchmarks.table import Row, against
from jobkit.client.kit import Kit

_FIGURE = "submit, with what made it and without"


def measure(place: Place) -> list[Row]:
    place.flush()
    values: dict[str, list[float]] = defaultdict(list)
    with (
        jobkit.connect(place.url, secret=SECRET) as named,
        jobkit.connect(place.url, secret=SECRET, made_by="off") as unnamed,
    ):
        began = time.perf_counter()
        named.submit(abs, 1)
        first_ms = (time.perf_counter() - began) * 1000
        for _ in range(place.pick(9, 1)):
            for name, kit in (("jobkit", named), ("made_by=off", unnamed)):
                values[name].append(_rate(kit, place.pick(2_000, 50)))
            place.flush()
    return [
        *against(_FIGURE, values, "per s", {"made_by=off": 0.97}, is_more_better=True),
        *against("first submit of a process, with git", {"jobkit": [first_ms]}, "ms", {}),
    ]


def _rate(kit: Kit, n: int) -> float:
    began = time.perf_counter()
    for i in range(n):
        kit.submit(abs, i)
    return n / (time.perf_counter() - began)
