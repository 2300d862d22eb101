"""One attempt of a plain arq function: on the worker's own loop, with arq's `ctx`, hooks, retries and log lines.

The payload of such a job calls `door`, which finds the attempt that is opened for it in its context. Everything else
(timeout, cancel, output, progress, the preview of the result) is that of any coroutine; at the end the result is also
written as arq's readers want it, to be stored in the same moment as the end of the job.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import arq.worker
from arq.constants import keep_cronjob_progress
from arq.cron import CronJob
from arq.jobs import Serializer, serialize_result
from arq.utils import ms_to_datetime, timestamp_ms, truncate
from arq.worker import Function, JobExecutionFailed, RetryJob

from jobkit.codec import MSGPACK
from jobkit.model import ErrorKind, Retry, StoreUnavailable
from jobkit.run.attempt import Assignment, Outcome, Rejected, Sink, raised
from jobkit.run.inside import bars
from jobkit.run.inside.capture import Routing
from jobkit.run.inside.preview import safe_repr
from jobkit.run.shared import AsyncRunner
from jobkit.run.watch import LoopWatch
from jobkit.store.arq import ArqQueue
from jobkit.tasks.call import read_call, read_head
from jobkit.worker.about import pause_s
from jobkit.worker.from_arq.calls import (
    DOOR,
    ENTRY,
    ArqEntry,
    Order,
    call_text,
    changed,
    read_order,
    result_ttl_ms,
)
from jobkit.worker.running import RunningAttempt
from jobkit.worker.worker import JobWorker

logger = logging.getLogger("arq.worker")

_copying = Routing(is_copying=True)

#: arq's line says "delayed" above this.
_DELAYED_MS = 1200


@dataclass(slots=True)
class Visit:
    """One attempt, from arq's side.

    Attributes:
        problem: why it cannot be run at all. `value`, `error`: what the function returned or raised.
        ref: what arq's log lines call it.
    """

    entry: ArqEntry
    order: Order
    job_try: int
    function: Function | CronJob | None = None
    problem: Exception | None = None
    ctx: dict[Any, Any] = field(default_factory=dict)
    value: Any = None
    error: BaseException | None = None
    is_retried: bool = False
    may_retry: bool = True
    retries_errors: bool = True
    max_tries: int = 0
    started_ms: int = field(default_factory=timestamp_ms)

    @property
    def ref(self) -> str:
        is_cron = isinstance(self.function, CronJob)
        return self.order.function if is_cron else f"{self.entry.arq_id}:{self.order.function}"

    @property
    def took_s(self) -> float:
        return (timestamp_ms() - self.started_ms) / 1000

    async def call(self) -> Any:
        """Call the function. What arq would try again becomes jobkit's `Retry`, as long as tries are left."""
        assert self.function is not None
        try:
            self.value = await self.function.coroutine(self.ctx, *self.order.args, **self.order.kwargs)
            return self.value
        except BaseException as error:
            self.error = error
            task = asyncio.current_task()
            is_asked = task is not None and task.cancelling() > 0  # by a cancel, a timeout, the end of the worker
            if isinstance(error, asyncio.CancelledError) and is_asked:
                raise
            if not self.retries_errors or not isinstance(error, (arq.worker.Retry, RetryJob, asyncio.CancelledError)):
                raise
            after_s = (getattr(error, "defer_score", None) or 0) / 1000
            self.is_retried = True
            if self.may_retry:
                raise Retry(after_s, f"asked to be tried again{f' in {after_s:g} s' if after_s else ''}") from error
            self.error = JobExecutionFailed(f"max {self.max_tries} retries exceeded")
            raise self.error from error


_visit: contextvars.ContextVar[Visit | None] = contextvars.ContextVar("jobkit_arq", default=None)


async def door(**given: Any) -> Any:
    """Target of the payloads of arq's jobs; `given` are its entry and the arguments that a rerun has changed."""
    visit = _visit.get()
    if visit is None:
        raise Rejected("this job came by arq's client, and only `jobkit worker --arq` can run it")
    if len(given) > 1:  # once more: here a job among them has been replaced by its result
        visit.order = changed(visit.order, visit.function, {n: v for n, v in given.items() if n != ENTRY})
    return await visit.call()


class ArqRunner(AsyncRunner):
    """Runs arq's functions; other coroutines of jobkit as any worker does.

    Attributes:
        queue, note_after: set by the worker before its start: arq's queue, and what notes that `after_job_end` is due.
    """

    queue: ArqQueue
    note_after: Callable[[RunningAttempt, dict[Any, Any]], None]

    def __init__(self, worker: JobWorker) -> None:
        super().__init__()
        self._worker = worker
        self.watch: LoopWatch | None = None
        self._is_open = False

    async def start(self) -> None:
        """Copy output to the jobs' logs; it still shows, as with arq."""
        if not self._is_open:
            self._is_open = True
            _copying.install()
            bars.install()
            if self.watch is not None:
                self.watch.start()

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            _copying.remove()
            if self.watch is not None:
                self.watch.close()

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        head, inner = read_head(assignment.call)
        if head.ref != DOOR or head.form != MSGPACK:
            return await super().run(assignment, sink)
        assert isinstance(sink, RunningAttempt)
        worker = self._worker
        kwargs = dict(read_call(head, inner, allow_pickle=assignment.allow_pickle).kwargs)
        visit = self._open(ArqEntry(**kwargs.pop(ENTRY)), sink, kwargs)
        if visit.problem is None:
            await self._before(visit)
        if visit.problem is not None:
            visit.error = visit.problem
            outcome = raised(visit.problem, allow_pickle=assignment.allow_pickle)
        else:
            self._log_start(visit)
            task = asyncio.current_task()
            assert task is not None
            worker.tasks[visit.entry.arq_id] = worker.job_tasks[visit.entry.arq_id] = task
            token = _visit.set(visit)
            try:
                outcome = await super().run(assignment, sink)
            finally:
                _visit.reset(token)
                for tasks in (worker.tasks, worker.job_tasks):
                    if tasks.get(visit.entry.arq_id) is task:
                        del tasks[visit.entry.arq_id]
            self._log_end(visit, outcome, sink)
            if worker.on_job_end:
                await guarded(worker.on_job_end, visit.ctx, "on_job_end", visit.ref)
        await self._stage(visit, outcome, sink)
        if visit.problem is None and worker.after_job_end and not sink.is_lost:
            self.note_after(sink, visit.ctx)
        return outcome

    def _open(self, entry: ArqEntry, attempt: RunningAttempt, changes: Mapping[str, Any]) -> Visit:
        worker, claimed = self._worker, attempt.claimed
        job_try = entry.tries + claimed.retried + 1
        is_expired = 0 < entry.expires_ms <= claimed.started_ms and not claimed.spec.retry_of
        order = read_order(b"" if is_expired else entry.payload, worker.job_deserializer)
        visit = Visit(entry, order, job_try, worker.functions.get(order.function), order.problem)
        if order.problem is not None:
            if isinstance(order.problem, JobExecutionFailed):
                logger.warning("job %s expired", entry.arq_id)
            else:
                logger.error("deserializing job %s failed", entry.arq_id, exc_info=order.problem)
            return visit
        if visit.function is None:
            logger.warning("job %s, function %r not found", entry.arq_id, order.function)
            visit.problem = JobExecutionFailed(f"function {order.function!r} not found")
            return visit
        if changes:
            visit.order = changed(order, visit.function, changes)
        visit.max_tries = worker.max_tries if visit.function.max_tries is None else visit.function.max_tries
        visit.retries_errors = worker.retry_jobs
        visit.may_retry = claimed.retried < claimed.spec.retries
        if job_try > visit.max_tries:
            self._log_exceeded(visit)
            visit.problem = JobExecutionFailed(f"max {visit.max_tries} retries exceeded")
            return visit
        visit.ctx = {
            **worker.ctx,
            "job_id": claimed.spec.id if claimed.spec.retry_of else entry.arq_id,
            "job_try": job_try,
            "enqueue_time": ms_to_datetime(order.enqueued_ms),
            "score": claimed.started_ms if claimed.retried else entry.score,
        }
        return visit

    async def _before(self, visit: Visit) -> None:
        """The hook before a job; one that raises fails the job, not the worker."""
        if self._worker.on_job_start:
            try:
                await self._worker.on_job_start(visit.ctx)
            except Exception as error:
                logger.exception("%s: on_job_start failed", visit.ref)
                visit.problem = error
        visit.started_ms = timestamp_ms()

    async def _stage(self, visit: Visit, outcome: Outcome, attempt: RunningAttempt) -> None:
        """Leave the result for arq's readers; it is theirs once the job is stored as ended."""
        worker, claimed, function = self._worker, attempt.claimed, visit.function
        if outcome.retry is not None or attempt.is_lost or claimed.spec.retry_of:
            return
        if attempt.is_released and outcome.outcome != "succeeded" and worker.retry_jobs:
            return
        is_success = outcome.outcome == "succeeded"
        result = visit.value if is_success else _readable(_failure(visit, outcome), worker.job_serializer)
        ttl_ms = result_ttl_ms(worker, function)
        body: bytes | None = b""
        if ttl_ms:
            order = visit.order
            body = serialize_result(
                order.function, order.args, order.kwargs, visit.job_try, order.enqueued_ms, is_success, result,
                visit.started_ms, timestamp_ms(), visit.ref, worker.queue_name, visit.entry.arq_id,
                serializer=worker.job_serializer,
            )  # fmt: skip
        # Its id stands for one time of the cron job.
        is_slot = (
            isinstance(function, CronJob)
            and function.unique
            and not function.job_id
            and visit.entry.arq_id.startswith(f"{function.name}:")
        )
        hold_ms = int(keep_cronjob_progress * 1000) if is_slot else 0
        failures = 0
        while True:
            try:
                await self.queue.stage(claimed.spec.id, claimed.token, body or b"", ttl_ms if body else 0, hold_ms)
                return
            except StoreUnavailable:
                if attempt.is_lost or attempt.is_released:
                    return
                await asyncio.sleep(pause_s(failures))
                failures += 1

    # -- arq's log lines ----------------------------------------------------------------------------------------------

    def _log_start(self, visit: Visit) -> None:
        order, now_ms = visit.order, visit.started_ms
        extra = f" try={visit.job_try}" if visit.job_try > 1 else ""
        if (late_ms := now_ms - visit.entry.score) > _DELAYED_MS and visit.job_try == 1:
            extra += f" delayed={late_ms / 1000:0.2f}s"
        assert visit.function is not None
        waited_s = (now_ms - order.enqueued_ms) / 1000
        logger.info("%6.2fs → %s(%s)%s", waited_s, visit.ref, call_text(visit.function, order), extra)

    def _log_exceeded(self, visit: Visit) -> None:
        age_s = (timestamp_ms() - visit.order.enqueued_ms) / 1000
        logger.warning("%6.2fs ! %s max retries %d exceeded", age_s, visit.ref, visit.max_tries)

    def _log_end(self, visit: Visit, outcome: Outcome, attempt: RunningAttempt) -> None:
        worker, took_s, ref, error = self._worker, visit.took_s, visit.ref, visit.error
        if outcome.outcome == "succeeded":
            is_told = visit.value is not None and worker.log_results
            shown = truncate(safe_repr(visit.value, 200)) if is_told else ""
            logger.info("%6.2fs ← %s ● %s", took_s, ref, shown)
        elif visit.is_retried:
            worker.jobs_retried += 1
            if outcome.retry is None:
                self._log_exceeded(visit)
            elif isinstance(error, arq.worker.Retry):
                logger.info("%6.2fs ↻ %s retrying job in %0.2fs", took_s, ref, outcome.retry.after or 0)
            else:
                logger.info("%6.2fs ↻ %s cancelled, will be run again", took_s, ref)
        elif attempt.is_lost:
            logger.warning("%6.2fs ! %s lost to another worker", took_s, ref)
        elif attempt.is_released and worker.retry_jobs:
            worker.jobs_retried += 1
            logger.info("%6.2fs ↻ %s cancelled, will be run again", took_s, ref)
        elif outcome.outcome == "cancelled" and not attempt.is_released:
            logger.info("%6.2fs ⊘ %s aborted", took_s, ref)
        else:
            failure = _failure(visit, outcome)
            extra = None
            with contextlib.suppress(Exception):  # user code
                extra = getattr(failure, "extra", None)
                extra = extra() if callable(extra) else extra
            text = "%6.2fs ! %s failed, %s: %s"
            logger.error(
                text, took_s, ref, type(failure).__name__, safe_str(failure), exc_info=failure, extra={"extra": extra}
            )


def _failure(visit: Visit, outcome: Outcome) -> BaseException:
    """Return the exception that arq's readers raise."""
    if outcome.outcome == "cancelled":
        return asyncio.CancelledError()
    if outcome.error is not None and outcome.error.kind is ErrorKind.TIMEOUT:
        return TimeoutError()
    if isinstance(visit.error, (Exception, asyncio.CancelledError)):
        return visit.error
    # A SystemExit, for instance, which a reader must not raise.
    return JobExecutionFailed(outcome.error.message if outcome.error is not None else "the job did not end by itself")


def _readable(error: BaseException, serializer: Serializer | None) -> BaseException:
    """The error, or one that says the same where its pickle cannot be read: it would break every list of results."""
    if serializer is not None:
        return error
    try:
        body = pickle.dumps(error)
    except Exception:  # arq says so in its way
        return error
    try:
        pickle.loads(body)
    except Exception:
        return JobExecutionFailed(f"{type(error).__name__}: {safe_str(error)}")
    return error


def safe_str(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # user code
        return ""


async def guarded(hook: Any, ctx: dict[Any, Any], name: str, ref: str) -> None:
    """Call a hook after a job; what it raises changes nothing any more."""
    try:
        await hook(ctx)
    except Exception:
        logger.exception("%s: %s failed", ref, name)
