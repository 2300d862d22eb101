"""Limits after which a worker ends: a process that is started over now and then cannot grow for ever."""

from __future__ import annotations

import logging
import time

import psutil

logger = logging.getLogger("jobkit.worker")


class RecycleLimits:
    """Counts from its making.

    Args:
        max_jobs: that it may run. max_time_s: that it may take jobs for. max_memory_bytes: that its own process may
            take. None for no limit.
    """

    def __init__(
        self,
        max_jobs: int | None = None,
        max_time_s: float | None = None,
        max_memory_bytes: int | None = None,
    ) -> None:
        self._max_jobs, self._max_time_s, self._max_memory_bytes = max_jobs, max_time_s, max_memory_bytes
        self._began = time.monotonic()
        self._process = psutil.Process()

    def is_used_up(self, ended: int) -> bool:
        """Return whether the worker takes no more jobs, after so many have ended; log why."""
        is_late = self._max_time_s is not None and time.monotonic() - self._began >= self._max_time_s
        if is_late or (self._max_jobs is not None and ended >= self._max_jobs):
            logger.info("limit reached after %d jobs: no more are taken", ended)
            return True
        if self._max_memory_bytes is not None and self._process.memory_info().rss > self._max_memory_bytes:
            logger.info("grown beyond the memory limit of a worker: no more jobs are taken")
            return True
        return False

    def room(self, free: int, taken: int) -> int:
        """Of so many free slots those that may be filled when so many jobs were taken: the last ones of a worker are
        not more than were allowed."""
        return free if self._max_jobs is None else min(free, max(0, self._max_jobs - taken))
