"""`executor`: the verb of a kit, and of its `options(...)`, that makes an executor."""

from __future__ import annotations

from typing import Any, Unpack

from jobkit.features.executors.executor import JobExecutor
from jobkit.tasks.options import SubmitOptions, takes


class KitExecutors:
    """The verb that makes an executor."""

    submitter: Any

    @takes(SubmitOptions)
    def executor(self, /, *, max_workers: int | None = None, **options: Unpack[SubmitOptions]) -> JobExecutor:
        """Return an executor of `concurrent.futures` whose calls are jobs, for `asyncio` and others that take one.

        Args:
            max_workers: maximum number of its jobs that run at once; None for as many as the workers have slots.
            options: of its jobs, as for `options`.

        Raises:
            InvalidParams: an unknown option or an invalid value.
        """
        return JobExecutor(self.submitter.with_options(options), max_workers)
