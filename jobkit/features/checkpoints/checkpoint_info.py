"""`CheckpointInfo`: what is known of a checkpoint without reading it."""

from __future__ import annotations

import re
from numbers import Integral, Real
from typing import Any

from jobkit.model.plain import Record

#: Name of a checkpoint. Sorted by it, those of a later attempt come last, and within an attempt the newest.
_NAME = re.compile(r"checkpoint\.\d{6}\.\d{8}", re.ASCII)

#: Characters of `CheckpointInfo.text`.
LABEL_CHARS = 80


class CheckpointInfo(Record, frozen=True):
    """Metadata of a checkpoint.

    Attributes:
        name: see `checkpoint_name`.
        at_ms: when it was written, by the clock of the job's machine.
        attempt: number of the attempt that wrote it.
        text: "epoch 43" if the value tells, else "".
        size_bytes: of value and files.
        files: names of its files, relative to the working directory.
        completed, total: the job's progress at that moment, None if not known.
        seal: of its head, if it is a file; in hex digits.
        host: machine that wrote it. place: directory or URL in which it is; "" if it is in the store.
    """

    name: str
    at_ms: int = 0
    attempt: int = 0
    text: str = ""
    size_bytes: int = 0
    files: tuple[str, ...] = ()
    completed: float | None = None
    total: float | None = None
    host: str = ""
    place: str = ""
    seal: str = ""

    @property
    def phrase(self) -> str:
        """Text for a job that goes on from it: "resumed at epoch 43"."""
        return f"resumed at {self.text}" if self.text else "resumed from a checkpoint"


def checkpoint_name(attempt: int, number: int) -> str:
    """Return the name of the `number`-th checkpoint of an attempt."""
    return f"checkpoint.{attempt:06d}.{number:08d}"


def is_checkpoint_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def label_of(value: Any) -> str:
    """Return a few words about a state: "epoch 43" for `{"epoch": 43, ...}`; "" if it holds no number to name."""
    if _is_number(value):
        return _shown(value)[:LABEL_CHARS]
    named = value.items() if isinstance(value, dict) else ()
    return next(
        (f"{name} {_shown(item)}"[:LABEL_CHARS] for name, item in named if isinstance(name, str) and _is_number(item)),
        "",
    )


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and bool(value < 1e15) and not value < -1e15


def _shown(number: Real) -> str:
    return str(int(number)) if isinstance(number, Integral) else f"{float(number):g}"
