"""`Job`: a live handle to one job, as a param object.

Its parameters move by themselves as events arrive, so `job.param.watch`, `@param.depends`, `pn.bind` and `.rx` work on
it with no adapter. Every change of state reaches watchers, in order; progress may be replaced by newer progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn

from jobkit.above import ui
from jobkit.client import checks
from jobkit.client.handle import EndingHandle, FromSnapshot, from_snapshot, named_by_id, slices
from jobkit.client.outputs import Artifact, Logs, Metrics
from jobkit.features.jobs import OfJob
from jobkit.model import (
    Attempt,
    InvalidParams,
    JobCancelled,
    JobError,
    JobEvent,
    JobFailed,
    JobkitError,
    JobNotFound,
    JobSnapshot,
    JobState,
    OpenQuestion,
    StoreUnavailable,
    UnknownTask,
    attempts_of,
)
from jobkit.model.neighbours import JOB
from jobkit.run.inside import context
from jobkit.run.inside.pictures import PICTURE
from jobkit.tasks.option_values import env_module
from jobkit.tasks.shown import Shown
from jobkit.tasks.values import MISSING

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    R = TypeVar("R", covariant=True, default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R", covariant=True)

#: Seconds that a timed out wait takes longer at most, to read why the job is still queued.
_REASON_S = 1.0


class _MetricsParameter(FromSnapshot):
    def of(self, handle: Any, snapshot: JobSnapshot) -> Metrics:
        return Metrics(handle, snapshot.metrics)


@named_by_id
class Job(OfJob, Shown, EndingHandle[JobSnapshot], Generic[R]):
    """One submission of a task. Get one from `task.submit(...)`, `kit.submit(...)` or `kit.get(id)`.

    For type checkers `Job[R]` is a job whose result is an `R`, and `Job` one of any result.

    Example:
        >>> job = simulate.submit(n=10)
        >>> job.result(timeout=60)
        {'steps': 10, 'method': 'rk4'}
        >>> job.rerun(n=20).params["n"]
        20
    """

    _OTHER_NAMES = JOB

    id: str = from_snapshot("spec.id", "Id, 1 to 200 characters.")
    task: str = from_snapshot("spec.task", "Name of the task.")
    queue: str = from_snapshot("spec.queue", "Name of the queue.")
    state: JobState = from_snapshot("state", "A JobState: scheduled, queued, running, succeeded, failed or cancelled.")
    progress: float | None = from_snapshot("progress", "0..1, or None while nothing is known.")
    completed: float | None = from_snapshot("completed", "Progress in the job's own unit, or None.")
    total: float | None = from_snapshot("total", "What `completed` will reach, or None.")
    message: str = from_snapshot("message", "What the job last said about its progress.")
    attempt: int = from_snapshot("attempt", "Number of the current or last attempt, from 1; 0 before the first.")
    worker: str = from_snapshot("worker", "Id of the worker that has or had it.")
    owner: str = from_snapshot("spec.owner", "Who submitted it.")
    tags: list[str] = from_snapshot(lambda snapshot: list(snapshot.spec.tags), "Free labels.")
    submitted_at: datetime = from_snapshot("submitted_at", "When it was accepted (aware, UTC).")
    started_at: datetime | None = from_snapshot("started_at", "When the current or last attempt began, or None.")
    finished_at: datetime | None = from_snapshot("finished_at", "When it ended, or None.")
    error: JobError | None = from_snapshot(
        "error", "Kind, type, message and traceback of the last failed attempt, or None."
    )
    metrics: Metrics = _MetricsParameter("metrics", "Newest values of its metrics; called, all points as a DataFrame.")  # type: ignore[assignment]  # a parameter
    asking: list[OpenQuestion] = from_snapshot(
        lambda snapshot: list(snapshot.asking), "Its questions that wait for an answer, oldest first."
    )
    seq: int = from_snapshot("seq", "Number of its last change of state.")

    _internal = frozenset({
        "ending", "heard_by", "interrupt", "is_over", "observe", "sealed_result", "vanish", "when_done"
    })  # fmt: skip
    sealed_result = b""
    _observers: tuple[Callable[[JobSnapshot, JobSnapshot], None], ...] = ()
    _waited_for: Future[None] | None = None  # `ending`, once it is needed
    _when_done: tuple[Callable[[], None], ...] = ()
    heard_by: object = None  # keeps the subscription of its batch

    def __init__(self, kit: Any, snapshot: JobSnapshot) -> None:
        super().__init__(snapshot)
        self.kit = kit
        self.is_over = snapshot.is_terminal  # nothing more will come

    @property
    def _shown(self) -> JobSnapshot:
        """All that is known; to a watcher what it is told: a watcher of a state does not see the next one yet."""
        self._touch()
        return self._published if self._teller == threading.get_ident() else self._snapshot

    def _replaces(self, newer: JobSnapshot, older: JobSnapshot) -> bool:
        return newer.seq == older.seq  # newer progress of the same state

    # -- what is known ------------------------------------------------------------------------------------------------

    @property
    def params(self) -> dict[str, Any]:
        """The arguments as they can be shown: plain values as they are, others as short text."""
        return dict(self._snapshot.spec.params)

    @property
    def is_terminal(self) -> bool:
        """True once it has succeeded, failed or been cancelled."""
        return self._shown.is_terminal

    @property
    def elapsed(self) -> timedelta | None:
        """Run time of the current or last attempt, or None before the first."""
        seconds = self._shown.elapsed_s(datetime.now(UTC))
        return None if seconds is None else timedelta(seconds=seconds)

    @property
    def eta(self) -> timedelta | None:
        """Remaining run time at the rate so far; without progress, by the last runs of its task that took more
        than a second. None if that is not known."""
        seconds = self._shown.eta_s(datetime.now(UTC))
        return None if seconds is None else timedelta(seconds=seconds)

    @property
    def traceback(self) -> str:
        """The traceback of the last failed attempt, from your own frames on; "" if there is none."""
        error = self.error
        return "" if error is None else error.traceback

    @property
    def attempts(self) -> list[Attempt]:
        """Its attempts so far, oldest first."""
        return attempts_of(self._shown.history)

    # -- waiting for it -----------------------------------------------------------------------------------------------

    def result(self, timeout: checks.Timeout = None) -> R:
        """The value that the task returned; waits for it. Ctrl-C stops the waiting, not the job.

        Args:
            timeout: seconds, `timedelta` or text like "90s" to wait at most; None for ever.

        Raises:
            JobFailed: it failed; the message holds error and remote traceback, `__cause__` the exception if possible.
            JobCancelled: it was cancelled.
            TimeoutError: it has not ended in time; it goes on.
            ResultUnavailable: it succeeded, but its value cannot be had; the message says why and what to do.
            ResultExpired: (a ResultUnavailable) it succeeded, but its value is no longer kept.
        """
        try:
            self._wait_for_end(timeout)
            return self.kit.outcome(self)
        except (JobFailed, JobCancelled) as error:
            raise error.with_traceback(None)  # noqa: B904  # it is the same one, without our frames
        except KeyboardInterrupt:
            if not self._snapshot.is_terminal:
                print(f"Stopped waiting; job {self.id} goes on. Come back with: jobkit.connect().get({self.id!r})")
            raise

    def exception(self, timeout: checks.Timeout = None) -> BaseException | None:
        """Return the `JobFailed` or `JobCancelled` that `result` would raise, None if it succeeded; waits for its end.

        Raises:
            TimeoutError: it has not ended in time; it goes on.
        """
        self._wait_for_end(timeout)
        if self._snapshot.state is not JobState.SUCCEEDED:
            try:
                self.kit.outcome(self)
            except (JobFailed, JobCancelled) as error:
                return error.with_traceback(None)
        return None

    def _wait_for_end(self, timeout: checks.Timeout) -> None:
        if not self.wait(timeout):
            spent, state = checks.shown(timeout), self._snapshot.state
            why = f": {reason}" if (reason := self._why_it_waits()) else ""
            raise TimeoutError(f"job {self.id} ({self.task}) is still {state} after {spent}{why}")

    def _why_it_waits(self) -> str:
        """Return why it is still queued, "" if it is not, or if the server does not answer at once."""
        connection = self.kit.connection

        async def reason() -> str:
            async with asyncio.timeout(_REASON_S):
                return str(await connection.verbs.waits_for(self.id))

        if self._snapshot.state is JobState.QUEUED and connection.inline is None:
            with contextlib.suppress(JobkitError, TimeoutError):
                return str(connection.call(reason))
        return ""

    def wait(self, timeout: checks.Timeout = None) -> bool:
        """Wait until it has ended; True if it has, False when `timeout` seconds were over first.

        Inside a job the slot of that job is lent meanwhile; see "Jobs that wait for jobs" in the documentation.

        Raises:
            JobNotFound: the store no longer knows it.
            StoreUnavailable: its embedded server was stopped; the job goes on when that is started again.
            JobkitError: the kit was closed; the job goes on.
        """
        seconds, ended = checks.timeout_s(timeout), self.ending
        if not self.is_over and seconds != 0:
            with context.waiting([self.id]):
                for slice_s in slices(seconds):
                    with contextlib.suppress(TimeoutError):
                        ended.result(slice_s)
                        break
        if not self.is_over:
            return False
        ended.result()
        self._settle()
        return True

    def __await__(self) -> Generator[Any, None, R]:
        try:
            value: R = yield from self.kit.aio.outcome(self).__await__()
        except (JobFailed, JobCancelled) as error:
            raise error.with_traceback(None)  # noqa: B904  # as `result` does
        return value

    # -- acting on it -------------------------------------------------------------------------------------------------

    def cancel(self, reason: str = "", *, checkpoint: bool = False) -> bool:
        """Ask it to stop. A waiting job is cancelled at once, a running one when its worker has stopped it.

        Args:
            checkpoint: let it stop at its next `jobkit.checkpoint`; one that has not done so within its grace
                (`cancel_grace`) is stopped as by any other cancel.

        Returns False if it has already ended.
        """
        return self.kit.cancel(self.id, reason, at_checkpoint=checkpoint)

    def retry(self) -> Job[R]:
        """Run an ended job once more with the same arguments; a new job, which names this one as `retry_of`."""
        return self.kit.retry(self.id)

    def rerun(self, *, from_checkpoint: bool = False, env: Any = MISSING, **changes: Any) -> Job[R]:
        """Submit it once more with some arguments changed: `job.rerun(n=20)`.

        Args:
            from_checkpoint: the new job goes on from the newest checkpoint of this one.
            env: "recorded" runs it with the packages of `made_by`, in an environment that a worker builds with uv. Of a
                task with an argument `env`, it is that.

        Raises:
            InvalidParams: a changed argument is refused, or `env`.
            NoCheckpoint: (a JobkitError) it has none. JobkitError: its packages are not known any more.
        """
        if env is not MISSING and ("env" in self.params or env_module(env) is None):
            changes, env = {**changes, "env": env}, MISSING
        word = "" if env is MISSING else env
        return self.kit.rerun(self.id, changes, from_checkpoint=from_checkpoint, env=word)

    def form(self) -> Any:
        """A form with its arguments filled in, to run it again with changes.

        Raises:
            UnknownTask: it was no task but a function or a cell; `rerun` takes changes for those.
        """
        if self.task not in self.kit.tasks() or self.kit.runs_other_code(self.id):
            raise UnknownTask(
                f"there is no form for job {self.id}: its code is no task with a name; write job.rerun(...) with the "
                "arguments to change"
            )
        form = ui().TaskForm(self.kit, names=[self.task])
        form.fill_from(self.snapshot, is_other=False)
        return form

    # -- its past and its output --------------------------------------------------------------------------------------

    def logs(self, tail: int | None = None) -> Logs:
        """Return its output, log records and warnings: lines (text with `at`, `source`, `level`), oldest first.

        Args:
            tail: only the last so many lines.
        """
        return Logs(self.kit.logs(self.id, tail=tail))

    def events(self, after: int | JobEvent | None = None) -> Iterator[JobEvent]:
        """Its events, from the first (or those after a `seq` or event) to its end; waits for those to come."""
        return self.kit.job_events(self.id, after.seq if isinstance(after, JobEvent) else after or 0)

    def log_file(self) -> Path | None:
        """Return the file with its whole log, or None if this machine does not have it; see `Kit.log_file`."""
        return self.kit.log_file(self.id)

    def artifacts(self) -> list[Artifact]:
        """Return the artifacts that it saved with `jobkit.current().save(name, obj)`, oldest first."""
        return [each for each in self.kit.artifacts(self.id) if each.media_type != PICTURE]

    def preview(self) -> dict[str, Any] | None:
        """Return the preview of its result that pages may show, JSON only; None if no result is kept."""
        return self.kit.preview(self.id)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write one HTML file for a colleague without jobkit: arguments, error, result, pictures and log.

        It loads nothing from elsewhere. Return its path.

        Raises:
            InvalidParams: the file cannot be written.
        """
        written: Path = ui().job_report(self, path)
        return written

    def view(self) -> Any:
        """A Panel component with the live card of this job, for your own app."""
        return ui().JobCard(self.kit, self.id)

    __panel__ = view

    # -- moved by LiveJobs --------------------------------------------------------------------------------------------

    @property
    def ending(self) -> Future[None]:
        """Done when it has ended; failed if the store no longer knows it, if the server is stopped (then another one
        follows) or the kit closed. Raises JobkitError if that is closed already.
        """
        self.come_along()
        with self._lock:
            if self._waited_for is None:
                if not self.is_over and self.kit.is_closed:
                    self.kit.connection.ensure_open()  # raises: its end would never be noticed
                self._waited_for = Future()
                if self.is_over:
                    self._waited_for.set_result(None)
            return self._waited_for

    def _renew(self) -> None:
        super()._renew()
        self._waited_for, self._when_done = None, ()

    def _join(self) -> None:
        if self.is_over:
            return
        try:
            self.kit.connection.follow(self)
        except BaseException as error:
            self.interrupt(StoreUnavailable(str(error) or type(error).__name__))  # of other threads
            raise

    def advance(self, snapshot: JobSnapshot, result: bytes = b"") -> None:
        """Take a newer snapshot. Watchers hear of it on their own thread, every state in order."""
        with self._lock:
            before, observers = self._snapshot, self._observers
            if snapshot.is_terminal:
                self.sealed_result = result
            super().advance(snapshot)
        for observer in observers:
            observer(before, snapshot)
        if snapshot.is_terminal and not self.is_over:
            self._end(None)

    def observe(self, observer: Callable[[JobSnapshot, JobSnapshot], None]) -> JobSnapshot:
        """Call `observer(before, after)` with every change from the returned snapshot on, in a thread of jobkit's. For
        code that must not wait for watchers; it must not block and must not raise."""
        self._touch()
        with self._lock:
            self._observers = (*self._observers, observer)
            return self._snapshot

    def vanish(self, why: str) -> None:
        if not self.is_over:
            _ = self.ending  # before the flag is set: then it would be one that has ended well
            self._end(JobNotFound(f"job {self.id} is no longer known: {why}"))

    def _end(self, error: Exception | None) -> None:
        """Nothing more will come."""
        with self._lock:
            self.is_over, waited_for = True, self._waited_for
            callbacks, self._when_done = self._when_done, ()
        if waited_for is not None:
            waited_for.set_result(None) if error is None else waited_for.set_exception(error)
        for callback in callbacks:
            callback()

    def interrupt(self, error: Exception) -> None:
        """Let all present waits raise `error`, although it has not ended."""
        with self._lock:
            if self.is_over or self._waited_for is None:
                return
            waited_for, self._waited_for = self._waited_for, None
        waited_for.set_exception(error)

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call `callback` once it has ended, in some thread of jobkit's; at once if it has."""
        with self._lock:
            if not self.is_over:
                self._when_done = (*self._when_done, callback)
                return
        callback()

    def __reduce__(self) -> NoReturn:
        raise InvalidParams(
            f"job {self.id} cannot travel inside of another object: give it as an argument itself, or in a list, tuple "
            "or dict, and its result takes its place"
        )

    # -- how it shows itself ------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Job {self.snapshot.label}>"

    def _cell(self) -> Any:
        return ui().JobDisplay(self)
