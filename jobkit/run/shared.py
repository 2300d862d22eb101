"""For attempts that share the worker's process: their context, their way from a recorder to a sink, their outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from jobkit.model import ErrorKind, JobkitError, LogLine
from jobkit.run.attempt import Resolved, failed, resolve
from jobkit.run.base import Assignment, Outcome, Sink
from jobkit.run.inside import tqdm_hook
from jobkit.run.inside.artifacts import Body
from jobkit.run.inside.capture import Routing
from jobkit.run.inside.context import Context
from jobkit.run.inside.lines import WireLine
from jobkit.run.inside.log_tee import LoopLog
from jobkit.run.inside.recorder import BATCH_S, Recorder


class SinkOutlet:
    """A recorder's batches to a sink."""

    __slots__ = ("_home", "_sink", "_thread")

    def __init__(self, sink: Sink, home: asyncio.AbstractEventLoop | None = None) -> None:
        self._sink = sink
        self._home, self._thread = home, threading.get_ident()

    def lines(self, lines: list[WireLine]) -> None:
        self._call_home(self._sink.lines, [LogLine.from_wire(line) for line in lines])

    def progress(self, done: float | None, total: float | None, message: str) -> None:
        self._sink.progress(done, total, message)

    def awaits(self, job_ids: Sequence[str]) -> None:
        self._call_home(self._sink.awaits, job_ids)

    def _call_home(self, function: Callable[..., None], *args: Any) -> None:
        """On the sink's own thread: a coroutine may print or wait in another one (`asyncio.to_thread`)."""
        if self._home is None or threading.get_ident() == self._thread:
            function(*args)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._home.call_soon_threadsafe(function, *args)

    def artifact(self, name: str, media: str, body: Body) -> None:
        # A file is read here and now: once `save` has returned, the job may change it.
        self._sink.artifact(name, media, body.read_bytes() if isinstance(body, Path) else body)


class LoopOutlet(SinkOutlet):
    """The same from another thread: the sink is called on its loop."""

    __slots__ = ("_loop",)

    def __init__(self, sink: Sink, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(sink)
        self._loop = loop

    def lines(self, lines: list[WireLine]) -> None:
        self._call(super().lines, lines)

    def progress(self, done: float | None, total: float | None, message: str) -> None:
        self._call(super().progress, done, total, message)

    def awaits(self, job_ids: Sequence[str]) -> None:
        self._call(super().awaits, job_ids)

    def artifact(self, name: str, media: str, body: Body) -> None:
        self._call(super().artifact, name, media, body.read_bytes() if isinstance(body, Path) else body)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: a thread that outlived its worker
            self._loop.call_soon_threadsafe(function, *args)


class LazyContext(Context):
    """Context whose recorder is made at the first output: most short jobs have none."""

    __slots__ = ("_make", "_worker_thread", "whole_log")

    def __init__(self, assignment: Assignment, make: Callable[[], Recorder], worker_thread: int = 0) -> None:
        super().__init__(assignment.job_id, assignment.attempt, assignment.task)
        self._worker_thread = worker_thread
        self._make: Callable[[], Recorder] | None = make
        self.whole_log: LoopLog | None = None

    @property
    def recorder(self) -> Recorder | None:
        if self._recorder is None and self._make is not None:
            self._recorder = self._make()
        return self._recorder

    def waiting(self, job_ids: Sequence[str], *, blocks: bool = True) -> AbstractContextManager[None]:
        """Raises JobkitError: the wait would hold up the loop of the worker, which then could not run what is waited
        for."""
        if blocks and threading.get_ident() == self._worker_thread:
            raise JobkitError(
                "a coroutine on the worker's own event loop cannot wait for a job in a call that blocks: "
                "write await job, or await asyncio.to_thread(job.result)"
            )
        return super().waiting(job_ids, blocks=blocks)

    def finish(self) -> None:
        """Hand on what is left; later output of stray tasks or threads belongs to no job."""
        self._make = None
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None

    async def end(self) -> None:
        """Wait, after `finish`, for what is left of the log to be written."""
        if self.whole_log is not None:
            await self.whole_log.close()


def lazy_context(
    assignment: Assignment, outlet: SinkOutlet, loop: asyncio.AbstractEventLoop, *, is_threaded: bool
) -> LazyContext:
    """The context of an attempt on the worker's loop or in a thread; its recorder's ticks are timers of the loop."""

    def arm() -> None:
        if is_threaded:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(loop.call_later, BATCH_S, tick)
        else:
            loop.call_later(BATCH_S, tick)

    def tick() -> None:
        if own.recorder is not None and own.recorder.tick():
            loop.call_later(BATCH_S, tick)

    def make() -> Recorder:
        if assignment.log_path:
            own.whole_log = LoopLog(assignment.log_path, assignment.log_owner, loop)
        return Recorder(outlet, arm, burst=0, bounds=assignment.bounds, log=own.whole_log)

    own = LazyContext(assignment, make, 0 if is_threaded else threading.get_ident())
    return own


_routing = Routing()


class SharedProcess:
    """A runner in a process that is not its own: output is told apart while it is started."""

    _is_started = False

    async def start(self) -> None:
        if not self._is_started:
            self._is_started = True
            _routing.install()
            tqdm_hook.install()

    async def close(self) -> None:
        if self._is_started:
            self._is_started = False
            _routing.remove()


def resolved(assignment: Assignment) -> Resolved:
    return resolve(assignment.task, assignment.call, owns_process=False, is_signed=assignment.allow_pickle)


def stopped_outcome(kind: str, assignment: Assignment, note: str = "") -> Outcome:
    if kind == "timeout":
        sentence = f"ran longer than its timeout of {assignment.timeout_s:g} s{note}"
        return failed(ErrorKind.TIMEOUT, "timeout", sentence)
    return Outcome("cancelled", reason=f"stopped on request{note or '; its clean-up ran'}")
