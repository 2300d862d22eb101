"""`jobkit.checkpoint` and `jobkit.resume`: the state of a job, kept so that its next attempt goes on from there.

The job's own process writes and reads its checkpoints (`files.py`), so a checkpoint is stored when the
call returns. Its worker only hears of them.

Outside of jobs `python train.py`, or a plain call in a notebook, goes on from its last checkpoint, also if it had come
to its end. Its checkpoints are in `jobkit-checkpoints/NAME-DIGEST` of the working directory. The digest is of the
function that calls and of its arguments, so that a call with others begins anew; on module level, of the script and its
arguments. They are sealed with a key of this user, so that a folder of another user is not unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import msgspec

from jobkit.codec import Codec
from jobkit.features.checkpoints.attempt_state import Checkpoints, File, Printer
from jobkit.features.checkpoints.files import CheckpointPlace, own_key
from jobkit.run.inside import context
from jobkit.tasks.work import arguments_text

S = TypeVar("S")

#: Of the feature; see `Context.prepared`.
NAME = "checkpoints"

FOLDER = "jobkit-checkpoints"

#: Those of the newest `resume`.
_newest: ContextVar[Checkpoints | None] = ContextVar("jobkit_checkpoints", default=None)


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

    It is stored when this returns, whole or not at all, and lines, metrics and artifacts from before it are stored
    before it; the newest two are kept. If the job was asked to stop at a
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
        return None if is_of_job else _of_caller(sys._getframe(2), is_new=verb == "resume")
    recorder = job.recorder
    if recorder is None or not (prepared := job.prepared.get(NAME)):
        return None
    kept: Checkpoints | None = job.states.get(NAME)
    if kept is None:
        places = msgspec.convert(prepared, tuple[CheckpointPlace, ...])
        kept = job.states[NAME] = Checkpoints(recorder, *places, attempt=job.attempt, job=job)
    return kept


def _of_caller(frame: FrameType, *, is_new: bool) -> Checkpoints:
    """Return the checkpoints of the code in a frame; unless `is_new`, those of the newest call of this."""
    found = None if is_new else _newest.get()
    if found is None:
        name = _name_of(frame)
        folder = Path.cwd() / FOLDER / name
        place = CheckpointPlace("outside", name, (own_key(),), True, str(folder.parent), name)
        found = Checkpoints(Printer(folder), place, attempt=2)
        _newest.set(found)
    return found


def _name_of(frame: FrameType) -> str:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    arguments: dict[str, Any] = {}
    if frame.f_code.co_name == "<module>":
        name = Path(main).stem if main else "notebook"
        if main:
            arguments = {"argv": sys.argv[1:]}
    else:
        name = frame.f_code.co_name.strip("<>")
        given = inspect.getargvalues(frame)
        name = getattr(given.locals.get("cls"), "__name__", name)  # of a task class
        names = [*given.args, *filter(None, (given.varargs, given.keywords))]
        arguments = {each: given.locals.get(each) for each in names}
    texts = [name, frame.f_code.co_filename if main else ""]
    for each, value in arguments.items():
        with contextlib.suppress(Exception):  # one that cannot be pickled
            texts.append(arguments_text({each: value}, Codec(allow_pickle=True)))
    return f"{name}-{hashlib.sha256(chr(0).join(texts).encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
