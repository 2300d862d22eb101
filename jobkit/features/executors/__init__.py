"""Executors: code that takes an executor of `concurrent.futures`, or uses joblib, runs its calls as jobs.

For: people whose programs have `ProcessPoolExecutor`, `asyncio`'s `run_in_executor` or scikit-learn's `n_jobs=-1`.
`kit.executor(...)` makes a `JobExecutor` (`executor.py`), whose futures follow jobs; `chunk.py` is several calls as one
job. `import jobkit.joblib` registers joblib's backend "jobkit" (`joblib.py`): a batch of its calls is a job.
In Redis: no keys. Calls are jobs like any other. Large arrays of joblib are files below `arrays` in the directory for
large results; the backend deletes them after its call, and those of programs that were killed after a week.
Promise: CPython's own tests of executors pass. An accepted call outlives its executor and its process.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="executors", parts=frozenset({"joblib"}))
