"""Facts about a worker: identity, limits, devices, and the usual duration of each task."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from jobkit.above import public
from jobkit.model import InvalidParams, StoreUnavailable
from jobkit.model.limits import resources_text
from jobkit.store.values import WorkerInfo
from jobkit.system import memory, processes

if TYPE_CHECKING:
    from jobkit.store.redis import RedisStore


def identify(
    queues: Sequence[str] | Mapping[str, float],
    slots: int,
    tasks: Sequence[str],
    resources: Mapping[str, float] | None = None,
) -> WorkerInfo:
    """This process as a worker, under a new id. Queues with weights share its slots, others are served in order."""
    host = socket.gethostname()
    name = "".join(c if c.isalnum() or c in "_-" else "-" for c in host)[:60]  # as it may stand in a key
    return WorkerInfo(
        id=f"{name or 'host'}.{os.getpid()}.{secrets.token_hex(3)}",
        host=host,
        pid=os.getpid(),
        queues=tuple(queues),
        slots=slots,
        started_ms=int(time.time() * 1000),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        tasks=tuple(tasks),
        weights=dict(queues) if isinstance(queues, Mapping) else {},
        resources=dict(resources or {}),
        pool=os.environ.get("JOBKIT_POOL", ""),
        unit=os.environ.get("JOBKIT_UNIT", ""),
        engine=os.environ.get("JOBKIT_ENGINE", ""),
    )


def lasting_facts(info: WorkerInfo) -> dict[str, Any]:
    """Return the fields of a worker's record that never change."""
    return {
        "host": info.host,
        "pid": info.pid,
        "process": processes.mark(info.pid),
        "queues": ",".join(info.queues),
        "slots": info.slots,
        "started": info.started_ms,
        "version": public("__version__"),
        "python": info.python,
        "tasks": ",".join(info.tasks),
        "memory": memory.available_bytes(),
        **({"weights": json.dumps(dict(info.weights))} if info.weights else {}),
        **({"has": json.dumps(dict(info.resources))} if info.resources else {}),
        **({"pool": info.pool, "unit": info.unit, "engine": info.engine} if info.pool else {}),
    }


logger = logging.getLogger("jobkit.worker")

#: Ways to stop, from the gentlest on: "retire" gives running jobs all time, "drain" the drain time, "now" none.
STOPS = ("", "retire", "drain", "now")


class RetryPause:
    """The loop's waits for a server that is away. The first heartbeat that reaches it ends all of them."""

    def __init__(self) -> None:
        self._is_answered = asyncio.Event()

    async def wait(self, failures: int) -> None:
        """Wait before the next attempt at a server that has failed so often in a row: up to 5 s."""
        self._is_answered.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(5.0, 0.1 * 2.0 ** min(failures, 10))):
                await self._is_answered.wait()

    def end(self) -> None:
        self._is_answered.set()


@dataclass
class RecycleLimits:
    """Limits of one worker: number of jobs, seconds in which it takes jobs, and memory of its process."""

    max_jobs: int | None = None
    max_time_s: float | None = None
    max_memory_bytes: int | None = None
    _began: float = field(default_factory=time.monotonic)

    def is_used_up(self, ended: int) -> bool:
        """Return whether the worker takes no more jobs, after so many have ended; log why."""
        is_late = self.max_time_s is not None and time.monotonic() - self._began >= self.max_time_s
        if is_late or (self.max_jobs is not None and ended >= self.max_jobs):
            logger.info("limit reached after %d jobs: no more are taken", ended)
            return True
        if self.max_memory_bytes is not None and processes.rss_bytes(os.getpid()) > self.max_memory_bytes:
            logger.info("grown beyond the memory limit of a worker: no more jobs are taken")
            return True
        return False

    def room(self, free: int, taken: int) -> int:
        """Return how many of the free slots may be filled, after so many jobs were taken."""
        return free if self.max_jobs is None else min(free, max(0, self.max_jobs - taken))


class DeviceAllocator:
    """Devices of a worker, and which of them its jobs use.

    Its `gpu` are those of `CUDA_VISIBLE_DEVICES`, else 0, 1, ... Raises InvalidParams for more than it may see itself.
    """

    def __init__(self, resources: Mapping[str, float]) -> None:
        count = int(resources.get("gpu", 0))
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = [part.strip() for part in seen.split(",") if part.strip()] if seen else [str(n) for n in range(count)]
        if count > len(devices):
            raise InvalidParams(
                f"resources: gpu={count} is more than CUDA_VISIBLE_DEVICES={seen} shows to this worker", "resources"
            )
        self._free = devices[:count]
        self._count = count
        self._given_back = asyncio.Event()

    def taken(self, use: Mapping[str, float]) -> AbstractAsyncContextManager[dict[str, str]]:
        """Hold the devices of a job until it has ended; yield its environment."""
        return self._taken(use) if use else nullcontext({})

    @asynccontextmanager
    async def _taken(self, use: Mapping[str, float]) -> AsyncIterator[dict[str, str]]:
        count = int(use.get("gpu", 0))
        while len(self._free) < min(self._count, count):  # a job that lost its lease may still have them
            self._given_back.clear()
            await self._given_back.wait()
        devices, self._free = self._free[:count], self._free[count:]
        environ = {"JOBKIT_RESOURCES": resources_text(use)}
        if count:
            environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        try:
            yield environ
        finally:
            self._free = sorted([*self._free, *devices])
            self._given_back.set()


#: The median of so many last runs counts. A task that takes less than this is over before anybody asks.
_RUNS, _LEAST_S = 21, 1.0
#: So many tasks are known; a median is stored again when it has moved by this share.
_TASKS, _MOVED = 1_000, 0.05


class Durations:
    """Durations of runs that succeeded. Starts with what workers before this one have stored."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._runs: dict[str, deque[float]] = {}
        self._stored: dict[str, float] = {}

    def add(self, task: str, seconds: float) -> None:
        """Count a run; no-op for "", see `JobSpec.timed_as`."""
        if not task:
            return
        runs = self._runs.get(task)
        if runs is None:
            if len(self._runs) >= _TASKS:
                return
            known = self._stored.get(task)
            runs = self._runs[task] = deque([] if known is None else [known] * 3, maxlen=_RUNS)
        runs.append(seconds)

    def typical_s(self, task: str) -> float | None:
        """Return seconds, or None if not known or too short to matter."""
        runs = self._runs.get(task)
        if runs and max(runs) < _LEAST_S:
            return None
        seconds = median(runs) if runs else self._stored.get(task)
        return None if seconds is None or seconds < _LEAST_S else round(seconds, 3)

    async def keep(self, every_s: float) -> None:
        """Read what is stored, then store what changes, until cancelled."""
        is_read = False
        while True:
            with contextlib.suppress(StoreUnavailable):
                if not is_read:
                    self._stored, is_read = await self._store.took(), True
                await self.store()
            await asyncio.sleep(every_s)

    async def store(self) -> None:
        """Raises StoreUnavailable."""
        changed = {}
        for task in self._runs:
            seconds = self.typical_s(task)
            known = self._stored.get(task)
            if seconds is not None and (known is None or abs(seconds - known) > _MOVED * known):
                changed[task] = seconds
        if changed:
            await self._store.publish_took(changed)
            self._stored |= changed
