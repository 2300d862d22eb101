"""Checkpoints outside of jobs: `python train.py`, or a plain call in a notebook, goes on after it was stopped.

They are in `jobkit-checkpoints/NAME-DIGEST` of the working directory. The digest is of the function that calls and of
its arguments, so that a call with others begins anew; on module level, of the script and its arguments. They are sealed
with a key of this user, so that a folder of another user is not unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import sys
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

from jobkit.codec import Codec
from jobkit.files.checkpoints import CheckpointPlace, own_key
from jobkit.model.checkpoint import CheckpointInfo
from jobkit.model.format import size
from jobkit.run.inside.answers import Answers
from jobkit.run.inside.kept_state import Checkpoints
from jobkit.tasks.work import arguments_text

FOLDER = "jobkit-checkpoints"

#: Those of the newest `resume`.
_newest: ContextVar[Checkpoints | None] = ContextVar("jobkit_checkpoints", default=None)


def checkpoints_of_caller(frame: FrameType, *, is_new: bool) -> Checkpoints:
    """Return the checkpoints of the code in a frame; unless `is_new`, those of the newest call of this."""
    found = None if is_new else _newest.get()
    if found is None:
        name = _name_of(frame)
        folder = Path.cwd() / FOLDER / name
        place = CheckpointPlace("outside", name, (own_key(),), True, str(folder.parent), name)
        found = Checkpoints(_Printer(folder), place, attempt=2)
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


class _Printer:
    """Says on standard error what a job says in its log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.answers = Answers()  # no question has a key here

    def line(self, source: str, text: str, level: str = "", logger: str = "") -> None:
        print(f"jobkit: {text}", file=sys.stderr)

    def checkpoint(self, info: CheckpointInfo, sealed: bytes) -> None:
        if info.name.endswith(".00000001"):
            self.line("jobkit", f"checkpoints ({size(info.size_bytes)}) are kept in {_shown(self._folder)}")

    def resumed(self, info: CheckpointInfo | None) -> None:
        if info is not None:
            self.line("jobkit", f"delete {_shown(self._folder)} to begin anew")

    @property
    def position(self) -> tuple[float | None, float | None]:
        return None, None


def _shown(folder: Path) -> str:
    with contextlib.suppress(ValueError):
        return f"{os.curdir}{os.sep}{folder.relative_to(Path.cwd())}"
    return str(folder)
