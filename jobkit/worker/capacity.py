"""The room of a worker for attempts: less than its slots while the machine is short of something."""

from __future__ import annotations

import logging
import math
import time

logger = logging.getLogger("jobkit.worker")

#: Seconds until a worker that was short of something tries one attempt more: at first, and at most if that fails again.
_FIRST_S, _LONGEST_S = 1.0, 60.0


class Capacity:
    """The room of one worker.

    Args:
        processes: number of attempts for which it has descriptors.
    """

    def __init__(self, slots: int, processes: float) -> None:
        self._slots, self._processes = slots, processes
        self._ceiling = math.inf  # attempts at once
        self._step = 0  # by which the ceiling was raised last
        self._pause_s, self._again_at = _FIRST_S, 0.0
        self._why = ""
        if slots > self._processes:
            logger.warning("this worker %s", self.problem)

    @property
    def problem(self) -> str:
        """Return why not all slots can be filled, as a sentence that follows the worker's name; "" if they can."""
        if self._why:
            return f"runs {self._ceiling:g} of {self._slots} jobs at once: {self._why}"
        if self._slots > self._processes:
            why = f"its limit of open files allows no more (`ulimit -n`; {self._slots} slots)"
            return f"runs at most {self._processes:g} processes at once: {why}"
        return ""

    def fell_short(self, why: str, others: int) -> None:
        """Count an attempt that could not be started beside so many others."""
        if not self._why:
            self._pause_s = _FIRST_S
            logger.warning("jobs are given back, and fewer are taken for a while: %s", why)
        elif self._step:
            self._pause_s = min(_LONGEST_S, 2 * self._pause_s)
        self._again_at = time.monotonic() + self._pause_s
        self._ceiling, self._step, self._why = min(self._ceiling, max(0, others)), 0, why

    def room(self, free: int, running: int, processes: float) -> int:
        """Return how many of the free slots may be filled.

        Args:
            running: number of attempts. processes: number of further ones for which there are descriptors.
        """
        if self._why and time.monotonic() >= self._again_at:
            self._step = max(1, 2 * self._step)
            self._ceiling += self._step
            self._again_at = time.monotonic() + _FIRST_S
            if self._ceiling >= self._slots:
                self._ceiling, self._why = math.inf, ""
                logger.info("all slots are in use again")
        return int(max(0, min(free, self._ceiling - running, processes)))
