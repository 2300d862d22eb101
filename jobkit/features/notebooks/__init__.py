"""Notebooks as jobs: a notebook is a function of its parameters, which a job's process executes in a separate kernel.

For: people whose report is a notebook, and JupyterLab's "Create Notebook Job" (`jupyter_scheduler.py`).
`kit.notebook(...)` submits one; `jobkit.Notebook(...)` is the function, to schedule, sweep and cache like any other.
Parameters are the assignments of the cell with the tag `parameters` (`parameters.py`), as for papermill.
In Redis: no keys. The notebook travels in the call of its job, and what it leaves are artifacts.
Promise: what runs is the file as it was at the submit. The job's progress, log, metrics and error are those of the
cells; the executed notebook is kept also if a cell fails or the job is stopped; the kernel ends with the job.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="notebooks", parts=frozenset({"named"}))
