"""`OutageLog`: what keeps a worker from talking with the store, said once in its log, and that it is over."""

from __future__ import annotations

import logging
import threading

from jobkit.model import StoreUnavailable

logger = logging.getLogger("jobkit.worker")


class OutageLog:
    """Shared by the heartbeat's thread and the worker's loop, which meet the same trouble. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kind = ""  # "", "away" or "full"

    def met(self, error: StoreUnavailable, meanwhile: str) -> None:
        """The sentence, and what goes on meanwhile; nothing where trouble of this kind was told already."""
        kind = "full" if error.only_reads else "away"
        with self._lock:
            is_news, self._kind = kind != self._kind, kind
        if is_news:
            logger.warning("%s; %s", error, meanwhile)

    def is_over(self) -> None:
        """The store answers, and takes changes."""
        with self._lock:
            kind, self._kind = self._kind, ""
        if kind:
            logger.info("Redis %s again; leases renewed", "answers" if kind == "away" else "takes changes")
