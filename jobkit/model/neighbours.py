"""Names that users of Celery, RQ, Dask, Ray, arq or concurrent.futures type, and what jobkit has for them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

#: How sentences call an object of a class, and jobkit's expression for each name of another library.
OtherNames = tuple[str, Mapping[str, str]]

JOB: OtherNames = (
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
)

TASK: OtherNames = (
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
)

KIT: OtherNames = (
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
)

#: What to write in place of an option of another library, by its name there.
OPTIONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("time_limit", "soft_time_limit", "job_timeout", "timeout_seconds", "execution_timeout", "walltime"),
        'timeout="30m" (for each attempt)',
    ),
    **dict.fromkeys(("max_retries", "retry", "num_retries"), "retries=3"),
    **dict.fromkeys(("max_tries", "max_attempts", "attempts", "tries"), "retries=3 (after the first attempt)"),
    **dict.fromkeys(("default_retry_delay", "retry_delay", "retry_delay_seconds", "retry_backoff"), "backoff=10"),
    **dict.fromkeys(("autoretry_for", "retry_exceptions"), "retry_on=ConnectionError"),
    **dict.fromkeys(("countdown", "defer_by", "delay_seconds"), "delay=60"),
    **dict.fromkeys(("eta", "defer_until", "run_at", "scheduled_for"), "at=..., a time"),
    **dict.fromkeys(("rate_limit", "throttle"), 'rate="10/m"'),
    **dict.fromkeys(("n_jobs", "max_workers", "max_concurrency", "concurrency_limit"), "concurrency=4"),
    **dict.fromkeys(("task_id", "job_id", "_job_id"), "id=..., or key=... to get the same job for the same key"),
    **dict.fromkeys(("idempotency_key", "dedup_key"), "key=..."),
    **dict.fromkeys(("queue_name", "_queue_name", "partition", "slurm_partition"), 'queue="gpu"'),
    **dict.fromkeys(("keep_result", "ttl", "result_expires", "failure_ttl"), 'result_ttl="7d"'),
    **dict.fromkeys(("memory", "mem", "mem_gb", "ram"), 'memory_limit="2GB"'),
    **dict.fromkeys(("max_tasks_per_child", "maxtasksperchild", "max_calls"), "reuse=100"),
    **dict.fromkeys(("runtime_env", "env_vars", "environ"), 'env={"NAME": "value"}'),
    **dict.fromkeys(("pure", "memoize", "cache_expiration", "persist_result"), 'cache="7d"'),
    **dict.fromkeys(("labels", "meta", "metadata", "group"), 'tags=["label"]'),
    **dict.fromkeys(("name", "job_name", "description", "task_run_name", "display_name"), 'title="..."'),
    **dict.fromkeys(("singleton", "lock"), "unique=True"),
    **dict.fromkeys(("nice", "at_front"), "priority=10 (higher runs first)"),
    **dict.fromkeys(("depends_on", "dependencies", "wait_for"), "task.submit(job): jobs among the arguments end first"),
    **dict.fromkeys(("on_success", "on_failure", "link", "link_error"), 'kit.on("failed", task="...")'),
}


def similar(obj: object, name: str) -> str:
    """Return ": did you mean `submit`?" if an object has no public attribute of this name, but one like it, else ""."""
    if name[:1] in ("", "_") or name in (known := dir(obj)):
        return ""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f": did you mean `{close[0]}`?" if close else ""


class HasNeighbours:
    """Base of objects that answer a name of another library with an `AttributeError` that has jobkit's name.

    Attributes:
        _OTHER_NAMES: the names that a class answers so, beside those of its bases.
    """

    _OTHER_NAMES: ClassVar[OtherNames]

    if not TYPE_CHECKING:  # to a type checker any name would be right

        def __getattr__(self, name: str) -> Any:
            known = [vars(base)["_OTHER_NAMES"] for base in type(self).__mro__ if "_OTHER_NAMES" in vars(base)]
            for what, names in known:
                if name in names:
                    raise AttributeError(f"{what} has no `{name}`: use `{names[name]}`")
            if hint := similar(self, name):
                what = known[0][0] if known else f"{type(self).__name__} object"
                raise AttributeError(f"{what} has no `{name}`{hint}")
            return object.__getattribute__(self, name)  # raises the usual error, or that of a property
