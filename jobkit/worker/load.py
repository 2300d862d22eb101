"""Samples what a worker and its jobs use, for the charts of the Workers page and the cards."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import msgspec

from jobkit.model.load import POINTS, GpuUsage, Spark, Usage, WorkerLoad
from jobkit.system import processes
from jobkit.system.hardware import GpuReader

logger = logging.getLogger("jobkit.worker")

#: Maximum number of jobs with a chart, of each worker.
_JOBS = 32

_MIB = 1024 * 1024


class _Samples:
    """The last values of two measures: CPU (%) or load (%), and memory (MiB)."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, float]] = deque(maxlen=POINTS)
        self._before: tuple[float, float] | None = None

    def add(self, percent: float, mib: float) -> None:
        self._values.append((round(percent), round(mib)))

    def measure(self, cpu_s: float, rss_bytes: int) -> tuple[float, float]:
        """Add the CPU use since the last call, and the memory; return both. The first call adds nothing."""
        now, before = time.monotonic(), self._before
        self._before, percent, mib = (now, cpu_s), 0.0, rss_bytes / _MIB
        if before is not None:
            percent = max(0.0, 100 * (cpu_s - before[1]) / max(0.001, now - before[0]))
            self.add(percent, mib)
        return percent, mib

    @property
    def has_points(self) -> bool:
        return bool(self._values)

    @property
    def sparks(self) -> tuple[Spark, Spark]:
        return Spark.of([percent for percent, _ in self._values], 100), Spark.of([mib for _, mib in self._values])

    @property
    def usage(self) -> Usage:
        return Usage(*self.sparks)


class LoadSampler:
    """A separate thread: a driver of a GPU that hangs must not cost the worker its leases.

    Args:
        trees: returns the processes of each running job by its id, oldest job first; called in the thread.
        every_s: seconds between two samples.

    Attributes:
        cpu_percent, rss_bytes: of the worker and its jobs, by the newest sample.
        gpus: names of the GPUs that it may use.
    """

    def __init__(self, trees: Callable[[], Mapping[str, Sequence[int]]], gpus: GpuReader, every_s: float) -> None:
        self.cpu_percent, self.rss_bytes = 0.0, processes.rss_bytes(os.getpid())
        self.gpus: tuple[str, ...] = ()
        self._trees, self._reader, self._every_s = trees, gpus, every_s
        self._own, self._whole = _Samples(), _Samples()
        self._jobs: dict[str, _Samples] = {}
        self._gpus: dict[int, _Samples] = {}
        self._text = ""
        self._stopping = threading.Event()
        self._own.measure(time.process_time(), self.rss_bytes)

    def start(self) -> None:
        threading.Thread(target=self._keep, name="jobkit-load", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def facts(self) -> dict[str, str | float]:
        """Return fields of the worker's record; `load` only once for each sample."""
        load, self._text = self._text, ""
        named = {"gpus": msgspec.json.encode(self.gpus).decode()} if self.gpus else {}
        return {"cpu": self.cpu_percent, "rss": self.rss_bytes, **named, **({"load": load} if load else {})}

    def _keep(self) -> None:
        has_failed = False
        while not self._stopping.wait(self._every_s):
            try:
                self.sample()
            except Exception as error:  # the machine is short of something; a chart is no reason to end
                if not has_failed:
                    logger.warning("the load of this worker could not be read: %s: %s", type(error).__name__, error)
                has_failed = True

    def sample(self) -> None:
        """Read everything once."""
        trees = self._trees()
        self._jobs = {job_id: self._jobs.get(job_id) or _Samples() for job_id in trees}
        read = [
            curve.measure(sum(map(processes.cpu_s, pids)), sum(map(processes.rss_bytes, pids)))
            for curve, pids in zip(self._jobs.values(), trees.values(), strict=True)
        ]
        read.append(self._own.measure(time.process_time(), processes.rss_bytes(os.getpid())))
        percent, mib = (sum(values) for values in zip(*read, strict=True))
        self._whole.add(percent, mib)
        self.cpu_percent, self.rss_bytes = round(percent, 1), round(mib * _MIB)
        gpus = self._read_gpus()
        self.gpus = tuple(gpu.name for gpu in gpus)
        shown = islice(((job_id, curve) for job_id, curve in self._jobs.items() if curve.has_points), _JOBS)
        jobs = {job_id: curve.usage for job_id, curve in shown}
        load = WorkerLoad(self._every_s, self._whole.usage, jobs, gpus)
        self._text = msgspec.json.encode(load).decode()

    def _read_gpus(self) -> tuple[GpuUsage, ...]:
        found = []
        for index, name, total, used, load in self._reader.read():
            curve = self._gpus.setdefault(index, _Samples())
            if total:
                curve.add(load, used)
            found.append(GpuUsage(name, index, total, *curve.sparks))
        return tuple(found)
