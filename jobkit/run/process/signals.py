"""Between signals and a job's code, in a process that runs one job at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from jobkit.run.inside.context import Context, Stop


class SignalGuard:
    """Between signals and code: `Stop` is raised in the task, never inside our own writes.

    Entered (as a context manager) around what must not be torn apart; a SIGTERM that arrives meanwhile raises on the
    way out.
    """

    def __init__(self) -> None:
        self.context: Context | None = None
        self.is_over = False  #: the task has ended by itself: a request to stop comes too late
        self.is_stopped = False  #: `Stop` was raised (or the main coroutine cancelled)
        self.cancel: Callable[[], bool] | None = None  #: stops a coroutine; False where raising is right
        self._depth = 0
        self._is_pending = False
        self._main = threading.get_ident()

    def __enter__(self) -> None:
        if threading.get_ident() == self._main:
            self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.get_ident() == self._main:
            self._depth -= 1
            if self._is_pending and not self._depth:
                self._is_pending = False
                self._stop()

    def on_term(self, number: int, frame: FrameType | None) -> None:
        if self.context is not None:
            self.context.is_stopping = True
        if self._depth:
            self._is_pending = True
        else:
            self._stop()

    def _stop(self) -> None:
        if self.is_over or self.is_stopped:  # once: a second request must not interrupt the clean-up
            return
        self.is_stopped = True
        if self.cancel is None or not self.cancel():
            raise Stop("the job was asked to stop")
