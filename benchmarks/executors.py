"""Calls through `kit.executor()` beside `kit.map`, and joblib's `Parallel` on workers beside joblib's own processes."""

from __future__ import annotations

import time
from collections import defaultdict

import joblib
from joblib import Parallel, delayed, parallel_config

import jobkit
import jobkit.joblib
from benchmarks.place import SECRET, Place, jobkit_worker, running, until
from benchmarks.table import Row, against

_CALLS, _SEARCH = "200 calls in warm processes", "joblib, 60 calls of 20 ms"


def measure(place: Place) -> list[Row]:
    place.flush()
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    n, slots = place.pick(200, 10), 2
    with jobkit.connect(place.url, secret=SECRET) as kit, running(jobkit_worker(slots), place):
        until(kit.workers, "the worker to serve")
        warm = kit.options(reuse=1000)
        with warm.executor() as executor:
            warm.map(abs, [1, 2]).result()
            for _ in range(place.pick(5, 1)):
                began = time.perf_counter()
                warm.map(abs, range(n)).result()
                values[_CALLS]["kit.map"].append(time.perf_counter() - began)
                began = time.perf_counter()
                list(executor.map(abs, range(n)))
                values[_CALLS]["jobkit executor.map"].append(time.perf_counter() - began)
                began = time.perf_counter()
                futures = [executor.submit(abs, i) for i in range(n)]
                for future in futures:
                    future.result()
                values[_CALLS]["jobkit executor.submit"].append(time.perf_counter() - began)
        for turn in range(place.pick(4, 1)):
            for backend, more in (("loky", {}), ("jobkit", {"kit": kit})):
                with parallel_config(backend, n_jobs=slots, **more):
                    began = time.perf_counter()
                    Parallel()(delayed(time.sleep)(0.02) for _ in range(place.pick(60, 6)))
                    if turn or place.is_quick:  # the first one starts processes
                        values[_SEARCH][backend].append(time.perf_counter() - began)
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    wanted = {_CALLS: {"kit.map": 1.5}, _SEARCH: {"loky": 1.5}}
    return [row for figure, found in values.items() for row in against(figure, found, "s", wanted[figure])]
