"""Attempts in the calling thread, for `sync://`."""

from __future__ import annotations

import asyncio
import contextvars
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from msgspec.structs import replace

from jobkit.run.attempt import Assignment, Outcome
from jobkit.run.ended import execute
from jobkit.run.inside import bars, context
from jobkit.run.inside.context import Context
from jobkit.run.inside.recorder import Recorder, Sink
from jobkit.run.inside.ticker import Ticker
from jobkit.run.shared import COPYING


def run_here(assignment: Assignment, sink: Sink) -> Outcome:
    """Run an attempt in the calling thread and return when it has ended (`sync://`).

    What it prints still shows; lines and progress go to the sink as well, which is only called in this thread. Timeout
    and memory limit are not enforced: no other process could do it. Ctrl-C cancels the job.
    """
    COPYING.install()
    bars.install()
    ticker = Ticker(lambda: recorder.tick())
    recorder = Recorder(sink, ticker.arm, bounds=assignment.bounds)
    recorder.is_passive = True
    own = Context(assignment.job_id, assignment.attempt, assignment.task, recorder, assignment.checkpoints)
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
    usage = {"cpu_s": round(time.process_time() - started, 6)}
    return replace(outcome, usage=usage)


def _run_coroutine(coroutine: Any) -> Any:
    """`asyncio.run`, also where a loop is already running in this thread (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1, "jobkit-sync") as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, coroutine).result()
