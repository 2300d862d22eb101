"""Attempts without a process of their own: on the worker's loop, in a thread, or right here (`sync://`).

They share the process with each other and with the worker, so their output is told apart by the context they run in,
and they can be asked to stop but not be killed: a loop that never awaits and a thread in C code go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import inspect
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jobkit.model import ErrorKind
from jobkit.run import context, tqdm_hook
from jobkit.run.attempt import Resolved, failed, raised, resolve, succeeded
from jobkit.run.base import Assignment, Outcome, Sink
from jobkit.run.capture import Routing
from jobkit.run.context import Context, Stop
from jobkit.run.outlets import LazyContext, LoopOutlet, SinkOutlet, lazy_context
from jobkit.run.recorder import Recorder, Ticker
from jobkit.run.steps import Spent, Steps

_routing = Routing()
_copying = Routing(is_copying=True)


def _resolved(assignment: Assignment) -> Resolved:
    return resolve(assignment.task, assignment.call, owns_process=False, is_signed=assignment.allow_pickle)


class _Running:
    """An attempt on the loop: who runs it and whether it was asked to stop."""

    __slots__ = ("assignment", "context", "kind", "loop", "requests", "spent", "task", "timers")

    def __init__(
        self, assignment: Assignment, task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, context: Context
    ) -> None:
        self.assignment = assignment
        self.task = task
        self.loop = loop
        self.context = context
        self.spent = Spent(context)
        self.kind = ""
        self.requests = 0
        self.timers: list[asyncio.TimerHandle] = []

    def later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> None:
        self.timers.append(self.loop.call_later(delay_s, callback, *args))

    def stop(self, kind: str) -> None:
        if not self.kind:
            self.kind = kind
            self.context.is_stopping = True
            self._request()

    def force(self) -> None:
        """End it although it has swallowed its cancellation."""
        self.spent.is_given_up = True
        self._request()

    def _request(self) -> None:
        self.requests += 1
        self.task.cancel()

    def take_back(self) -> bool:
        """The requests have done what they should; True where somebody else cancels the task as well."""
        for _ in range(self.requests):
            self.task.uncancel()
        self.requests = 0
        return bool(self.task.cancelling())


class _SharedProcess:
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


class AsyncRunner(_SharedProcess):
    """Runs coroutines on the loop it is called on: tens of thousands a second, none of them killable from here.

    `run` must be awaited in a task of its own for each attempt: a cancel cancels that task.

    Args:
        is_hosted: this process is the host's. The processor's time is measured, and who does not stop within its grace
            is left to the worker, which kills the process; without, such a coroutine is given up.
    """

    def __init__(self, is_hosted: bool = False) -> None:
        self._is_hosted = is_hosted
        self.steps = Steps(is_measuring=is_hosted)
        self.running: dict[str, _Running] = {}
        self.on_start: Callable[[str], None] = lambda job_id: None

    def cancel(self, job_id: str) -> None:
        self.stop(job_id, "cancel")

    def kill(self, job_id: str) -> None:
        self.stop(job_id, "kill")

    def stop(self, job_id: str, kind: str) -> None:
        """Cancel an attempt because of "cancel", "timeout" or "kill"."""
        running = self.running.get(job_id)
        if running is not None and not running.kind:
            running.stop(kind)
            if not self._is_hosted:
                running.later(running.assignment.cancel_grace_s, running.force)

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        outcome, _ = await self.measured(assignment, sink)
        return outcome

    async def measured(self, assignment: Assignment, sink: Sink) -> tuple[Outcome, Spent]:
        """`run`, and what the attempt took from the loop."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        own = lazy_context(assignment, SinkOutlet(sink, loop), loop, is_threaded=False, is_hosted=self._is_hosted)
        running = _Running(assignment, task, loop, own)
        self.running[assignment.job_id] = running
        self.on_start(assignment.job_id)
        if assignment.timeout_s is not None:
            running.later(assignment.timeout_s, self.stop, assignment.job_id, "timeout")
        token = context.enter(own)
        steps, spent = self.steps, running.spent
        steps.begin(spent)
        try:
            try:
                function, args, kwargs = _resolved(assignment)
                value = function(*args, **kwargs)
                if inspect.iscoroutine(value):
                    value = await steps.run(value, spent)
                elif inspect.isawaitable(value):
                    steps.end()
                    value = await value
                    steps.begin(spent)
                outcome = succeeded(value, allow_pickle=assignment.allow_pickle)
                steps.end()
            except asyncio.CancelledError as error:
                if not running.kind:
                    if task.cancelling():
                        raise  # the caller gives up on the whole attempt
                    outcome = raised(error, allow_pickle=assignment.allow_pickle)
                elif running.take_back():
                    raise  # it was asked to stop, and the caller gives up as well
                else:
                    outcome = _given_up(running) if spent.is_given_up else _stopped(running.kind, assignment)
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except Stop:  # it was told to stop in the middle of its code, which did not await; see `host`
                steps.end()
                await _is_undelivered(running)
                outcome = _stopped(running.kind or "cancel", assignment)
            except BaseException as error:
                outcome = raised(error, allow_pickle=assignment.allow_pickle)
                steps.end()
                if running.kind and not await _is_undelivered(running):
                    outcome = _stopped(running.kind, assignment)
            else:
                if running.kind and not await _is_undelivered(running):
                    outcome = _stopped(running.kind, assignment)
        finally:
            steps.end()
            context.leave(token)
            for timer in running.timers:
                timer.cancel()
            if self.running.get(assignment.job_id) is running:
                del self.running[assignment.job_id]
            own.finish()
        await own.end()
        return outcome, spent


async def _is_undelivered(running: _Running) -> bool:
    """After a job ended although it was asked to stop: True where the request had not reached it yet.

    Takes the request back either way. A pending one would cancel the task at its end, and the outcome would be lost.
    """
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        running.take_back()
        return True
    running.take_back()
    return False


def _given_up(running: _Running) -> Outcome:
    grace = f"it did not stop within its grace of {running.assignment.cancel_grace_s:g} s"
    return Outcome("cancelled", reason=f"given up: {grace}")


def _stopped(kind: str, assignment: Assignment, note: str = "") -> Outcome:
    if kind == "timeout":
        sentence = f"ran longer than its timeout of {assignment.timeout_s:g} s{note}"
        return failed(ErrorKind.TIMEOUT, "timeout", sentence)
    return Outcome("cancelled", reason=f"stopped on request{note or '; its clean-up ran'}")


class _Thread:
    """An attempt in a thread."""

    def __init__(self, assignment: Assignment, loop: asyncio.AbstractEventLoop, own: LazyContext) -> None:
        self.assignment = assignment
        self.loop = loop
        self.context = own
        self.kind = ""
        self.is_over = False
        self.done: asyncio.Future[Outcome] = loop.create_future()
        self.thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._main,), name=f"job {assignment.job_id}", daemon=True
        )

    def stop(self, kind: str) -> None:
        """Raise `Stop` in the thread, at its next Python instruction."""
        if self.kind or self.is_over:
            return
        self.kind = kind
        self.context.is_stopping = True
        if self.thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread.ident), ctypes.py_object(Stop))
        self.loop.call_later(self.assignment.cancel_grace_s, self._give_up)

    def _give_up(self) -> None:
        if not self.done.done():
            note = ", and its thread, which cannot be killed, may still be running"
            self.done.set_result(_stopped(self.kind, self.assignment, note))

    def _main(self) -> None:
        try:
            outcome = self._attempt()
        except BaseException:  # a Stop that came while the outcome was being written
            outcome = _stopped(self.kind or "cancel", self.assignment)
        self.is_over = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._deliver, outcome)

    def _attempt(self) -> Outcome:
        assignment = self.assignment
        token = context.enter(self.context)
        try:
            function, args, kwargs = _resolved(assignment)
            value = function(*args, **kwargs)
            if inspect.iscoroutine(value):
                value = asyncio.run(value)
            self.is_over = True
        except Stop:
            return _stopped(self.kind, assignment)
        except BaseException as error:
            self.is_over = True
            return raised(error, allow_pickle=assignment.allow_pickle)
        finally:
            context.leave(token)
        return succeeded(value, allow_pickle=assignment.allow_pickle)

    def _deliver(self, outcome: Outcome) -> None:
        if not self.done.done():
            if self.kind and outcome.outcome == "succeeded" and self.context.is_stopping:
                # It looked at should_stop and returned.
                outcome = _stopped(self.kind, self.assignment)
            self.done.set_result(outcome)


class ThreadRunner(_SharedProcess):
    """Runs plain functions in threads. A cancel sets `should_stop` and raises `Stop` at the next Python instruction;
    code that stays in C cannot be stopped, and the outcome says so."""

    def __init__(self) -> None:
        self._running: dict[str, _Thread] = {}

    def cancel(self, job_id: str) -> None:
        running = self._running.get(job_id)
        if running is not None:
            running.stop("cancel")

    def kill(self, job_id: str) -> None:
        running = self._running.get(job_id)
        if running is not None:
            running.stop("kill")

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        loop = asyncio.get_running_loop()
        outlet = LoopOutlet(sink, loop)
        own = lazy_context(assignment, outlet, loop, is_threaded=True)
        running = _Thread(assignment, loop, own)
        self._running[assignment.job_id] = running
        timer = None
        if assignment.timeout_s is not None:
            timer = loop.call_later(assignment.timeout_s, running.stop, "timeout")
        running.thread.start()
        try:
            outcome = await asyncio.shield(running.done)
        except asyncio.CancelledError:
            running.stop("kill")
            await asyncio.wait([running.done])
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if self._running.get(assignment.job_id) is running:
                del self._running[assignment.job_id]
            own.finish()
            await asyncio.sleep(0)  # its last lines are on their way to the sink through this loop
        await own.end()
        return outcome


def run_here(assignment: Assignment, sink: Sink) -> Outcome:
    """Run an attempt in the calling thread and return when it has ended (`sync://`).

    What it prints still shows; lines and progress go to the sink as well, which is only called in this thread. Timeout
    and memory limit are not enforced: there is nobody outside to do it. Ctrl-C cancels the job.
    """
    _copying.install()
    tqdm_hook.install()
    ticker = Ticker(lambda: recorder.tick())
    recorder = Recorder(SinkOutlet(sink), ticker.arm, bounds=assignment.bounds)
    recorder.is_passive = True
    token = context.enter(Context(assignment.job_id, assignment.attempt, assignment.task, recorder))
    started = time.process_time()
    try:
        function, args, kwargs = _resolved(assignment)
        value = function(*args, **kwargs)
        if inspect.iscoroutine(value):
            value = _run_coroutine(value)
        outcome = succeeded(value, allow_pickle=assignment.allow_pickle)
    except KeyboardInterrupt:
        outcome = Outcome("cancelled", reason="interrupted from the keyboard")
    except BaseException as error:
        outcome = raised(error, allow_pickle=assignment.allow_pickle)
    finally:
        context.leave(token)
        _copying.remove()
        ticker.stop()
        recorder.close()
    usage = {"cpu_s": round(time.process_time() - started, 6)}
    return replace(outcome, usage=usage)


def _run_coroutine(coroutine: Any) -> Any:
    """`asyncio.run`, also where a loop is already running in this thread (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    results: list[Any] = []
    copied = contextvars.copy_context()

    def run() -> None:
        try:
            results.append((asyncio.run(coroutine), None))
        except BaseException as error:
            results.append((None, error))

    thread = threading.Thread(target=copied.run, args=(run,), name="jobkit-sync")
    thread.start()
    thread.join()
    value, error = results[0]
    if error is not None:
        raise error
    return value
