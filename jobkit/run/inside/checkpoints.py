"""`jobkit.checkpoint` and `jobkit.resume`: the state of a job, kept so that its next attempt goes on from there.

The job's own process writes and reads its checkpoints (`jobkit.files.checkpoints`), so a checkpoint is stored when the
call returns. Its worker only hears of them. Outside a job both verbs work on a folder, see `outside`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypeVar

from jobkit.run.inside import context
from jobkit.run.inside.kept_state import Checkpoints, File
from jobkit.run.inside.outside import checkpoints_of_caller

S = TypeVar("S")


def resume(default: S, *, version: object = None) -> S:
    """Return the newest checkpoint of this job, also that of an earlier attempt, and put its files back.

    ```python
    state = jobkit.resume({"epoch": 0})
    for epoch in range(state["epoch"], 100):
        ...
        jobkit.checkpoint({"epoch": epoch + 1})
    ```

    Args:
        default: returned if there is none.
        version: of the state, a text or number: a checkpoint that was written with another one is not used.

    Raises:
        JobkitError: there is one, but its value cannot be rebuilt by the code that is here.
        OSError: it cannot be read: its storage is not reachable, or one of its files cannot be written.
    """
    own = _here("resume")
    return default if own is None else own.resume(default, "" if version is None else str(version))


def checkpoint(value: Any, files: File | Iterable[File] = (), every: float | str | timedelta | None = None) -> bool:
    """Keep the state of this job. The next attempt of the job gets it from `resume`, and a new job from
    `job.rerun(from_checkpoint=True)`.

    It is stored when this returns, whole or not at all; the newest two are kept. If the job was asked to stop at a
    checkpoint (a worker that shuts down, `job.cancel(checkpoint=True)`), it stops here. If it cannot be stored, the job
    goes on, and its log says why.

    Args:
        value: what `resume` returns: plain data, or anything that can be pickled. An instance of a `jobkit.Task` with
            declared `state` stands for the values of those parameters.
        files: files and directories below the working directory that belong to it; `resume` puts them back.
        every: at least so many seconds (or "5m", or a timedelta) between the last checkpoint that was written and this
            one, else it is left out.

    Returns:
        True if it was written.

    Raises:
        InvalidParams: (a ValueError) `every` is no length of time, or one of the `files` is not below the working
            directory.

    Example:
        >>> def count(to):
        ...     state = jobkit.resume({"n": 0})
        ...     while state["n"] < to:
        ...         state["n"] += 1
        ...         jobkit.checkpoint(state, every="1m")
        ...     return state["n"]
        >>> kit.submit(count, 3).result()
        3
    """
    own = _here("checkpoint")
    return own is not None and own.write(value, files, every)


def _here(verb: str) -> Checkpoints | None:
    """Return those of the job that runs here, else those of the caller's own folder; None in a process that a job has
    started."""
    job = context.active()
    if job is None:
        is_of_job = context.is_worker or "JOBKIT_JOB_ID" in os.environ
        return None if is_of_job else checkpoints_of_caller(sys._getframe(2), is_new=verb == "resume")
    recorder = job.recorder
    if recorder is None or not job.places:
        return None
    kept: Checkpoints | None = job.kept_state
    if kept is None:
        kept = job.kept_state = Checkpoints(recorder, *job.places, attempt=job.attempt, job=job)
    return kept
