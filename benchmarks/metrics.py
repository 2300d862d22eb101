"""Cost of a logged value in the job, and of a curve of many points in the worker and the store.

CPU time of one thread, without a server: the batches of the job's process go to the worker's curves at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.place import Place
from benchmarks.table import Row, most, row
from jobkit.features.metrics.inside import log_metrics
from jobkit.model import LogLine
from jobkit.model.metrics import Curves, Point
from jobkit.run.inside.context import CURRENT, Context
from jobkit.run.inside.recorder import Recorder
from jobkit.run.inside.shown_values import Body


class Worker:
    """The curves of a worker, with what its lines take in the store. `cpu_s` is what it took."""

    def __init__(self) -> None:
        self.curves, self.stored = Curves(), [b""]
        self.cpu_s = 0.0
        self.sent = self.most = 0

    def emit(self, kind: str, batch: Mapping[str, Sequence[Point]]) -> None:
        began = time.thread_time()
        self.curves.add(batch)
        news = self.curves.take()
        self.curves.summary()
        if news is not None:
            name, told, stored = news
            if name.startswith("whole"):
                self.stored.clear()
            elif name.startswith("replace"):
                self.stored.pop()
            self.stored.append(stored)
            self.sent += len(told or stored)
            self.most = max(self.most, sum(map(len, self.stored)))
        self.cpu_s += time.thread_time() - began

    def lines(self, lines: Sequence[LogLine]) -> None: ...

    def progress(self, done: float | None, total: float | None, message: str) -> None: ...

    def artifact(self, name: str, media: str, body: Body) -> None: ...


def logged(count: int, per_tick: int, log: Callable[[int], Any]) -> tuple[float, Worker]:
    """Return the CPU seconds of the job's process for `count` calls, ticks included, and the worker."""
    worker = Worker()
    recorder = Recorder(worker, lambda: None)
    token = CURRENT.set(Context("job", 1, "task", recorder))
    try:
        began = time.thread_time()
        for step in range(count):
            log(step)
            if step % per_tick == per_tick - 1:
                recorder._send()
        recorder._send()
        return time.thread_time() - began - worker.cpu_s, worker
    finally:
        CURRENT.reset(token)


def measure(place: Place) -> list[Row]:
    count = place.pick(1_000_000, 5_000)
    rows = []
    for name, values, per_tick, log in (
        ("1 value, 100,000 calls/s", 1, 10_000, lambda step: log_metrics(step, loss=math.sin(step / 1000))),
        ("5 values, 20,000 calls/s", 5, 2_000, lambda step: log_metrics(step, a=0.1, b=0.2, c=0.3, d=step, e=0.5)),
    ):
        job_us, worker_us, stored_kb = [], [], []
        for _ in range(place.pick(3, 1)):
            job_s, worker = logged(count // values, per_tick, log)
            job_us.append(1e6 * job_s / count)
            worker_us.append(1e6 * worker.cpu_s / count)
            stored_kb.append(worker.most / 1000)
        rows += [
            most(f"log_metrics in the job, CPU a value ({name})", job_us, "us", 2),
            row(f"its worker, CPU a value ({name})", "jobkit", worker_us, "us"),
            most(f"{count:,} points in the store at most ({name})", stored_kb, "kB", 2_000),
        ]
    return rows
