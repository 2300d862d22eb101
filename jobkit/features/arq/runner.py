"""One attempt of a plain arq function: on the worker's own loop, with arq's `ctx`, hooks, retries and log lines.

The payload of such a job names `ARQ_DOOR`, for which `Visit.call` stands here. Everything else (timeout, cancel,
output, progress, the preview of the result) is that of any coroutine; at the end the result is also
written as arq's readers want it, to be stored in the same moment as the end of the job.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import platform
from collections.abc import Callable, Mapping
from typing import Any

import arq.worker
from arq.constants import keep_cronjob_progress
from arq.cron import CronJob
from arq.jobs import Serializer, serialize_result
from arq.utils import ms_to_datetime, timestamp_ms, truncate
from arq.worker import JobExecutionFailed, RetryJob

from jobkit.codec import MSGPACK
from jobkit.features.arq.bridge import ARQ_DOOR, ENTRY, ArqEntry, call_text, changed, read_order, result_ttl_ms
from jobkit.model import ErrorKind, Retry
from jobkit.run.attempt import Assignment, Outcome, failed
from jobkit.run.ended import last_stage, raised
from jobkit.run.inside.recorder import Sink
from jobkit.run.inside.shown_values import safe_repr
from jobkit.run.inside.tracebacks import class_name
from jobkit.run.shared import AsyncRunner
from jobkit.run.watch import LoopWatch
from jobkit.store.values import Given
from jobkit.tasks.call import read_call, read_head
from jobkit.worker.attempt import RunningAttempt
from jobkit.worker.worker import JobWorker

logger = logging.getLogger("arq.worker")

#: arq's line says "delayed" above this.
_DELAYED_MS = 1200


class Visit:
    """One attempt, from arq's side.

    Args:
        attempt: its claim, and the sink of its news. entry: what its payload has.

    Attributes:
        value, error: what the function returned or raised, or why it could not be called.
    """

    def __init__(self, worker: JobWorker, attempt: RunningAttempt, entry: ArqEntry) -> None:
        claimed = attempt.claimed
        is_expired = 0 < entry.expires_ms <= claimed.started_ms and not claimed.spec.retry_of
        self.worker, self.attempt, self.entry = worker, attempt, entry
        self.order = order = read_order(b"" if is_expired else entry.payload, worker.job_deserializer)
        self.function = function = worker.functions.get(order.function)
        self.job_try = entry.tries + claimed.retried + 1
        self.max_tries = function.max_tries if function and function.max_tries is not None else worker.max_tries
        self.ctx = {
            **worker.ctx,
            "job_id": claimed.spec.id if claimed.spec.retry_of else entry.arq_id,
            "job_try": self.job_try,
            "enqueue_time": ms_to_datetime(order.enqueued_ms),
            "score": claimed.started_ms if claimed.retried else entry.score,
        }
        self.value: Any = None
        self.error: BaseException | None = None
        self.is_retried = False
        self.started_ms = timestamp_ms()

    @property
    def ref(self) -> str:
        """Name of the job in arq's log lines."""
        is_cron = isinstance(self.function, CronJob)
        return self.order.function if is_cron else f"{self.entry.arq_id}:{self.order.function}"

    def problem(self, changes: Mapping[str, Any]) -> Exception | None:
        """Return why the function cannot be called at all, and log it; None if it can, with these changed arguments."""
        order, entry = self.order, self.entry
        if isinstance(order.problem, JobExecutionFailed):
            logger.warning("job %s expired", entry.arq_id)
        elif order.problem is not None:
            logger.error("deserializing job %s failed", entry.arq_id, exc_info=order.problem)
        elif self.function is None:
            logger.warning("job %s, function %r not found", entry.arq_id, order.function)
            return JobExecutionFailed(f"function {order.function!r} not found")
        elif self.job_try > self.max_tries:
            self._log_exceeded()
            return JobExecutionFailed(f"max {self.max_tries} retries exceeded")
        elif changes:
            self.order = changed(order, self.function, changes)
        return order.problem

    async def begin(self) -> BaseException | None:
        """Call the hook before a job; return what it raises: that fails the job, not the worker."""
        error = None
        if self.worker.on_job_start:
            error = await guarded(self.worker.on_job_start, self.ctx, "on_job_start", self.ref)
        self.started_ms = timestamp_ms()
        return error

    async def call(self, **given: Any) -> Any:
        """Call the function. What arq would try again becomes jobkit's `Retry`, as long as tries are left.

        Args:
            given: the entry, and the arguments that a rerun has changed.
        """
        assert self.function is not None
        if len(given) > 1:  # once more: here a job among them has been replaced by its result
            self.order = changed(self.order, self.function, {n: v for n, v in given.items() if n != ENTRY})
        try:
            self.value = await self.function.coroutine(self.ctx, *self.order.args, **self.order.kwargs)
            return self.value
        except BaseException as error:
            self.error = error
            task = asyncio.current_task()
            is_asked = task is not None and task.cancelling() > 0  # by a cancel, a timeout, the end of the worker
            if isinstance(error, asyncio.CancelledError) and is_asked:
                raise
            is_retry = isinstance(error, (arq.worker.Retry, RetryJob, asyncio.CancelledError))
            if not self.worker.retry_jobs or not is_retry:
                raise
            after_s = (getattr(error, "defer_score", None) or 0) / 1000
            self.is_retried = True
            claimed = self.attempt.claimed
            if claimed.retried < claimed.spec.retries:
                raise Retry(after_s, f"asked to be tried again{f' in {after_s:g} s' if after_s else ''}") from error
            self.error = JobExecutionFailed(f"max {self.max_tries} retries exceeded")
            raise self.error from error

    def result(self, outcome: Outcome) -> tuple[bytes, int]:
        """Return the result as arq's readers want it, and for how long (ms, below 0: for ever); empty for none."""
        order, worker, ttl_ms = self.order, self.worker, result_ttl_ms(self.worker, self.function)
        if not ttl_ms:
            return b"", 0
        is_success = outcome.outcome == "succeeded"

        def serialized(is_success: bool, result: Any) -> bytes | None:
            return serialize_result(
                order.function, order.args, order.kwargs, self.job_try, order.enqueued_ms, is_success, result,
                self.started_ms, timestamp_ms(), self.ref, worker.queue_name, self.entry.arq_id,
                serializer=worker.job_serializer,
            )  # fmt: skip

        try:
            result = self.value if is_success else _readable(self._failure(outcome), worker.job_serializer)
            body = serialized(is_success, result)
        except BaseException as error:  # arq leaves this to code of the value's own
            body = serialized(False, JobExecutionFailed(f"its result could not be written: {class_name(error)}"))
        return (body, ttl_ms) if body else (b"", 0)

    def _failure(self, outcome: Outcome) -> BaseException:
        """Return the exception that arq's readers raise."""
        if outcome.outcome == "cancelled":
            return asyncio.CancelledError()
        if outcome.error is not None and outcome.error.kind is ErrorKind.TIMEOUT:
            return TimeoutError()
        if isinstance(self.error, (Exception, asyncio.CancelledError)):
            return self.error
        # A SystemExit, for instance, which a reader must not raise.
        return JobExecutionFailed(
            outcome.error.message if outcome.error is not None else "the job did not end by itself"
        )

    # -- arq's log lines ----------------------------------------------------------------------------------------------

    def log_start(self) -> None:
        extra = f" try={self.job_try}" if self.job_try > 1 else ""
        if (late_ms := self.started_ms - self.entry.score) > _DELAYED_MS and self.job_try == 1:
            extra += f" delayed={late_ms / 1000:0.2f}s"
        assert self.function is not None
        waited_s = (self.started_ms - self.order.enqueued_ms) / 1000
        logger.info("%6.2fs → %s(%s)%s", waited_s, self.ref, call_text(self.function, self.order), extra)

    def _log_exceeded(self) -> None:
        age_s = (timestamp_ms() - self.order.enqueued_ms) / 1000
        logger.warning("%6.2fs ! %s max retries %d exceeded", age_s, self.ref, self.max_tries)

    def log_end(self, outcome: Outcome) -> None:
        worker, attempt, ref, error = self.worker, self.attempt, self.ref, self.error
        took_s = (timestamp_ms() - self.started_ms) / 1000
        if outcome.outcome == "succeeded":
            is_told = self.value is not None and worker.log_results
            is_plain = outcome.form == MSGPACK  # else its summary: that was made where code of its own may hang
            shown = truncate(safe_repr(self.value, 200) if is_plain else outcome.summary) if is_told else ""
            logger.info("%6.2fs ← %s ● %s", took_s, ref, shown)
        elif self.is_retried:
            worker.jobs_retried += 1
            if outcome.retry is None:
                self._log_exceeded()
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
            failure = self._failure(outcome)
            extra = None
            with contextlib.suppress(Exception):  # user code
                extra = getattr(failure, "extra", None)
                extra = extra() if callable(extra) else extra
            text = "%6.2fs ! %s failed, %s: %s"
            logger.error(
                text, took_s, ref, type(failure).__name__, safe_str(failure), exc_info=failure, extra={"extra": extra}
            )


class ArqRunner(AsyncRunner):
    """Runs arq's functions; other coroutines of jobkit as any worker does. `hooks`: calls of `after_job_end`."""

    def __init__(self, worker: JobWorker) -> None:
        super().__init__(is_copying=True)
        self._worker = worker
        self.hooks: set[asyncio.Task[Any]] = set()
        self.watch: LoopWatch | None = None

    async def start(self) -> None:
        await super().start()
        if self.watch is not None:
            self.watch.start()

    async def close(self) -> None:
        if self.watch is not None:
            self.watch.close()
        await super().close()

    async def run(self, assignment: Assignment, sink: Sink, door: Callable[..., Any] | None = None) -> Outcome:
        if assignment.isolation != "async":
            sentence = (
                f"the worker on {platform.node()} runs coroutines only: start `jobkit worker` as well, then retry it"
            )
            return failed(ErrorKind.REJECTED, "Rejected", sentence)
        head = read_head(assignment.call)
        if head.ref != ARQ_DOOR or head.form != MSGPACK:
            return await super().run(assignment, sink)
        assert isinstance(sink, RunningAttempt)
        worker = self._worker
        kwargs = dict(read_call(head, allow_pickle=assignment.allow_pickle).kwargs)
        visit = Visit(worker, sink, ArqEntry(**kwargs.pop(ENTRY)))
        problem = visit.problem(kwargs) or await visit.begin()
        if problem is not None:
            visit.error = problem
            outcome = await last_stage(raised(problem, allow_pickle=assignment.allow_pickle))
        else:
            visit.log_start()
            arq_id, task = visit.entry.arq_id, asyncio.current_task()
            assert task is not None
            worker.tasks[arq_id] = worker.job_tasks[arq_id] = task
            try:
                outcome = await super().run(assignment, sink, visit.call)
            finally:
                for tasks in (worker.tasks, worker.job_tasks):
                    if tasks.get(arq_id) is task:
                        del tasks[arq_id]
            visit.log_end(outcome)
            if worker.on_job_end:
                await guarded(worker.on_job_end, visit.ctx, "on_job_end", visit.ref)
        self._add_result(visit, outcome)
        if problem is None and worker.after_job_end and not sink.is_lost:
            sink.on_stored = lambda: self._call_after(visit)
        return outcome

    def _call_after(self, visit: Visit) -> None:
        after = guarded(self._worker.after_job_end, visit.ctx, "after_job_end", str(visit.ctx["job_id"]))
        hook = self._worker.loop.create_task(after)
        self.hooks.add(hook)
        hook.add_done_callback(self.hooks.discard)

    def _add_result(self, visit: Visit, outcome: Outcome) -> None:
        """Add the result for arq's readers to the attempt; it is stored with its end."""
        attempt, claimed, function = visit.attempt, visit.attempt.claimed, visit.function
        if outcome.retry is not None or attempt.is_lost or claimed.spec.retry_of:
            return
        if attempt.is_released and outcome.outcome != "succeeded" and self._worker.retry_jobs:
            return
        body, ttl_ms = visit.result(outcome)
        # Its id stands for one time of the cron job.
        is_slot = (
            isinstance(function, CronJob)
            and function.unique
            and not function.job_id
            and visit.entry.arq_id.startswith(f"{function.name}:")
        )
        hold_ms = int(keep_cronjob_progress * 1000) if is_slot else 0
        attempt.given = Given({"ttl_ms": ttl_ms, "hold_ms": hold_ms}, body)


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
    except BaseException:  # user code
        return ""


async def guarded(hook: Any, ctx: dict[Any, Any], name: str, ref: str) -> BaseException | None:
    """Call a hook; log and return what it raises."""
    try:
        await hook(ctx)
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        logger.exception("%s: %s failed", ref, name)
        return error
    return None
