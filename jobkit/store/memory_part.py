"""What all parts of the store in memory have: the jobs, the lock, and one moment for each verb."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobkit.settings import Settings
from jobkit.store.memory_hub import Outbox
from jobkit.store.memory_jobs import Jobs


class MemoryPart:
    """A part of `MemoryStore`; each has verbs about one thing.

    Args:
        settings: times and limits.
        clock: seconds since the epoch; another one only in tests.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._clock = clock
        self._lock = threading.RLock()
        self._jobs = Jobs(settings)
        self._ttl_ms = max(1, int(settings.result_ttl * 1000))
        self._queues: set[str] = set()
        self._outbox = Outbox(self._jobs.outbox)

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """One verb: alone, at one moment, and then tells what happened."""
        with self._lock:
            # No two verbs at the same moment.
            self._jobs.now_us = max(self._jobs.now_us + 1, int(self._clock() * 1_000_000))
            self._jobs.now = self._jobs.now_us // 1000
            yield
        self._outbox.tell()
