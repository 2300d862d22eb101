"""Names that users of Celery, RQ, Dask, Ray, arq or concurrent.futures type, and what jobkit has for them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

#: For the objects of a class, by its name: what they are called, and jobkit's name for each of the others.
NAMES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "Job": (
        "a Job",
        {
            **dict.fromkeys(("get", "return_value", "get_result", "latest_result", "fetch"), "job.result()"),
            **dict.fromkeys(("status", "get_status"), "job.state"),
            **dict.fromkeys(("ready", "is_finished", "is_done", "finished"), "job.done()"),
            **dict.fromkeys(("successful", "succeeded", "is_successful"), 'job.state == "succeeded"'),
            **dict.fromkeys(("failed", "is_failed"), 'job.state == "failed"'),
            **dict.fromkeys(("running", "is_started", "is_running"), 'job.state == "running"'),
            **dict.fromkeys(("cancelled", "is_canceled", "is_cancelled"), 'job.state == "cancelled"'),
            **dict.fromkeys(("queued", "is_queued"), 'job.state == "queued"'),
            **dict.fromkeys(("key", "job_id", "task_id"), "job.id"),
            **dict.fromkeys(("revoke", "abort", "stop", "terminate", "kill"), "job.cancel()"),
            **dict.fromkeys(("forget", "delete", "remove"), "kit.delete(job.id)"),
            **dict.fromkeys(("requeue", "resubmit"), "job.retry()"),
            **dict.fromkeys(("exc_info",), "job.error"),
            **dict.fromkeys(("date_done", "ended_at"), "job.finished_at"),
            **dict.fromkeys(("enqueued_at", "created_at"), "job.submitted_at"),
            **dict.fromkeys(("args", "kwargs", "arguments"), "job.params"),
            "info": "job.message",
            "meta": "job.tags",
            "join": "job.wait()",
            "worker_name": "job.worker",
            "func_name": "job.task",
            "add_done_callback": 'job.param.watch(function, "state")',
        },
    ),
    "Batch": (
        "a Batch",
        {
            **dict.fromkeys(("get", "gather", "join", "compute", "exception"), "batch.result()"),
            **dict.fromkeys(("ready", "is_finished"), "batch.done()"),
            **dict.fromkeys(("status", "state", "successful", "failed", "completed_count"), "batch.counts"),
            **dict.fromkeys(("revoke", "abort"), "batch.cancel()"),
            **dict.fromkeys(("best", "best_job", "best_estimator_"), "max(batch, key=lambda job: job.result())"),
            **dict.fromkeys(("best_params", "best_params_"), "max(batch, key=lambda job: job.result()).params"),
            "retry": "batch.retry_failed()",
        },
    ),
    "TaskDef": (
        "a task",
        {
            **dict.fromkeys(("delay", "remote", "send", "enqueue", "spawn", "defer"), "task.submit(...)"),
            **dict.fromkeys(
                ("apply_async", "send_with_options", "si", "s", "set", "configure", "with_options"),
                "task.options(...).submit(...)",
            ),
            **dict.fromkeys(("starmap", "chunks", "group"), "task.map([...])"),
            **dict.fromkeys(("apply", "call_local", "local"), "task(...)"),
            **dict.fromkeys(("schedule", "cron"), "kit.schedule(task, ...)"),
            "AsyncResult": "kit.get(job_id)",
            "retry": "raise jobkit.Retry()",
            "on_failure": 'kit.on("failed", task=task.name)',
        },
    ),
    "Kit": (
        "a Kit",
        {
            **dict.fromkeys(("enqueue", "enqueue_job", "enqueue_call", "send_task", "apply_async"), "kit.submit(...)"),
            **dict.fromkeys(("enqueue_in", "enqueue_at"), "kit.options(delay=...).submit(...)"),
            **dict.fromkeys(("enqueue_many", "starmap"), "kit.map(task, [...])"),
            **dict.fromkeys(("AsyncResult", "fetch_job", "get_job", "job"), "kit.get(job_id)"),
            **dict.fromkeys(("ncores", "nthreads", "scheduler_info", "who_has", "inspect"), "kit.workers()"),
            **dict.fromkeys(("shutdown", "disconnect"), "kit.close()"),
            **dict.fromkeys(("scatter", "persist"), "kit.submit(...)"),
            "gather": "batch.result()",
            "compute": "kit.submit(...).result()",
            "as_completed": "jobkit.as_completed(jobs)",
            "wait": "jobkit.wait(jobs)",
            "get_executor": "kit.executor()",
            "task": "@jobkit.task",
            "cron": "kit.schedule(task, cron=...)",
        },
    ),
}
NAMES = {**NAMES, "BoundKit": NAMES["Kit"]}  # `kit.options(...)`


def similar(obj: object, name: str) -> str:
    """Return ": did you mean `submit`?" if an object has no public attribute of this name, but one like it, else ""."""
    if name[:1] in ("", "_") or name in (known := dir(obj)):
        return ""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f": did you mean `{close[0]}`?" if close else ""


class HasNeighbours:
    """Base of objects that answer other libraries' names with an `AttributeError` that has jobkit's."""

    if not TYPE_CHECKING:  # to a type checker any name would be right

        def __getattr__(self, name: str) -> Any:
            known = [NAMES[base.__name__] for base in type(self).__mro__ if base.__name__ in NAMES]
            for what, names in known:
                if name in names:
                    raise AttributeError(f"{what} has no `{name}`: use `{names[name]}`")
            if hint := similar(self, name):
                what = known[0][0] if known else f"{type(self).__name__} object"
                raise AttributeError(f"{what} has no `{name}`{hint}")
            return object.__getattribute__(self, name)  # raises the usual error, or that of a property
