"""Background jobs for notebook users: submit a function, watch it live, get the result later.

    import jobkit

    @jobkit.task
    def simulate(n: int = 1000) -> float:
        for step in jobkit.progress(range(n)):
            ...

    job = simulate.submit(n=10)      # returns at once; runs in the background
    job.result()                     # waits for the value

See `docs/`. Importing jobkit loads no dashboard, no Redis client and no event loop; they are loaded at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobkit.client.awaiting import as_completed, wait
    from jobkit.client.batch import Batch
    from jobkit.client.job import Job
    from jobkit.client.kit import Kit
    from jobkit.client.typed import TypedTask as Task
    from jobkit.client.typed import task
    from jobkit.connecting import connect, publish
    from jobkit.features.names import Notebook, Pool, Schedule, Study, ask, checkpoint, log_metrics, resume
    from jobkit.model import (
        Backoff,
        ErrorKind,
        EventsExpired,
        EventType,
        InvalidParams,
        JobCancelled,
        JobError,
        JobEvent,
        JobFailed,
        JobkitError,
        JobNotFound,
        JobSnapshot,
        JobState,
        QuestionClosed,
        ResultExpired,
        ResultUnavailable,
        Retry,
        SignatureError,
        StoreUnavailable,
        SubmitUnanswered,
        Unanswered,
        UnknownTask,
    )
    from jobkit.run.inside.context import current
    from jobkit.run.inside.live import show
    from jobkit.run.inside.progress import progress
    from jobkit.tasks.specs import Range

__version__ = "0.1.0"

__all__ = [
    # Tasks
    "Range",
    "Task",
    "task",
    "Notebook",
    # Submitting
    "Backoff",
    "Job",
    "Kit",
    "Batch",
    "Pool",
    "Schedule",
    "Study",
    "as_completed",
    "connect",
    "wait",
    # Inside a job
    "Retry",
    "ask",
    "checkpoint",
    "current",
    "log_metrics",
    "progress",
    "publish",
    "resume",
    "show",
    # What events of a job
    "ErrorKind",
    "EventType",
    "JobError",
    "JobEvent",
    "JobSnapshot",
    "JobState",
    # Errors
    "InvalidParams",
    "JobCancelled",
    "JobFailed",
    "EventsExpired",
    "JobNotFound",
    "JobkitError",
    "QuestionClosed",
    "ResultExpired",
    "ResultUnavailable",
    "SignatureError",
    "StoreUnavailable",
    "SubmitUnanswered",
    "Unanswered",
    "UnknownTask",
]

#: Module of each public name; the others are in `jobkit.model`.
_MODULES = {
    "Range": "jobkit.tasks.specs",
    "current": "jobkit.run.inside.context",
    "progress": "jobkit.run.inside.progress",
    "show": "jobkit.run.inside.live",
    "task": "jobkit.tasks.registry",
    "Task": "jobkit.tasks.task_class",
    "connect": "jobkit.connecting",
    "publish": "jobkit.connecting",
    "Batch": "jobkit.client.batch",
    "Job": "jobkit.client.job",
    "Kit": "jobkit.client.kit",
    **dict.fromkeys(("as_completed", "wait"), "jobkit.client.awaiting"),
    **dict.fromkeys(
        ("Notebook", "Pool", "Schedule", "Study", "ask", "checkpoint", "log_metrics", "resume"), "jobkit.features.names"
    ),
}

#: jobkit's expression for each name of a module of another library, see `jobkit/model/neighbours.py`.
_OTHER_NAMES = {
    **dict.fromkeys(("Client", "init", "Celery"), "jobkit.connect()"),
    **dict.fromkeys(("remote", "job", "flow", "delayed"), "@jobkit.task"),
    **dict.fromkeys(("submit", "map", "sweep", "get"), "kit = jobkit.connect()"),
    **dict.fromkeys(("log", "log_metric", "log_scalar"), "jobkit.log_metrics(step, loss=0.3)"),
    **dict.fromkeys(("tqdm", "trange", "track"), "jobkit.progress(...)"),
    **dict.fromkeys(("display", "log_image", "log_figure", "plot"), "jobkit.show(...)"),
    **dict.fromkeys(("log_artifact", "save"), "jobkit.current().save(name, obj)"),
    **dict.fromkeys(("create_study", "Tuner"), "kit.study(objective, ...)"),
    **dict.fromkeys(("get_current_job", "get_run_logger"), "jobkit.current()"),
}


def __getattr__(name: str) -> Any:
    """Load names at first use: a supervisor uses none of them; some need param, Redis or an event loop."""
    if name in __all__:
        found = getattr(importlib.import_module(_MODULES.get(name, "jobkit.model")), name)
        globals()[name] = found
        return found
    ours = _OTHER_NAMES.get(name)
    raise AttributeError(f"module 'jobkit' has no attribute {name!r}" + (f": use `{ours}`" if ours else ""))


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """Register the cell magic `%%job`: `%load_ext jobkit`."""
    from jobkit.client.magic import register
    from jobkit.connecting import connect

    register(shell, connect)
