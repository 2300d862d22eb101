"""`executor`: the verb of a kit, and of its `options(...)`, that makes an executor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from jobkit.tasks.options import SubmitOptions, takes

if TYPE_CHECKING:
    from jobkit.features.executors.executor import JobExecutor


@takes(SubmitOptions)
def executor(submits: Any, /, *, max_workers: int | None = None, **options: Unpack[SubmitOptions]) -> JobExecutor:
    """Return an executor of `concurrent.futures` whose calls are jobs, for `asyncio` and others that take one.

    Args:
        max_workers: maximum number of its jobs that run at once; None for as many as the workers have slots.
        options: of its jobs, as for `options`.

    Raises:
        InvalidParams: an unknown option or an invalid value.
    """
    from jobkit.features.executors.executor import JobExecutor  # loaded with the first one

    return JobExecutor(submits._submitter.with_options(options), max_workers)
