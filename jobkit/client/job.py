"""`Job`: a live handle to one job, as a param object.

Its parameters move by themselves as events arrive, so `job.param.watch`, `@param.depends`, `pn.bind` and `.rx` work on
it with no adapter. Every change of state reaches watchers, in order; progress may be replaced by newer progress.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import param

from jobkit.client import checks
from jobkit.client.artifacts import Artifact
from jobkit.client.guarded import Guarded, has_watchers
from jobkit.client.lines import Logs
from jobkit.client.loop import background
from jobkit.model import Attempt, InvalidParams, JobEvent, JobNotFound, JobSnapshot, UnknownTask, attempts_of
from jobkit.run.inside import context

if TYPE_CHECKING:
    from jobkit.client.kit import Kit

logger = logging.getLogger("jobkit.client")


#: A wait in a job's thread notices a request to stop within so many seconds.
_SLICE_S = 0.25

#: Seconds that a wait gives a card for its last form.
_CARD_WAIT_S = 10.0


class _FromSnapshot(param.Parameter):  # type: ignore[type-arg]  # generic for type checkers only
    """A parameter whose value is read from the snapshot that was published last.

    So an event of a handle without watchers sets no parameters. `Job._publish` notifies `param` itself of changes if
    there is a watcher.
    """

    def __get__(self, obj: Any, objtype: Any = None) -> Any:
        if obj is None:
            return super().__get__(obj, objtype)
        published = obj.__dict__.get("_published")
        return None if published is None else _value(published, str(self.name))


class _Name(_FromSnapshot, param.String):  # type: ignore[type-arg]  # generic for type checkers only
    """The same for `name`, which must be a String."""


def _value(snapshot: JobSnapshot, name: str) -> Any:
    if name == "name":
        return snapshot.id
    if name in _ASKED:
        found = getattr(snapshot.spec, name)
        return list(found) if name == "tags" else found
    return getattr(snapshot, name)


_ASKED = frozenset({"id", "task", "queue", "owner", "tags"})
_MOVING = (
    "state", "progress", "done", "total", "message", "attempt", "worker", "submitted_at", "started_at", "finished_at",
    "error", "seq",
)  # fmt: skip


class Job(param.Parameterized):
    """One submission of a task. Get one from `task.submit(...)`, `kit.submit(...)` or `kit.get(id)`."""

    param = Guarded()

    id = _FromSnapshot(doc="Id, 1 to 200 characters.")
    task = _FromSnapshot(doc="Name of the task.")
    queue = _FromSnapshot(doc="Name of the queue.")
    state = _FromSnapshot(doc="A JobState: scheduled, queued, running, succeeded, failed or cancelled.")
    progress = _FromSnapshot(doc="0..1, or None while nothing is known.")
    done = _FromSnapshot(doc="Progress in the job's own unit, or None.")
    total = _FromSnapshot(doc="What `done` will reach, or None.")
    message = _FromSnapshot(doc="What the job last said about its progress.")
    attempt = _FromSnapshot(doc="Number of the current or last attempt, from 1; 0 before the first.")
    worker = _FromSnapshot(doc="Id of the worker that has or had it.")
    owner = _FromSnapshot(doc="Who submitted it.")
    tags = _FromSnapshot(doc="Free labels.")
    submitted_at = _FromSnapshot(doc="When it was accepted (aware, UTC).")
    started_at = _FromSnapshot(doc="When the current or last attempt began, or None.")
    finished_at = _FromSnapshot(doc="When it ended, or None.")
    error = _FromSnapshot(doc="JobError (kind, type, message, traceback) of the last failed attempt, or None.")
    seq = _FromSnapshot(doc="Number of its last change of state.")

    def __init__(self, kit: Kit, snapshot: JobSnapshot) -> None:
        self._kit = kit
        self._snapshot = self._published = snapshot
        self._told: dict[str, Any] = {}  # what param itself holds as the parameters' values
        self._lock = threading.Lock()  # guards the snapshot and what waits to be published
        self._publishing = threading.RLock()  # param must not be written from two threads at once
        self._waiting: deque[JobSnapshot] = deque()
        self._result = b""
        self._cards: list[threading.Event] = []  # set when a card that a notebook shows has become static
        self._observers: tuple[Callable[[JobSnapshot, JobSnapshot], None], ...] = ()
        self._ended: Future[JobSnapshot] = Future()
        if snapshot.is_terminal:
            self._ended.set_result(snapshot)

    # -- what is known ------------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> JobSnapshot:
        """All that is known now, as one frozen value."""
        return self._snapshot

    @property
    def params(self) -> dict[str, Any]:
        """The arguments as they can be shown: plain values as they are, others as short text."""
        return dict(self._snapshot.spec.params)

    @property
    def is_terminal(self) -> bool:
        """True once it has succeeded, failed or been cancelled."""
        return self._snapshot.is_terminal

    @property
    def _is_over(self) -> bool:
        """Nothing more will come: it has ended, or the store no longer knows it."""
        return self._ended.done()

    @property
    def elapsed(self) -> timedelta | None:
        """Run time of the current or last attempt, or None before the first."""
        seconds = self._snapshot.elapsed_s(datetime.now(UTC))
        return None if seconds is None else timedelta(seconds=seconds)

    @property
    def eta(self) -> timedelta | None:
        """Remaining run time at the rate so far; without progress, by the last runs of its task that took more
        than a second. None if that is not known."""
        seconds = self._snapshot.eta_s(datetime.now(UTC))
        return None if seconds is None else timedelta(seconds=seconds)

    @property
    def attempts(self) -> list[Attempt]:
        """Its attempts so far, oldest first."""
        return attempts_of(self._snapshot.history)

    # -- waiting for it -----------------------------------------------------------------------------------------------

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """The value that the task returned; waits for it. Ctrl-C stops the waiting, not the job.

        Args:
            timeout: seconds (or `timedelta`) to wait at most; None for ever.

        Raises:
            JobFailed: it failed; the message holds error and remote traceback, `__cause__` the exception if possible.
            JobCancelled: it was cancelled.
            TimeoutError: it has not ended in time; it goes on.
            ResultUnavailable: it succeeded, but its value cannot be had; the message says why and what to do.
            ResultExpired: (a ResultUnavailable) it succeeded, but its value is no longer kept.
        """
        try:
            if not self.wait(timeout):
                raise TimeoutError(f"job {self.id} ({self.task}) is still {self._snapshot.state} after {timeout} s")
            return self._kit._outcome(self, self._result)
        except KeyboardInterrupt:
            if not self._snapshot.is_terminal:
                print(f"Stopped waiting; job {self.id} goes on. Come back with: jobkit.connect().get({self.id!r})")
            raise

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until it has ended; True if it has, False when `timeout` seconds were over first.

        Inside a job the slot of that job is lent meanwhile; see "Jobs that wait for jobs" in the documentation.

        Raises:
            JobNotFound: the store no longer knows it.
        """
        seconds = checks.timeout_s(timeout)
        if not self._ended.done() and seconds != 0:
            with context.waiting([self.id]):
                for slice_s in slices(seconds):
                    with contextlib.suppress(TimeoutError):
                        self._ended.result(slice_s)
                        break
        if not self._ended.done():
            return False
        self._ended.result()
        self._publish()  # what is read from the parameters after this is the end
        self._settle()
        return True

    def _settle(self) -> None:
        settle(self._cards)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._kit.aio.outcome(self).__await__()

    # -- acting on it -------------------------------------------------------------------------------------------------

    def cancel(self, reason: str = "") -> bool:
        """Ask it to stop. A waiting job is cancelled at once, a running one when its worker has stopped it.

        Returns False if it has already ended.
        """
        return self._kit.cancel(self.id, reason)

    def retry(self) -> Job:
        """Run an ended job once more with the same arguments; a new job, which names this one as `retry_of`."""
        return self._kit.retry(self.id)

    def rerun(self, **changes: Any) -> Job:
        """Submit it once more with some arguments changed: `job.rerun(n=20)`."""
        return self._kit.rerun(self.id, changes)

    def form(self) -> Any:
        """A form with its arguments filled in, to run it again with changes.

        Raises:
            UnknownTask: it was no task but a function or a cell; `rerun` takes changes for those.
        """
        from jobkit.ui.form.task_form import TaskForm

        if self.task not in self._kit.tasks():
            raise UnknownTask(
                f"there is no form for job {self.id}: {self.task!r} is no task with a name; write job.rerun(...) with "
                "the arguments to change"
            )
        form = TaskForm(self._kit, names=[self.task])
        form.fill_from(self.snapshot)
        return form

    @property
    def kit(self) -> Kit:
        """The kit that it was submitted with or found by."""
        return self._kit

    # -- its past and its output --------------------------------------------------------------------------------------

    def logs(self, tail: int | None = None) -> Logs:
        """Return its output, log records and warnings: lines (text with `at`, `source`, `level`), oldest first.

        Args:
            tail: only the last so many lines.
        """
        return Logs(self._kit.logs(self.id, tail=tail))

    def events(self, after: int | JobEvent | None = None) -> Iterator[JobEvent]:
        """Its events, from the first (or those after a `seq` or event) to its end; waits for those to come."""
        return self._kit.job_events(self.id, after.seq if isinstance(after, JobEvent) else after or 0)

    def log_file(self) -> Path | None:
        """Return the file with its whole log, or None if this machine does not have it; see `Kit.log_file`."""
        return self._kit.log_file(self.id)

    def artifacts(self) -> list[Artifact]:
        """Return the artifacts that it saved with `jobkit.current().save(name, obj)`, oldest first."""
        return self._kit.artifacts(self.id)

    def preview(self) -> dict[str, Any] | None:
        """Return the preview of its result that pages may show, or None: made by the worker, JSON only."""
        return self._kit.preview(self.id)

    def view(self) -> Any:
        """A Panel component with the live card of this job, for your own app."""
        from jobkit.ui.card.job_card import JobCard

        return JobCard(self._kit, self.id)

    __panel__ = view

    # -- moved by LiveJobs --------------------------------------------------------------------------------------------

    def _advance(self, snapshot: JobSnapshot, result: bytes = b"") -> None:
        """Take a newer snapshot. Watchers hear of it on their own thread, in order."""
        with self._lock:
            is_scheduled = bool(self._waiting)
            before, self._snapshot = self._snapshot, snapshot
            if snapshot.is_terminal:
                self._result = result
            if not is_scheduled and not has_watchers(self):
                self._published = snapshot
            elif is_scheduled and self._waiting[-1].seq == snapshot.seq:
                self._waiting[-1] = snapshot  # newer progress of the same state
            else:
                self._waiting.append(snapshot)
            is_due = bool(self._waiting) and not is_scheduled
        if is_due:
            background.watchers_do(self._publish)
        for observer in self._observers:
            observer(before, snapshot)
        if snapshot.is_terminal and not self._ended.done():
            self._ended.set_result(snapshot)

    def observe(self, observer: Callable[[JobSnapshot, JobSnapshot], None]) -> JobSnapshot:
        """Call `observer(before, after)` with every change from the returned snapshot on, in a thread of jobkit's. For
        code that must not wait for watchers; it must not block and must not raise."""
        with self._lock:
            self._observers = (*self._observers, observer)
            return self._snapshot

    def _vanish(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_exception(JobNotFound(f"job {self.id} is no longer known: {why}"))

    def _publish(self) -> None:
        """Move the parameters through every snapshot that waits."""
        with self._publishing:
            while True:
                with self._lock:
                    if not self._waiting:
                        return
                    snapshot = self._waiting.popleft()
                    old, self._published = self._published, snapshot
                if not self._told:
                    self._told = dict.fromkeys(_MOVING)
                    self._tell(old, quietly=True)
                try:
                    self._tell(snapshot)
                except Exception:
                    logger.exception("a watcher of job %s raised; the job is not affected", self.id)

    def _tell(self, snapshot: JobSnapshot, quietly: bool = False) -> None:
        """Set what has changed in param's own books, which calls the watchers (unless `quietly`)."""
        now = {name: _value(snapshot, name) for name in _MOVING}
        changed = {name: value for name, value in now.items() if value is not self._told[name]}
        self._told.update(changed)
        with param.parameterized.discard_events(self) if quietly else contextlib.nullcontext():
            self.param.update(**changed)

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call `callback` once it has ended, in some thread of jobkit's; at once if it has."""
        self._ended.add_done_callback(lambda _: callback())

    def __reduce__(self) -> NoReturn:
        raise InvalidParams(
            f"job {self.id} cannot travel inside of another object: give it as an argument itself, or in a list, tuple "
            "or dict, and its result takes its place"
        )

    # -- how it shows itself ------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        snapshot = self._snapshot
        progress = f" {snapshot.progress:.0%}" if snapshot.progress is not None and not snapshot.is_terminal else ""
        arguments = ", ".join(f"{name}={value!r}" for name, value in snapshot.spec.params.items())
        if len(arguments) > 60:
            arguments = arguments[:59] + "…"
        return f"<Job {self.id} {self.task}({arguments}) {snapshot.state}{progress}>"

    __str__ = __repr__

    def _ipython_display_(self) -> None:
        from jobkit.ui.notebook import display_job

        display_job(self)


# Not in the class's body, where param takes no subclass of String.
Job.param.add_parameter("name", _Name(None, constant=True, doc="The same as its id."))


def slices(seconds: float | None) -> Iterator[float | None]:
    """A wait of so many seconds (None for ever) in the pieces that it is to be done in.

    A job in a thread is stopped by an exception, which Python raises between two waits only.
    """
    if context.active() is None or threading.current_thread() is threading.main_thread():
        yield seconds
        return
    deadline = None if seconds is None else time.monotonic() + seconds
    while deadline is None:
        yield _SLICE_S
    while (left := deadline - time.monotonic()) > 0:
        yield min(left, _SLICE_S)


def settle(cards: Iterable[threading.Event]) -> None:
    """Let the cards that a notebook shows take their last form while the cell that waits still runs: programs that run
    notebooks drop what arrives between two cells."""
    for card in cards:
        card.wait(_CARD_WAIT_S)
