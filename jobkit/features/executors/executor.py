"""`JobExecutor`: a kit as an executor of `concurrent.futures`, whose futures follow jobs."""

from __future__ import annotations

import inspect
import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from functools import partial
from threading import Condition, Event, Lock, Thread, current_thread
from typing import Any, ParamSpec, TypeVar

from jobkit.client import checks
from jobkit.client.awaiting import open_ids
from jobkit.client.handle import slices
from jobkit.client.job import Job
from jobkit.client.sweep import MAX_JOBS
from jobkit.client.verbs import Verbs
from jobkit.features.executors.chunk import Chunk
from jobkit.model import InvalidParams, JobFailed, JobkitError, JobSnapshot, JobState
from jobkit.run.inside import context
from jobkit.tasks.task import TaskDef

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("jobkit.client")


class _LendingEvent(Event):
    """Event of a call of `concurrent.futures.wait` or `as_completed`; inside a job, waiting for it lends the slot."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = deque[Job[Any]]()

    def wait(self, timeout: float | None = None) -> bool:
        if context.active() is None:
            return super().wait(timeout)
        for slice_s in slices(timeout):
            with context.waiting(open_ids(self.jobs)):
                if super().wait(slice_s):
                    return True
        return self.is_set()


class _Waiters(list[Any]):
    """The calls of `concurrent.futures.wait` and `as_completed` that wait for one future, as these functions keep them.

    They hold the locks of all their futures while they add themselves, so no event is set meanwhile.
    """

    def __init__(self, job: Job[Any]) -> None:
        super().__init__()
        self._job = job

    def append(self, waiter: Any) -> None:
        if not isinstance(waiter.event, _LendingEvent):
            waiter.event = _LendingEvent()
        waiter.event.jobs.append(self._job)
        super().append(waiter)


class JobFuture(Future[T]):
    """The future of a job. It is `running()` from the first start of the job on, also while that waits for a retry.

    Inside a job, a caller that waits for it lends its slot; so does a callback, until it is called. As everywhere
    in `concurrent.futures`, `cancel()` has no effect on what runs; `future.job.cancel()` stops it.

    Attributes:
        job: the live handle.
    """

    def __init__(self, job: Job[T], withdraw: Callable[[JobFuture[Any]], None]) -> None:
        super().__init__()
        self._waiters = _Waiters(job)
        self.job = job
        self._withdraw = withdraw
        self._begun = Lock()

    def cancel(self) -> bool:
        """Cancel the job if it has not started; returns whether it is cancelled."""
        if not super().cancel():
            return False
        self.begin()
        return True

    def result(self, timeout: checks.Timeout = None) -> T:
        """Return what the job returned; waits for it.

        Args:
            timeout: seconds, `timedelta` or text like "90s" to wait at most; None for ever.

        Raises:
            CancelledError, TimeoutError: as for any future. The exception of the job's function, if it could be
            rebuilt here; `__cause__` is the `JobFailed` with the remote traceback. Else what `Job.result` raises.
        """
        return super().result(self._awaited(timeout))

    def exception(self, timeout: checks.Timeout = None) -> BaseException | None:
        """Return what `result` would raise, or None."""
        return super().exception(self._awaited(timeout))

    def _awaited(self, timeout: checks.Timeout) -> float | None:
        """Return the seconds that are left to wait. Inside a job its slot is lent meanwhile."""
        seconds = checks.timeout_s(timeout)
        if self.done() or context.active() is None:
            return seconds
        began = time.monotonic()
        with suppress(JobkitError):  # the future has it, too
            self.job.wait(seconds)
        return None if seconds is None else max(0.0, seconds - (time.monotonic() - began))

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call `fn` with this future when it is done. Inside a job its slot is lent until then."""
        if not self.done() and context.active() is not None:
            awaited = context.waiting([self.job.id], blocks=False)
            awaited.__enter__()
            super().add_done_callback(lambda _: awaited.__exit__(None, None, None) and None)
        super().add_done_callback(fn)

    def observe(self, _: JobSnapshot, after: JobSnapshot) -> None:
        if after.state is JobState.RUNNING:
            self.begin()

    def begin(self) -> None:
        """Leave the state "pending", once."""
        if self._begun.acquire(blocking=False) and not self.set_running_or_notify_cancel():
            self._withdraw(self)

    def end(self, ended: Future[None]) -> None:
        """Take the outcome of the ended job. Unpickles, and calls the future's callbacks."""
        job = self.job
        if job.snapshot.state is JobState.CANCELLED and not job.snapshot.attempt:
            self.cancel()  # by another way than this future
        self.begin()
        if self.cancelled():
            return
        try:
            ended.result()
            value = job.kit.outcome(job)
        except BaseException as error:
            self.set_exception(_raised(error))
        else:
            self.set_result(value)


def _raised(error: BaseException) -> BaseException:
    """Return the exception of the job's own function, caused by the `JobFailed`, if that has it."""
    original = error.__cause__ if isinstance(error, JobFailed) else None
    if original is None:
        return error
    error.__cause__ = None
    original.__cause__ = error.with_traceback(None)
    return original


class JobExecutor(Executor):
    """Runs calls as jobs of a kit; made by `kit.executor(...)`.

    An accepted call is a job like any other: it outlives this executor and this process. So unlike those of the
    standard library, an executor that is not shut down does not hold up the end of the program.

    Args:
        bound: the `BoundKit` that submits the jobs.
        max_workers: maximum number of its jobs that run at once; None for as many as the workers have slots.

    Raises:
        InvalidParams: (a ValueError) `max_workers` is not a number above 0.
    """

    def __init__(self, bound: Any, max_workers: int | None = None) -> None:
        if max_workers is not None:
            if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
                raise InvalidParams(f"max_workers must be greater than 0, not {max_workers!r}", "max_workers")
            bound = bound.options(concurrency=max_workers, limit_key=f"executor {os.urandom(8).hex()}")
        self._bound = bound
        self._lock = Condition()
        self._futures: set[JobFuture[Any]] = set()  # those that are not done, and whose callbacks were not called
        self._ended: deque[tuple[JobFuture[Any], Future[None]]] = deque()
        self._thread: Thread | None = None  # while there are ended ones: takes outcomes, calls callbacks
        self._unwanted: list[str] = []  # ids of jobs to cancel
        self._cancelling: Future[None] | None = None
        self._is_shut_down = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]:
        """Submit a task or any other callable; returns a future with its `job`.

        Raises:
            RuntimeError: after `shutdown`. InvalidParams, StoreUnavailable: see `Kit.submit`.
        """
        self._ensure_open()
        return self._follow(self._bound.submit(fn, *args, **kwargs))

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: checks.Timeout = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Yield `fn(*args)` for the items of the iterables, in their order. Jobs that are not needed are cancelled.

        Args:
            timeout: from now, for all of them; seconds, `timedelta` or text like "90s".
            chunksize: number of calls in a job; more than 1 pays if a call takes less than 50 ms. Each call of a task
                is a job, with the task's options.
            buffersize: maximum number of jobs ahead of the awaited value; None submits all at once.

        Raises:
            TimeoutError: (by the iterator) a value has not come in time. InvalidParams: (a ValueError) a size is less
                than 1.
        """
        self._ensure_open()
        for name, size in (("chunksize", chunksize), ("buffersize", buffersize)):
            if size is not None and size < 1:
                raise InvalidParams(f"{name} must be >= 1, not {size!r}", name)
        seconds = checks.timeout_s(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        calls: Iterator[tuple[Any, ...]] = zip(*iterables)  # noqa: B905  # until the shortest ends, as `map` does
        is_chunked = chunksize > 1 and not isinstance(fn, TaskDef) and not inspect.iscoroutinefunction(fn)
        if is_chunked:
            fn, calls = Chunk(fn), zip(batched(calls, chunksize))
        if buffersize is None:
            futures = deque(future for part in batched(calls, MAX_JOBS) for future in self._submit_each(fn, part))
        else:
            futures = deque(self.submit(fn, *args) for args in itertools.islice(calls, buffersize))
        values = self._values(futures, deadline, (self.submit(fn, *args) for args in calls))
        return itertools.chain.from_iterable(values) if is_chunked else values

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return when all futures are done and their callbacks have been called.
            cancel_futures: cancel the jobs that have not started.
        """
        with self._lock:
            self._is_shut_down = True
            futures = list(self._futures)
        if cancel_futures:
            for future in futures:
                future.cancel()
        if wait and current_thread() is not self._thread:  # a callback would wait for itself
            for future in futures:
                with suppress(CancelledError):
                    future.exception()
            if (cancelling := self._cancelling) is not None:
                cancelling.result()
            with self._lock:
                self._lock.wait_for(lambda: not self._futures)

    def abort(self) -> None:
        """Cancel all of its jobs, also those that run."""
        with self._lock:
            futures = list(self._futures)
        for future in futures:
            if not future.cancel():
                self._withdraw(future)

    def _ensure_open(self) -> None:
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _submit_each(self, fn: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[JobFuture[Any]]:
        """Submit many calls in bulk."""
        jobs = self._bound.submit_each(fn, calls)
        jobs[0].kit.connection.run_here([job.id for job in jobs])
        return [self._follow(job) for job in jobs]

    def _values(
        self, futures: deque[JobFuture[Any]], deadline: float | None, more: Iterator[JobFuture[Any]]
    ) -> Iterator[Any]:
        try:
            while futures:
                futures.extend(itertools.islice(more, 1))
                left = None if deadline is None else deadline - time.monotonic()
                yield _value(futures.popleft(), left)  # without a reference to it here
        finally:
            for future in futures:
                future.cancel()

    # -- moved by its jobs --------------------------------------------------------------------------------------------

    def _follow(self, job: Job[T]) -> JobFuture[T]:
        future = JobFuture(job, self._withdraw)
        with self._lock:
            self._futures.add(future)
        if job.observe(future.observe).state is JobState.RUNNING:
            future.begin()
        job.ending.add_done_callback(partial(self._on_end, future))
        return future

    def _on_end(self, future: JobFuture[Any], ended: Future[None]) -> None:
        """Pass an end from jobkit's loop, which runs no code of users, to the executor's thread."""
        if future.job.snapshot.attempt:
            future.begin()
        with self._lock:
            self._ended.append((future, ended))
            if self._thread is None:
                self._thread = Thread(target=self._take_ended, name="jobkit-executor", daemon=True)
                with suppress(RuntimeError):  # the program ends: no caller waits
                    self._thread.start()

    def _take_ended(self) -> None:
        while True:
            with self._lock:
                if not self._ended:
                    self._thread = None
                    return
                future, ended = self._ended.popleft()
            try:
                future.end(ended)
            except Exception:
                logger.exception("the outcome of job %s was not taken", future.job.id)
            self._discard(future)
            del future

    def _discard(self, future: JobFuture[Any]) -> None:
        with self._lock:
            self._futures.discard(future)
            self._lock.notify_all()

    def _withdraw(self, future: JobFuture[Any]) -> None:
        """Cancel the job of a future, without waiting for that."""
        job = future.job
        if future.cancelled():
            self._discard(future)
        with self._lock:
            self._unwanted.append(job.id)
            if self._cancelling is None:
                self._cancelling = job.kit.connection.spawn(self._cancel_unwanted, job.kit.verbs)

    async def _cancel_unwanted(self, verbs: Verbs) -> None:
        while True:
            with self._lock:
                job_ids, self._unwanted = self._unwanted, []
                if not job_ids:
                    self._cancelling = None
                    return
            try:
                await verbs.cancel_many(job_ids, "its future was cancelled")
            except JobkitError as error:
                logger.warning("jobs of cancelled futures were not cancelled (%s): %s", error, ", ".join(job_ids))


def _value(future: JobFuture[T], timeout: float | None) -> T:
    try:
        return future.result(timeout)
    finally:
        future.cancel()  # if it took too long


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items; the last one may be shorter."""
    source = iter(items)
    while found := list(itertools.islice(source, size)):
        yield found
