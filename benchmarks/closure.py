"""200 jobs over one closure of 5 MB: the time of all, beside jobs without it and Dask (if it is installed), and what is stored."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path

import jobkit
from benchmarks.place import SECRET, Place, jobkit_worker, running, until
from benchmarks.table import Row, against

_ALL, _STORED = "jobs over one closure of 5 MB", "stored for them, files and Redis"
_BYTES = 5_000_000


def measure(place: Place) -> list[Row]:
    place.flush()
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    n, slots, results = place.pick(200, 5), 2, place.folder / "results"
    data = os.urandom(_BYTES)
    items = [{"i": i} for i in range(n)]
    with (
        jobkit.connect(place.url, secret=SECRET, results=str(results)) as kit,
        running(jobkit_worker(slots), place, JOBKIT_RESULTS=results),
        place.redis() as redis,
    ):
        until(kit.workers, "the worker to serve")
        kit.map(lambda i: i, items[:5]).result()
        before = redis.info("memory")["used_memory"]
        for _ in range(place.pick(3, 1)):
            began = time.perf_counter()
            kit.map(lambda i: i, items).result()
            values[_ALL]["without it"].append(time.perf_counter() - began)
            began = time.perf_counter()
            kit.map(lambda i: len(data) + i, items).result()
            values[_ALL]["jobkit"].append(time.perf_counter() - began)
        stored = redis.info("memory")["used_memory"] - before + _size_of(results)
        values[_STORED]["jobkit"].append(stored / 1e6)
    for _ in range(place.pick(3, 1)):
        if (took_s := _dask(data, n, slots)) is not None:
            values[_ALL]["dask"].append(took_s)
    wanted = {_ALL: {"dask": 1.0}, _STORED: {}}
    units = {_ALL: "s", _STORED: "MB"}
    return [row for figure, found in values.items() for row in against(figure, found, units[figure], wanted[figure])]


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _dask(data: bytes, n: int, slots: int) -> float | None:
    try:
        from distributed import Client, LocalCluster  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    with (
        LocalCluster(n_workers=slots, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(lambda i: i, range(5)))
        began = time.perf_counter()
        client.gather(client.map(lambda i: len(data) + i, range(n)))
        return time.perf_counter() - began
