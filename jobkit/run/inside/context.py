"""The job that is running here: `jobkit.current()`.

Outside a job everything here still works and does nothing harmful, so that a task can be called by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

from jobkit.run.inside.recorder import KEEP, Keep, Recorder
from jobkit.run.inside.shown_values import checked_name, render
from jobkit.tasks.work import code_version


class Stop(BaseException):
    """Raised in a job's own thread when it is asked to stop (cancel or timeout), so that `finally` blocks run.

    Not an `Exception`: a task's `except Exception` must not swallow it.
    """


class Context:
    """The running attempt, as its own code sees it.

    Attributes:
        job_id: "" outside a job.
        attempt: from 1; 0 outside a job.
        task: name of the task.
        seed: of its random numbers, for generators that it makes itself: `numpy.random.default_rng(job.seed)`; None
            without `seed=`.
        has_yielded: it has seen that it was asked to stop at a safe point, so its end is not the end of its work.
        is_leaving: `Stop` was raised there in the job's own flow, and its clean-up runs.
        function: what it calls, once that is known.
        kit_settings: the worker's own, for kits among the arguments; {} if there are none.
        prepared, results: see `Assignment`. states: what features keep of it in its process, by their names.
    """

    __slots__ = (
        "_flow", "_is_asked", "_must_stop", "_recorder", "attempt", "function", "has_yielded", "is_leaving", "job_id",
        "kit_settings", "prepared", "results", "seed", "states", "task",
    )  # fmt: skip

    def __init__(
        self,
        job_id: str,
        attempt: int,
        task: str,
        recorder: Recorder | None = None,
        prepared: Mapping[str, Any] = MappingProxyType({}),
        is_asked: Callable[[], object] = bool,
    ) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.task = task
        self.seed: int | None = None
        self.has_yielded = self.is_leaving = self._must_stop = False
        self.function: Callable[..., Any] | None = None
        self.kit_settings: Mapping[str, str] = {}
        self._recorder = recorder
        self.prepared, self.results = prepared, ""
        self.states: dict[str, Any] = {}
        self._is_asked = is_asked
        self.enter()

    def enter(self) -> None:
        """Note that the job's function runs in the calling thread, and asyncio task if there is one: its own flow."""
        self._flow = threading.get_ident(), _task()

    @property
    def is_own_flow(self) -> bool:
        """True unless the caller is a thread, or an asyncio task beside its own, that the job has started."""
        thread, task = self._flow
        return threading.get_ident() == thread and (not task or _task() == task)

    @property
    def should_stop(self) -> bool:
        """True once the job was asked to stop. Long loops, and code that cannot be interrupted (a thread), look here
        and return.

        Before a worker shuts down, and after `job.cancel(checkpoint=True)`, it is True for a while before anything is
        raised in the job, which can write a last checkpoint.
        """
        self.has_yielded = self.has_yielded or self.is_asked
        return self._must_stop or self.has_yielded

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        self._must_stop = value

    @property
    def is_asked(self) -> bool:
        """True once it was asked to stop at a safe point, from which another attempt can go on."""
        return bool(self._is_asked())

    def ask(self) -> None:
        """Let it stop at a safe point, from which another attempt can go on."""
        self._is_asked = lambda: True

    def stop_if_asked(self) -> None:
        """Raise `Stop` if it was asked to stop at a safe point, as here; once."""
        if self.is_asked and not self._must_stop:
            self.has_yielded = self._must_stop = True
            self.is_leaving = self.is_own_flow
            raise Stop("the job was asked to stop at a safe point")

    @property
    def code(self) -> str:
        """Hash of the code that it runs, "" if that is not known."""
        return "" if self.function is None else code_version(self.function)

    @property
    def recorder(self) -> Recorder | None:
        """Receiver of this job's output; None outside a job."""
        return self._recorder

    def detach(self) -> None:
        """Behave as outside a job from now on (in a process that the job forked)."""
        self._recorder = None

    def report(
        self, completed: float | Keep | None = KEEP, total: float | Keep | None = KEEP, message: str | Keep = KEEP
    ) -> None:
        """Show progress. An argument that is not given keeps its value.

        Inside a progress bar (`jobkit.progress`, tqdm, rich) the numbers are the bar's, so `report(message="loss 0.3")`
        shows the text beside the bar.

        Args:
            completed: how much is done, in the job's own unit; above `total` counts as `total`, below 0 as 0; None if
                not known.
            total: how much there is to do; None if not known.
            message: a few words beside the bar; "" clears them.
        """
        recorder = self.recorder
        if recorder is not None:
            recorder.report(completed, total, message)

    def waiting(self, job_ids: Sequence[str], *, blocks: bool = True) -> AbstractContextManager[None]:
        """While entered, this job waits for other jobs: its worker runs one of them in its slot.

        Args:
            blocks: the wait holds up the thread that it is called in.
        """
        recorder = self.recorder
        return contextlib.nullcontext() if recorder is None else recorder.waiting(job_ids)

    def log(self, text: str) -> None:
        """Add lines to the job's log."""
        recorder = self.recorder
        if recorder is None:
            print(text)
        else:
            recorder.line("log", str(text), "INFO")

    def save(self, name: str, obj: Any) -> None:
        """Keep something beside the result, as long as the job: `job.artifacts()` has it.

        Args:
            name: 1 to 200 printable characters, no path separators. What was saved under it before is replaced.
            obj: bytes, text or a `Path` as they are; a DataFrame as Parquet (CSV without pyarrow); figures and images
                as the suffix of the name says, else as PNG, interactive ones as one HTML file; NumPy arrays as .npy;
                plain values as JSON.

        Raises:
            InvalidParams: (a ValueError) a name or a kind of value that is not allowed, or too large or too many.
            OSError: `obj` is a path that cannot be read.
        """
        recorder = self.recorder
        name = checked_name(name)
        if recorder is not None:
            recorder.artifact(name, *render(name, obj))

    def __repr__(self) -> str:
        return f"<job {self.job_id} attempt {self.attempt}>" if self.job_id else "<outside a job>"


def is_in_loop() -> bool:
    """Return whether an event loop runs in this thread."""
    return bool(_task())


def _task() -> int:
    """Return the id of the asyncio task that calls, 0 outside of event loops. The task itself would be a cycle."""
    try:
        return id(asyncio.current_task())
    except RuntimeError:
        return 0


#: The job of the current thread or coroutine.
CURRENT: contextvars.ContextVar[Context | None] = contextvars.ContextVar("jobkit_job", default=None)
_OUTSIDE = Context("", 0, "")
#: Threads of jobkit that run no code of users: a process of jobs keeps them for its next job.
own_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
#: Whether this process is a worker: what runs in it without a context is a job's all the same.
is_worker = False
# In a forked child there is one job, and threads that the task starts (which have an empty context) belong to it.
_of_process: Context | None = None


def current() -> Context:
    """The job that runs here. Outside a job: a context with `job_id == ""` whose methods do nothing harmful.

    Example:
        >>> def write():
        ...     jobkit.current().report(1, 2, "half of it")
        ...     jobkit.current().save("losses", [0.3, 0.2])
        >>> [artifact.name for artifact in kit.submit(write).artifacts()]
        ['losses']
    """
    return CURRENT.get() or _of_process or _OUTSIDE


def active() -> Context | None:
    """The job that runs here, or None."""
    return CURRENT.get() or _of_process


def active_recorder() -> Recorder | None:
    """Receiver of the output of the job that runs here, or None."""
    context = CURRENT.get() or _of_process
    return None if context is None else context.recorder


def waiting(job_ids: Sequence[str], *, blocks: bool = True) -> AbstractContextManager[None]:
    """While entered, the job that runs here (if any) waits for other jobs and lends its slot to them."""
    context = active()
    return contextlib.nullcontext() if context is None else context.waiting(job_ids, blocks=blocks)


def own_process(context: Context) -> None:
    """Make `context` the job of this whole process."""
    global _of_process
    _of_process = context
