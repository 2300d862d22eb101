"""Task of the rolling restarts, which workers of both versions import."""

from __future__ import annotations

import os
import time

import jobkit


@jobkit.task
def note_run(path: str, seconds: float = 0.05) -> str:
    """Append the job's id to a file; return the version of the worker's code, as its folder."""
    with open(path, "a") as file:
        file.write(f"{jobkit.current().job_id}\n")
    time.sleep(seconds)
    return os.path.dirname(os.path.dirname(jobkit.__file__))
