"""The worker on arq: `Worker` claims, runs and ends jobs; `run_worker` is a whole process of it."""

from jobkit.worker.main import run_worker
from jobkit.worker.worker import Worker

__all__ = ["Worker", "run_worker"]
