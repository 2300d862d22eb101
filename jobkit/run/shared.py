"""Attempts that share a process: coroutines on the worker's loop, threads, and the calling thread (`sync://`).

Their output is told apart by the context they run in. They can be asked to stop but not be killed; for a coroutine that
never awaits see `jobkit.run.watch`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import os
import threading
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace

from jobkit.model import JobkitError
from jobkit.run.attempt import Assignment, Outcome, resolve, timed_out, unstarted
from jobkit.run.ended import (
    STAGES_LIMIT_S,
    TOO_LONG,
    Ended,
    execute,
    incomplete,
    last_stage,
    raise_in,
    raised,
    succeeded,
)
from jobkit.run.inside import context, patches
from jobkit.run.inside.answers import Reply
from jobkit.run.inside.capture import Routing
from jobkit.run.inside.context import Context, Stop
from jobkit.run.inside.log_tee import LoopLog
from jobkit.run.inside.recorder import BATCH_S, Recorder, Sink
from jobkit.run.inside.shown_values import Body
from jobkit.run.inside.ticker import Ticker
from jobkit.run.shortage import shortage


class LoopSink:
    """Passes a recorder's batches of all kinds to a sink on a loop.

    Args:
        thread: id of the loop's thread, from which the sink is called at once; 0 to go through the loop always, which
            keeps the order of batches that come from several threads.
    """

    def __init__(self, sink: Sink, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self._sink, self._loop, self._thread = sink, loop, thread

    def __getattr__(self, kind: str) -> Callable[..., object]:
        return partial(self.call, getattr(self._sink, kind))

    def artifact(self, name: str, media: str, body: Body) -> None:
        # A file is read here and now: once `save` has returned, the job may change it.
        self.call(self._sink.artifact, name, media, body.read_bytes() if isinstance(body, Path) else body)

    def sync(self, key: str, reply: Callable[[Reply], None]) -> bool:
        """On the loop's thread nothing waits: what follows is stored in the same exchange as what was said before."""
        return self.call(self._sink.sync, key, reply) and threading.get_ident() != self._thread

    def call(self, function: Callable[..., object], *args: Any) -> bool:
        """Return False if the loop is closed: the caller is a thread that outlived its worker."""
        if threading.get_ident() == self._thread:
            function(*args)
            return True
        try:
            self._loop.call_soon_threadsafe(function, *args)
            return True
        except RuntimeError:
            return False


class SharedContext(Context):
    """Context of an attempt on the worker's loop or in a thread.

    Its recorder is made at the first output (most short jobs have none), and ticks by timers of the loop.
    """

    __slots__ = ("_assignment", "_is_over", "_log", "_loop", "_sink", "_worker_thread")

    def __init__(
        self, assignment: Assignment, sink: Sink, loop: asyncio.AbstractEventLoop, *, is_threaded: bool
    ) -> None:
        super().__init__(assignment.job_id, assignment.attempt, assignment.task, prepared=assignment.prepared)
        self.kit_settings, self.results = assignment.kit_settings, assignment.results
        self._assignment, self._loop = assignment, loop
        self._worker_thread = 0 if is_threaded else threading.get_ident()
        self._sink = LoopSink(sink, loop, self._worker_thread)
        self._log: LoopLog | None = None
        self._is_over = False

    @property
    def recorder(self) -> Recorder | None:
        if self._recorder is None and not self._is_over:
            assignment = self._assignment
            if assignment.log_path:
                self._log = LoopLog(assignment.log_path, assignment.log_owner)
            sink = cast(Sink, self._sink)
            self._recorder = Recorder(sink, self._arm, burst=0, bounds=assignment.bounds, log=self._log)
        return self._recorder

    def _arm(self) -> None:
        self._sink.call(self._loop.call_later, BATCH_S, self._tick)

    def _tick(self) -> None:
        if self._recorder is not None and self._recorder.tick():
            self._loop.call_later(BATCH_S, self._tick)

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
        self._is_over = True
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None

    async def end(self) -> None:
        """Wait, after `finish`, for what is left of the log to be written."""
        if self._log is not None:
            await self._log.close()


_routing, COPYING = Routing(), Routing(is_copying=True)


class SharedProcess:
    """A runner in a process that is not its own: while it is started, output is told apart, with `is_copying` it also
    goes to the original streams."""

    room = math.inf

    def __init__(self, *, is_copying: bool = False) -> None:
        self.running: dict[str, Any] = {}  # by job id
        self._routing = COPYING if is_copying else _routing
        self._is_started = False

    async def start(self) -> None:
        if not self._is_started:
            self._is_started = context.is_worker = True
            self._routing.install()
            patches.install()

    def trees(self) -> dict[str, tuple[int, ...]]:
        """Return nothing: its jobs have no separate processes."""
        return {}

    async def close(self) -> None:
        if self._is_started:
            self._is_started = context.is_worker = False
            self._routing.remove()

    def stop(self, job_id: str, kind: str) -> None:
        if (running := self.running.get(job_id)) is None:
            return
        if kind == "ask":
            running.context.ask()
        else:
            running.stop(kind)

    def _end(self, running: SharedAttempt) -> None:
        """Forget an attempt that has ended, and hand on what is left of its output."""
        for timer in running.timers:
            timer.cancel()
        if self.running.get(running.assignment.job_id) is running:  # not another attempt at the same job
            del self.running[running.assignment.job_id]
        running.context.finish()


def stopped_outcome(kind: str, assignment: Assignment, note: str = "") -> Outcome:
    if kind == "timeout":
        return timed_out(assignment, note)
    return Outcome("cancelled", reason=f"stopped on request{note or '; its clean-up ran'}")


class SharedAttempt:
    """An attempt in a shared process.

    Attributes:
        kind: "cancel", "timeout", "kill" or "move", the first reason for which it was asked to stop; "" before.
        is_over: its own code has ended.
        give_up_at: when the grace of a request to stop is over, by `time.monotonic`; infinite before one.
    """

    def __init__(self, assignment: Assignment, loop: asyncio.AbstractEventLoop, own: SharedContext) -> None:
        self.assignment, self.loop, self.context = assignment, loop, own
        self.kind, self.is_over, self.give_up_at = "", False, math.inf
        self.timers: list[asyncio.TimerHandle] = []
        if assignment.timeout_s is not None:
            self.later(assignment.timeout_s, self.stop, "timeout")

    def later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> None:
        self.timers.append(self.loop.call_later(delay_s, callback, *args))

    def stop(self, kind: str) -> None:
        """Ask it to stop, unless it cleans up already; end it by force after its grace."""
        if self.kind or self.is_over:
            return
        self.kind = kind
        self.context.should_stop = True
        self.give_up_at = time.monotonic() + self.assignment.cancel_grace_s
        if not self.context.is_leaving:
            self._request()
        self.later(self.assignment.cancel_grace_s, self._force)

    def _request(self) -> None:
        raise NotImplementedError

    def _force(self) -> None:
        raise NotImplementedError


class Running(SharedAttempt):
    """An attempt on the loop.

    Attributes:
        asked: a reason to stop, see `kind`, that `LoopWatch` has while the loop is blocked.
        is_closed: it was left from outside, by the end of the loop.
        due_at: when its timeout is over, by `time.monotonic`.
    """

    def __init__(self, assignment: Assignment, task: asyncio.Task[Any], own: SharedContext) -> None:
        super().__init__(assignment, task.get_loop(), own)
        self.task, self.asked, self.is_closed = task, "", False
        self.due_at = math.inf if assignment.timeout_s is None else time.monotonic() + assignment.timeout_s
        self._is_given_up = False
        self._requests = self._own_requests = 0

    @property
    def is_asked(self) -> bool:
        """A request to cancel its task was made by `stop` or by its own code."""
        return bool(self._requests or self._own_requests)

    def _force(self) -> None:
        """End it although it has swallowed its cancellation."""
        self._is_given_up = True
        self._request()

    def _request(self) -> None:
        self._requests += 1
        self.task.cancel()

    def take_back(self) -> bool:
        """Withdraw the requests, which have done their work; True if its caller cancels the task as well."""
        for _ in range(self._requests + self._own_requests):
            self.task.uncancel()
        self._requests = self._own_requests = 0
        return bool(self.task.cancelling())

    async def is_undelivered(self) -> bool:
        """After its code ended although it was asked to stop: True if the request had not reached it yet.

        Takes the request back. A pending one would cancel the task at its end, and the outcome would be lost.
        """
        try:
            await asyncio.sleep(0)
            return False
        except asyncio.CancelledError:
            return True
        finally:
            self.take_back()

    @types.coroutine
    def forcibly(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Await a coroutine that may swallow what is raised in it: given up, it ends all the same.

        Requests to cancel that are made in its own steps are its own; its caller's come between them.
        """
        value: Any = None
        error: BaseException | None = None
        while True:
            before = self.task.cancelling()
            try:
                yielded = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                self._own_requests = max(0, self._own_requests + self.task.cancelling() - before)
            value = error = None
            try:
                value = yield yielded
            except GeneratorExit:
                self.is_closed = True
                coroutine.close()
                raise
            except BaseException as thrown:
                error = thrown
            if error is not None and self._is_given_up:
                with contextlib.suppress(RuntimeError):  # it ignores even that, and is abandoned
                    coroutine.close()
                raise error

    def stopped(self) -> Outcome:
        """The outcome of an attempt that has ended because it was asked to."""
        assignment = self.assignment
        if self.kind == "move":
            return Outcome("lost", reason="it blocked its worker's loop; its next attempt runs in a separate process")
        if not self._is_given_up:
            return stopped_outcome(self.kind or "cancel", assignment)
        grace = f"did not stop within its grace of {assignment.cancel_grace_s:g} s"
        if self.kind == "timeout":
            return stopped_outcome(self.kind, assignment, f", {grace} and was given up")
        return Outcome("cancelled", reason=f"given up: it {grace}")


class AsyncRunner(SharedProcess):
    """Runs coroutines on the loop it is called on: tens of thousands a second, none of them killable from here.

    `run` must be awaited in a separate `asyncio.Task` for each attempt: a cancel cancels that. One that swallows its
    cancellation is given up after its grace; one that blocks the loop is the affair of `LoopWatch`.
    """

    running: dict[str, Running]

    def __init__(self, *, is_copying: bool = False) -> None:
        super().__init__(is_copying=is_copying)
        self.on_start: Callable[[], None] = lambda: None

    async def run(self, assignment: Assignment, sink: Sink, door: Callable[..., Any] | None = None) -> Outcome:
        """Execute one attempt; see `jobkit.run.attempt.Runner` and, for `door`, `resolve`."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        own = SharedContext(assignment, sink, loop, is_threaded=False)
        running = Running(assignment, task, own)
        self.running[assignment.job_id] = running
        self.on_start()
        token = context.CURRENT.set(own)
        try:
            try:
                try:
                    function, args, kwargs = resolve(assignment, owns_process=False, door=door)
                    value = function(*args, **kwargs)
                    if issubclass(type(value), Awaitable):
                        is_coroutine = issubclass(type(value), types.CoroutineType)
                        value = await running.forcibly(value if is_coroutine else _own_flow(own, value))
                    ended = succeeded(value, allow_pickle=assignment.allow_pickle)
                finally:
                    running.is_over = True
            except asyncio.CancelledError as error:
                if running.take_back():
                    raise  # its caller gives up on the whole attempt
                if running.kind:
                    ended = Ended(running.stopped())
                else:
                    ended = raised(error, allow_pickle=assignment.allow_pickle)
            except Stop:  # raised in the middle of its code, which did not await; see `LoopWatch`
                await running.is_undelivered()
                ended = Ended(running.stopped())
            except BaseException as error:
                if running.is_closed:
                    raise
                ended = raised(error, allow_pickle=assignment.allow_pickle)
            if own.has_yielded and not running.kind:
                ended = Ended(running.stopped())
            if running.is_asked and not await running.is_undelivered() and running.kind:
                ended = Ended(running.stopped())
            outcome = await last_stage(ended)
        finally:
            context.CURRENT.reset(token)
            self._end(running)
        await own.end()
        return outcome


async def _own_flow(own: Context, value: Awaitable[Any]) -> Any:
    own.enter()
    return await value


class _Thread(SharedAttempt):
    """An attempt in a thread."""

    def __init__(self, assignment: Assignment, loop: asyncio.AbstractEventLoop, own: SharedContext) -> None:
        super().__init__(assignment, loop, own)
        self._reached: Outcome | None = None  # of a stage before the last
        self.done: asyncio.Future[Outcome] = loop.create_future()
        self.thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._main,), name=f"job {assignment.job_id}", daemon=True
        )

    def _request(self) -> None:
        raise_in(self.thread, Stop)

    def _force(self) -> None:
        if not self.done.done():
            note = ", and its thread, which cannot be killed, may still be running"
            self.done.set_result(stopped_outcome(self.kind, self.assignment, note))

    def _main(self) -> None:
        context.CURRENT.set(self.context)
        self.context.enter()
        runner = asyncio.Runner()
        try:
            ended = execute(self.assignment, lambda coroutine: runner.run(_own_flow(self.context, coroutine)))
            self.is_over = True
            self._tell(self._deliver_stage, ended.outcome)
            with contextlib.suppress(BaseException):  # of tasks that the coroutine has left behind
                runner.close()
            outcome = ended.last(lambda outcome: self._tell(self._deliver_stage, outcome))
        except BaseException:  # `Stop`, which may come as late as while the outcome is being written
            outcome = stopped_outcome(self.kind or "cancel", self.assignment)
        self.is_over = True
        self._tell(self._deliver, outcome)

    def _tell(self, function: Callable[[Outcome], None], outcome: Outcome) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(function, outcome)

    def _deliver_stage(self, outcome: Outcome) -> None:
        if self._reached is None:
            self.later(STAGES_LIMIT_S, self._end_stages)
        self._reached = outcome

    def _end_stages(self) -> None:
        if not self.done.done() and self._reached is not None:
            raise_in(self.thread, Stop)
            self._deliver(incomplete(self._reached, TOO_LONG))

    def _deliver(self, outcome: Outcome) -> None:
        if not self.done.done():
            is_stopped = self.kind or self.context.has_yielded
            if is_stopped and outcome.outcome == "succeeded":  # it looked at should_stop and returned
                outcome = stopped_outcome(self.kind or "cancel", self.assignment)
            self.done.set_result(outcome)


class ThreadRunner(SharedProcess):
    """Runs plain functions in threads. A cancel sets `should_stop` and raises `Stop` at the next Python instruction;
    code that stays in C cannot be stopped, and the outcome says so."""

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        loop = asyncio.get_running_loop()
        own = SharedContext(assignment, sink, loop, is_threaded=True)
        running = _Thread(assignment, loop, own)
        self.running[assignment.job_id] = running
        try:
            running.thread.start()
            outcome = await asyncio.shield(running.done)
        except RuntimeError as error:
            outcome = unstarted(shortage(error) or str(error))
        except asyncio.CancelledError:
            running.stop("kill")
            await asyncio.wait([running.done])
            raise
        finally:
            self._end(running)
            await asyncio.sleep(0)  # its last lines are on their way to the sink through this loop
        await own.end()
        return outcome


def run_here(assignment: Assignment, sink: Sink) -> Outcome:
    """Run an attempt in the calling thread and return when it has ended (`sync://`).

    What it prints still shows; lines and progress go to the sink as well, which is only called in this thread. Timeout
    and memory limit are not enforced: no other process could do it. Ctrl-C cancels the job.
    """
    COPYING.install()
    patches.install()
    ticker = Ticker(lambda: recorder.tick())
    recorder = Recorder(sink, ticker.arm, bounds=assignment.bounds)
    recorder.is_passive = True
    own = Context(assignment.job_id, assignment.attempt, assignment.task, recorder, assignment.prepared)
    own.seed = assignment.seed
    token = context.CURRENT.set(own)
    before = {name: os.environ.get(name) for name in assignment.environ}
    os.environ.update(assignment.environ)
    started = time.process_time()
    try:
        outcome = execute(assignment, _run_coroutine, leaves=KeyboardInterrupt).last()
    except KeyboardInterrupt:
        outcome = Outcome("cancelled", reason="interrupted from the keyboard")
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        context.CURRENT.reset(token)
        COPYING.remove()
        ticker.stop()
        recorder.close()
    return replace(outcome, usage={"cpu_s": round(time.process_time() - started, 6)})


def _run_coroutine(coroutine: Any) -> Any:
    """`asyncio.run`, also where a loop is already running in this thread (a notebook)."""
    if not context.is_in_loop():
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1, "jobkit-sync") as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, coroutine).result()
