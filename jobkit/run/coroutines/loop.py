"""`AsyncRunner`: attempts as coroutines on the worker's own loop.

They share it with each other and with the worker, so their output is told apart by the context they run in, and they
can be asked to stop but not be killed. For one that never awaits see `jobkit.run.coroutines.watch`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from jobkit.run.attempt import raised, succeeded
from jobkit.run.base import Assignment, Outcome, Sink
from jobkit.run.inside import context
from jobkit.run.inside.context import Context, Stop
from jobkit.run.shared import SharedProcess, SinkOutlet, lazy_context, resolved, stopped_outcome


class Running:
    """An attempt on the loop.

    Attributes:
        kind: "cancel", "timeout", "kill" or "move", the first reason for which it was asked to stop; "" before.
        is_over: its own code has ended.
        due_at: when its timeout is over, by `time.monotonic`.
        give_up_at: when the grace of a request to stop is over; infinite before one.
    """

    def __init__(self, assignment: Assignment, task: asyncio.Task[Any], context: Context) -> None:
        self.assignment = assignment
        self.task = task
        self.context = context
        self.kind = ""
        self.is_over = False
        self.due_at = math.inf if assignment.timeout_s is None else time.monotonic() + assignment.timeout_s
        self.give_up_at = math.inf
        self.timers: list[asyncio.TimerHandle] = []
        self._is_given_up = False
        self._requests = 0

    def later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> None:
        self.timers.append(self.task.get_loop().call_later(delay_s, callback, *args))

    def stop(self, kind: str) -> None:
        """Cancel it; end it by force after its grace."""
        if self.kind or self.is_over:
            return
        self.kind = kind
        self.context.is_stopping = True
        self.give_up_at = time.monotonic() + self.assignment.cancel_grace_s
        self._request()
        self.later(self.assignment.cancel_grace_s, self._force)

    def _force(self) -> None:
        """End it although it has swallowed its cancellation."""
        self._is_given_up = True
        self._request()

    def _request(self) -> None:
        self._requests += 1
        self.task.cancel()

    def take_back(self) -> bool:
        """Withdraw the requests, which have done their work; True if its caller cancels the task as well."""
        for _ in range(self._requests):
            self.task.uncancel()
        self._requests = 0
        return bool(self.task.cancelling())

    async def is_undelivered(self) -> bool:
        """After its code ended although it was asked to stop: True if the request had not reached it yet.

        Takes the request back. A pending one would cancel the task at its end, and the outcome would be lost.
        """
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.take_back()
            return True
        self.take_back()
        return False

    @types.coroutine
    def forcibly(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Await a coroutine that may swallow what is raised in it: given up, it ends all the same."""
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                yielded = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            value = error = None
            try:
                value = yield yielded
            except GeneratorExit:
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

    def __init__(self) -> None:
        self.running: dict[str, Running] = {}
        self.on_start: Callable[[str], None] = lambda job_id: None

    def cancel(self, job_id: str) -> None:
        self.stop(job_id, "cancel")

    def kill(self, job_id: str) -> None:
        self.stop(job_id, "kill")

    def stop(self, job_id: str, kind: str) -> None:
        """Cancel an attempt; for `kind` see `Running`."""
        if (running := self.running.get(job_id)) is not None:
            running.stop(kind)

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        own = lazy_context(assignment, SinkOutlet(sink, loop), loop, is_threaded=False)
        running = Running(assignment, task, own)
        self.running[assignment.job_id] = running
        self.on_start(assignment.job_id)
        if assignment.timeout_s is not None:
            running.later(assignment.timeout_s, running.stop, "timeout")
        token = context.enter(own)
        try:
            try:
                function, args, kwargs = resolved(assignment)
                value = function(*args, **kwargs)
                if inspect.iscoroutine(value):
                    value = await running.forcibly(value)
                elif inspect.isawaitable(value):
                    value = await value
                outcome = succeeded(value, allow_pickle=assignment.allow_pickle)
            except asyncio.CancelledError as error:
                running.is_over = True
                if not running.kind:
                    if task.cancelling():
                        raise  # the caller gives up on the whole attempt
                    outcome = raised(error, allow_pickle=assignment.allow_pickle)
                elif running.take_back():
                    raise  # it was asked to stop, and the caller gives up as well
                else:
                    outcome = running.stopped()
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except Stop:  # raised in the middle of its code, which did not await; see `LoopWatch`
                running.is_over = True
                await running.is_undelivered()
                outcome = running.stopped()
            except BaseException as error:
                running.is_over = True
                outcome = raised(error, allow_pickle=assignment.allow_pickle)
            running.is_over = True
            if outcome.outcome in ("succeeded", "failed") and running.kind and not await running.is_undelivered():
                outcome = running.stopped()
        finally:
            running.is_over = True
            context.leave(token)
            for timer in running.timers:
                timer.cancel()
            if self.running.get(assignment.job_id) is running:
                del self.running[assignment.job_id]
            own.finish()
        await own.end()
        return outcome
