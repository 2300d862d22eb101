"""`Checkpoint`: a checkpoint as users read it, also elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from jobkit.codec import decode
from jobkit.features.checkpoints.checkpoint_info import CheckpointInfo
from jobkit.features.checkpoints.files import UNREADABLE, CheckpointFiles, CheckpointHead, CheckpointPlace
from jobkit.model import ResultExpired, ResultUnavailable, SignatureError
from jobkit.model.plain import iso


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a job at one moment, from which it can go on; the newest two are kept, as long as the job.

    Attributes:
        text: "epoch 43" if its value tells, else "".
        attempt: number of the attempt that wrote it.
        size_bytes: of its value and files.
        files: their names, relative to the working directory of the job; the first 20.
        created_at: when it was written (aware, UTC, by the clock of the job's machine).
    """

    text: str
    attempt: int
    size_bytes: int
    files: tuple[str, ...]
    created_at: datetime
    _open: Callable[[], Any] = field(repr=False, compare=False)

    def value(self) -> Any:
        """Return what the job gave to `jobkit.checkpoint`. Unpickles it.

        Raises:
            ResultExpired: it is no longer kept, or it is a file that this machine does not reach.
            ResultUnavailable: its value cannot be rebuilt here.
            SignatureError: it is not what the job wrote.
        """
        with self._open() as (files, file, head):
            form, body = files.value(file, head)
        try:
            return decode(form, body)
        except (Exception, SystemExit) as error:  # code of the value's own classes
            raise ResultUnavailable(
                f"this checkpoint cannot be rebuilt here: {type(error).__name__}: {error}"
            ) from error

    def save(self, folder: str | os.PathLike[str] = ".") -> list[Path]:
        """Write its files below a folder, over others of their names; return their paths.

        Raises:
            ResultExpired, SignatureError: see `value`.
        """
        target = Path(folder)
        with self._open() as (files, file, head):
            files.restore(file, head, target)
            return [target / piece.name for piece in head.pieces[1:]]

    def to_json(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "attempt": self.attempt,
            "size_bytes": self.size_bytes,
            "files": list(self.files),
            "created_at": iso(self.created_at),
        }


def checkpoint_in(place: CheckpointPlace, info: CheckpointInfo) -> Checkpoint:
    """Return a checkpoint of a job, of which the store has these facts."""
    at = datetime.fromtimestamp(info.at_ms / 1000, UTC)
    return Checkpoint(info.text, info.attempt, info.size_bytes, info.files, at, partial(_opened, place, info))


@contextmanager
def _opened(place: CheckpointPlace, info: CheckpointInfo) -> Iterator[tuple[CheckpointFiles, BinaryIO, CheckpointHead]]:
    files = CheckpointFiles(place)
    try:
        with files.open(info.name) as file:
            yield files, file, files.head(file, info.name)
    except SignatureError:
        raise
    except UNREADABLE as error:
        there = f" in {info.place} of {info.host}" if info.place else ""
        raise ResultExpired(f"this checkpoint of job {place.job_id}{there} cannot be read from here: {error}") from None


class JobCheckpoints:
    """The verb about its checkpoints that a job has."""

    def checkpoints(self: Any) -> list[Checkpoint]:
        """Return the newest two checkpoints that it wrote with `jobkit.checkpoint`, oldest first."""
        found: list[Checkpoint] = self.kit.checkpoints(self.id)
        return found
