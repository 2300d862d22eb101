"""Waiting for several jobs: for all, or for one after the other; and interrupts of cells that await jobs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import sys
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from functools import partial

from jobkit.client import checks
from jobkit.client.handle import slices
from jobkit.client.job import Job, R
from jobkit.model import InvalidParams
from jobkit.run.inside import context
from jobkit.run.inside.recorder import AWAITED_MOST
from jobkit.tasks.values import short_repr

#: A kernel that awaits a job sees an interrupt within so many seconds.
_WAKE_S = 0.25

_waiting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()
_ticking: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def as_completed(jobs: Iterable[Job[R]], timeout: checks.Timeout = None) -> Iterator[Job[R]]:
    """The jobs in the order in which they end, each as soon as it has.

    Raises:
        TimeoutError: not all have ended within `timeout` seconds.
        StoreUnavailable: their embedded server was stopped; the jobs go on when that is started again.

    Example:
        >>> jobs = [train.submit(lr=rate) for rate in (0.1, 0.2)]
        >>> sum(job.result()["loss"] for job in jobkit.as_completed(jobs, timeout=60))
        0.15...
    """
    seconds, waiting = checks.timeout_s(timeout), _handles(jobs)
    ended: queue.SimpleQueue[tuple[Job, Future[None]]] = queue.SimpleQueue()
    for job in waiting:
        job.ending.add_done_callback(partial(_put, ended, job))
    deadline = None if seconds is None else time.monotonic() + seconds
    unended = deque(waiting)
    for left in range(len(waiting), 0, -1):
        try:
            job, end = _next(ended, unended, None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError(f"{left} of {len(waiting)} jobs have not ended after {checks.shown(timeout)}") from None
        end.result()
        job.wait(0)
        yield job


def _put(ended: queue.SimpleQueue[tuple[Job, Future[None]]], job: Job, future: Future[None]) -> None:
    ended.put((job, future))


def _next(
    ended: queue.SimpleQueue[tuple[Job, Future[None]]], jobs: deque[Job], timeout_s: float | None
) -> tuple[Job, Future[None]]:
    """The next job that has ended. Raises queue.Empty when `timeout_s` seconds are over first."""
    with contextlib.suppress(queue.Empty):
        return ended.get_nowait()
    if context.active() is None:
        return ended.get(timeout=timeout_s)
    with context.waiting(open_ids(jobs)):
        for slice_s in slices(timeout_s):
            with contextlib.suppress(queue.Empty):
                return ended.get(timeout=slice_s)
    raise queue.Empty


def open_ids(jobs: deque[Job[R]]) -> list[str]:
    """Return the ids that a job which waits for all these jobs reports. Drops ended jobs at the left."""
    while jobs and jobs[0].is_over:
        jobs.popleft()
    return [job.id for job in itertools.islice((job for job in jobs if not job.is_over), AWAITED_MOST)]


def wait(jobs: Iterable[Job[R]], timeout: checks.Timeout = None) -> tuple[list[Job[R]], list[Job[R]]]:
    """Wait until all have ended or `timeout` seconds are over; `(ended, not ended)`, each in the order given.

    Example:
        >>> jobs = [train.submit(lr=rate) for rate in (0.1, 0.2)]
        >>> ended, others = jobkit.wait(jobs, timeout=60)
        >>> len(ended), others
        (2, [])
    """
    waiting = _handles(jobs)
    with contextlib.suppress(TimeoutError):
        deque(as_completed(waiting, timeout), maxlen=0)
    return [job for job in waiting if job.is_terminal], [job for job in waiting if not job.is_terminal]


def _handles(jobs: Iterable[Job[R]]) -> list[Job[R]]:
    if isinstance(jobs, Iterable) and not isinstance(jobs, str):
        found = list(jobs)
        if all(isinstance(each, Job) for each in found):
            return found
    raise InvalidParams(f"jobs must be a list of jobs, not {short_repr(jobs, 60)}", "jobs")


@contextlib.contextmanager
def wakeful() -> Iterator[None]:
    """Let the running loop wake up now and then, in the kernel of a notebook.

    ipykernel's handler of SIGINT schedules the end of the cell with `call_soon`, which does not wake a loop that sleeps
    in `select`: without this, stopping a cell that awaits a job takes until the job says something.
    """
    if "ipykernel" not in sys.modules:
        yield
        return
    loop = asyncio.get_running_loop()

    def tick() -> None:
        if _waiting.get(loop):
            loop.call_later(_WAKE_S, tick)
        else:
            _ticking.discard(loop)

    _waiting[loop] = _waiting.get(loop, 0) + 1
    if loop not in _ticking:
        _ticking.add(loop)
        tick()
    try:
        yield
    finally:
        _waiting[loop] -= 1
