"""A worker's resources: which devices each of its jobs may use.

How much fits is decided by the store (`lua/lib/limits.lua`); here whole devices get their numbers, so that two jobs
that run at the same time never see the same one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jobkit.model import InvalidParams
from jobkit.model.limits import resources_text


class DeviceAllocator:
    """Devices of a worker, and which of them its jobs use.

    Args:
        resources: amounts by name. Its `gpu` are those of `CUDA_VISIBLE_DEVICES`, as far as that is set, else 0, 1, ...

    Raises:
        InvalidParams: it shall have more devices than it may see itself.
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

    async def available(self, use: Mapping[str, float]) -> None:
        """Returns when there are as many devices as a job needs: one that lost its lease may still have them."""
        while len(self._free) < min(self._count, int(use.get("gpu", 0))):
            self._given_back.clear()
            await self._given_back.wait()

    @contextmanager
    def taken(self, use: Mapping[str, float]) -> Iterator[dict[str, str]]:
        """The environment of a job that uses so much, from right after `available` until it has ended."""
        if not use:
            yield {}
            return
        count = int(use.get("gpu", 0))
        devices, self._free = self._free[:count], self._free[count:]
        environ = {"JOBKIT_RESOURCES": resources_text(use)}
        if count:
            environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        try:
            yield environ
        finally:
            self._free = sorted([*self._free, *devices])
            self._given_back.set()
