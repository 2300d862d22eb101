"""`ThreadRunner`: attempts in threads of the worker; `run_here`: an attempt in the calling thread (`sync://`)."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import inspect
import threading
import time
from dataclasses import replace
from typing import Any

from jobkit.run.attempt import raised, succeeded
from jobkit.run.base import Assignment, Outcome, Sink
from jobkit.run.inside import context, tqdm_hook
from jobkit.run.inside.capture import Routing
from jobkit.run.inside.context import Context, Stop
from jobkit.run.inside.recorder import Recorder, Ticker
from jobkit.run.shared import (
    LazyContext,
    LoopOutlet,
    SharedProcess,
    SinkOutlet,
    lazy_context,
    resolved,
    stopped_outcome,
)

_copying = Routing(is_copying=True)


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
            self.done.set_result(stopped_outcome(self.kind, self.assignment, note))

    def _main(self) -> None:
        try:
            outcome = self._attempt()
        except BaseException:  # a Stop that came while the outcome was being written
            outcome = stopped_outcome(self.kind or "cancel", self.assignment)
        self.is_over = True
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._deliver, outcome)

    def _attempt(self) -> Outcome:
        assignment = self.assignment
        token = context.enter(self.context)
        try:
            function, args, kwargs = resolved(assignment)
            value = function(*args, **kwargs)
            if inspect.iscoroutine(value):
                value = asyncio.run(value)
            self.is_over = True
        except Stop:
            return stopped_outcome(self.kind, assignment)
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
                outcome = stopped_outcome(self.kind, self.assignment)
            self.done.set_result(outcome)


class ThreadRunner(SharedProcess):
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
    and memory limit are not enforced: no other process could do it. Ctrl-C cancels the job.
    """
    _copying.install()
    tqdm_hook.install()
    ticker = Ticker(lambda: recorder.tick())
    recorder = Recorder(SinkOutlet(sink), ticker.arm, bounds=assignment.bounds)
    recorder.is_passive = True
    token = context.enter(Context(assignment.job_id, assignment.attempt, assignment.task, recorder))
    started = time.process_time()
    try:
        function, args, kwargs = resolved(assignment)
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
