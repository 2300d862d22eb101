"""The worker on arq: `run_worker` is a whole process of jobkit's own.

`Worker` is for arq's users: it takes what `arq.worker.Worker` takes and runs plain arq functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jobkit.store  # noqa: F401  # first: it keeps redis from importing what takes 10 MB and 0.1 s
from jobkit.worker.main import run_worker

if TYPE_CHECKING:
    from jobkit.features.names import Worker

__all__ = ["Worker", "run_worker"]


def __getattr__(name: str) -> Any:
    if name == "Worker":  # when it is asked for: a worker of jobkit's own starts 10 ms sooner without it
        from jobkit.features.names import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
