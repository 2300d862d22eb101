"""The job that is running here: `jobkit.current()`.

Outside a job everything here still works and does nothing harmful, so that a task can be called by hand.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from jobkit.run.inside.recorder import KEEP, Keep, Recorder
from jobkit.run.inside.values import checked_name, render


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
        should_stop: True once the job was asked to stop. Code that cannot be interrupted (a thread) looks here and
            returns.
        kit_settings: the worker's own, for kits among the arguments; {} if there are none.
    """

    __slots__ = ("_recorder", "attempt", "job_id", "kit_settings", "should_stop", "task")

    def __init__(self, job_id: str, attempt: int, task: str, recorder: Recorder | None = None) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.task = task
        self.should_stop = False
        self.kit_settings: Mapping[str, str] = {}
        self._recorder = recorder

    @property
    def recorder(self) -> Recorder | None:
        """Receiver of this job's output; None outside a job."""
        return self._recorder

    def detach(self) -> None:
        """Behave as outside a job from now on (in a process that the job forked)."""
        self._recorder = None

    def report(
        self, done: float | Keep | None = KEEP, total: float | Keep | None = KEEP, message: str | Keep = KEEP
    ) -> None:
        """Show progress. An argument that is not given keeps its value.

        Inside a progress bar (`jobkit.progress`, tqdm, rich) the numbers are the bar's, so `report(message="loss 0.3")`
        shows the text beside the bar.

        Args:
            done: how much is done, in the job's own unit; above `total` counts as `total`, below 0 as 0; None if not
                known.
            total: how much there is to do; None if not known.
            message: a few words beside the bar; "" clears them.
        """
        recorder = self.recorder
        if recorder is not None:
            recorder.report(done, total, message)

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
                as PNG, interactive ones as one HTML file; NumPy arrays as .npy; plain values as JSON.

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


#: The job of the current thread or coroutine.
CURRENT: contextvars.ContextVar[Context | None] = contextvars.ContextVar("jobkit_job", default=None)
_OUTSIDE = Context("", 0, "")
# In a forked child there is one job, and threads that the task starts (which have an empty context) belong to it.
_of_process: Context | None = None


def current() -> Context:
    """The job that runs here. Outside a job: a context with `job_id == ""` whose methods do nothing harmful."""
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
