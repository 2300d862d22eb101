"""The worker on arq: `run_worker` is a whole process of jobkit's own.

`Worker` is for arq's users: it takes what `arq.worker.Worker` takes and runs plain arq functions.
"""

from jobkit.worker.from_arq.worker import Worker
from jobkit.worker.main import run_worker

__all__ = ["Worker", "run_worker"]
