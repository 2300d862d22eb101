"""Outputs of a job as users see them: log lines, artifacts, metrics.

Also its value, or the exception that says how it ended.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobkit.codec import Codec, Subject, decode
from jobkit.files import FileStore
from jobkit.files.file_store import opened
from jobkit.model import (
    EventType,
    JobCancelled,
    JobFailed,
    JobSnapshot,
    JobState,
    LogLine,
    ResultExpired,
    ResultUnavailable,
    SignatureError,
)
from jobkit.model.metrics import MetricsSummary
from jobkit.model.plain import iso
from jobkit.model.trace import lines_of

if TYPE_CHECKING:
    import pandas as pd


class LogText(str):
    """One line of output: text, with `at`, `source`, `level`, `logger` and its number `n`."""

    at: datetime
    source: str
    level: str
    logger: str
    n: int

    def __new__(cls, line: LogLine) -> LogText:
        self = super().__new__(cls, line.text)
        self.at, self.source, self.level, self.logger, self.n = line.at, line.source, line.level, line.logger, line.n
        return self


class Logs(list[LogText]):
    """Lines, oldest first. `print(logs)` prints them; `"text" in logs` looks inside the lines."""

    def __init__(self, lines: Iterable[LogLine]) -> None:
        super().__init__(map(LogText, lines))

    def __str__(self) -> str:
        return "\n".join(self)

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and any(text in line for line in self)

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        printer.text(str(self))  # type: ignore[attr-defined]  # IPython's printer, which we do not import


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that a job saved with `jobkit.current().save(name, obj)`; kept as long as the job.

    Attributes:
        name: as it was saved, 1 to 200 printable characters.
        media_type: "image/png", "text/csv", ...
        size_bytes: of its content.
        created_at: when it was saved (aware, UTC, by the worker's clock).
    """

    name: str
    media_type: str
    size_bytes: int
    created_at: datetime
    _fetch: Callable[[], bytes] = field(repr=False, compare=False)

    def read(self) -> bytes:
        """Its content.

        Raises:
            ResultExpired: it is no longer kept, or it is a file that this machine does not reach.
            SignatureError: it is not what the worker stored.
        """
        return self._fetch()

    def save(self, path: str | os.PathLike[str] = ".") -> Path:
        """Write it to a file, whole or not at all; an existing one is replaced.

        Args:
            path: of the file, or a directory, in which it gets its own name. A path that ends with a slash is a
                directory, which is made if it does not exist.

        Returns:
            the path of the file.
        """
        target = Path(path)
        if os.fspath(path).endswith(("/", os.sep)):
            target.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            target = target / self.name
        content = self.read()
        aside = target.with_name(f".{secrets.token_hex(6)}.part")
        try:
            aside.write_bytes(content)
            os.replace(aside, target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        return target

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "media_type": self.media_type,
            "size_bytes": self.size_bytes,
            "created_at": iso(self.created_at),
        }


class Metrics(Mapping[str, float]):
    """Newest value of each metric of a job: `job.metrics["loss"]`. `job.metrics()` returns all points."""

    def __init__(self, job: Any, summary: MetricsSummary) -> None:
        self._job, self._summary = job, summary

    def __call__(self) -> pd.DataFrame:
        """Return one row a step, as it was logged: `step`, `time` (UTC) and a column for each name.

        A metric that is called `job`, `step` or `time` has "(metric)" behind its name.
        Up to 2,000 points of a curve are all there (fewer with more than 10 curves). Of a longer one, each of some
        hundred ranges of steps has its first, last, smallest and largest point.
        """
        return self._job.kit.metrics(self._job.id)  # type: ignore[no-any-return]  # a kit is above this room

    def __getitem__(self, name: str) -> float:
        return self._summary.newest[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._summary.newest)

    def __len__(self) -> int:
        return len(self._summary.newest)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Metrics):
            return self._job is other._job and self._summary.n == other._summary.n
        return dict(self) == other

    __hash__ = None  # type: ignore[assignment]  # like a dict

    def __repr__(self) -> str:
        return f"<Metrics {', '.join(f'{name}={value:.4g}' for name, value in self.items()) or 'none'}>"


def column_of(name: str, taken: Container[str], kind: str) -> str:
    """Return the column of an "argument" or "metric": its name, with the kind behind it if the name is taken."""
    return f"{name} ({kind})" if name in taken else name


def cancel_reason(snapshot: JobSnapshot) -> str:
    """Return why a job was cancelled, and how its attempt ended; "" if neither is known."""
    reasons = [(event.type, str(event.data["reason"])) for event in snapshot.history if event.data.get("reason")]
    asked = [reason for kind, reason in reasons if kind is EventType.CANCEL_REQUESTED]
    return "; ".join(dict.fromkeys([*asked, *(reason for _, reason in reasons[-1:])]))


def outcome_of(
    snapshot: JobSnapshot,
    sealed: bytes,
    preview: Mapping[str, Any] | None,
    codec: Codec,
    file_store: FileStore | None = None,
) -> Any:
    """Return the value of an ended job, or raise as `Job.result` does. Unpickles: only for a user who requested it.

    Args:
        sealed: the result (or, of a failed job, the original exception) as the store has it; empty if it has none.
        preview: of the result, if there is no `sealed`.
    """
    spec = snapshot.spec
    if snapshot.state is JobState.CANCELLED:
        reason = cancel_reason(snapshot)
        raise JobCancelled(f"job {spec.id} ({spec.task}) was cancelled" + (f": {reason}" if reason else ""))
    if snapshot.state is JobState.FAILED:
        original, problem = _original(snapshot, sealed, codec)
        note = f"\n\n(its exception was not rebuilt: {problem})" if problem else ""
        error = snapshot.error
        said = "" if error is None else f": {error}"
        trace = f"\n\n{error.traceback.rstrip()}" if error is not None and error.traceback else ""
        lines = lines_of(error) if error is not None else ()
        raise JobFailed(f"job {spec.id} ({spec.task}) failed{said}{trace}{note}", error, lines) from original
    if not sealed:
        what = f"the result of job {spec.id} ({spec.task}) is not available"
        if why := (preview or {}).get("unavailable"):
            raise ResultUnavailable(f"{what}: {why}")
        if snapshot.cached_from:
            raise ResultExpired(f"{what}: it is that of job {snapshot.cached_from}, which is no longer kept")
        raise ResultExpired(f"{what}: it has expired or was removed")
    form, body = opened(sealed, Subject("result", snapshot.result_id, spec.task), codec, file_store)
    try:
        with _no_open_figures():
            return decode(form, body)
    except (Exception, SystemExit) as error:  # unpickling runs code of the value's own classes
        raise ResultUnavailable(
            f"the result of job {spec.id} ({spec.task}) cannot be rebuilt here: {type(error).__name__}: {error}"
        ) from error


@contextmanager
def _no_open_figures() -> Iterator[None]:
    """In a notebook, close the figures of pyplot that are unpickled here: the end of the cell would show them again."""
    before = _figures()
    yield
    if (found := _figures()) != before and "inline" in (pyplot := sys.modules["matplotlib.pyplot"]).get_backend():
        for number in found - before:
            pyplot.close(number)


def _figures() -> set[int]:
    """Return the numbers of pyplot's open figures."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set(pyplot.get_fignums()) if pyplot else set()


def _original(snapshot: JobSnapshot, sealed: bytes, codec: Codec) -> tuple[BaseException | None, str]:
    """The exception itself, if it can be rebuilt, and what is wrong with its signature, or ""."""
    found = None
    try:
        if sealed:
            found = codec.loads(sealed, Subject("error", snapshot.spec.id, snapshot.spec.task))
    except SignatureError as error:
        return None, str(error)
    except (Exception, SystemExit):  # code of the exception's own class; the text tells the same
        pass
    return (found if isinstance(found, BaseException) else None), ""
