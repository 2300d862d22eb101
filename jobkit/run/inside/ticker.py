"""`Ticker`: the clock of a recorder in a process without an event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from jobkit.run.inside.recorder import BATCH_S


class Ticker:
    """A thread that calls `tick` each `BATCH_S` while it returns True. Starts with the first `arm`; a daemon."""

    def __init__(self, tick: Callable[[], bool]) -> None:
        self._tick = tick
        self._wake = threading.Event()
        self.thread: threading.Thread | None = None
        self._is_stopped = False

    def arm(self) -> None:
        self._wake.set()
        if self.thread is None:
            thread = threading.Thread(target=self._run, name="jobkit-ticker", daemon=True)
            thread.start()
            self.thread = thread

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._is_stopped = True
        self._wake.set()
        if self.thread is not None:
            self.thread.join()

    def _run(self) -> None:
        while not self._is_stopped:
            self._wake.wait()
            self._wake.clear()
            while not self._is_stopped:
                time.sleep(BATCH_S)
                if not self._tick():
                    break
