"""`Checkpoints`: the checkpoints of one attempt, read and written by its own process."""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from jobkit.codec import decode
from jobkit.features.checkpoints.checkpoint_info import CheckpointInfo, checkpoint_name, label_of
from jobkit.features.checkpoints.files import CheckpointFiles, CheckpointHead, CheckpointPlace, Damaged, relative_files
from jobkit.model import InvalidParams, JobkitError, SignatureError
from jobkit.model.format import seconds_in, size
from jobkit.model.plain import now_ms
from jobkit.run.inside import context
from jobkit.run.inside.answers import Answers
from jobkit.run.inside.context import Context
from jobkit.run.inside.recorder import Recorder
from jobkit.run.inside.tracebacks import class_name

File = str | os.PathLike[str]


class Checkpoints:
    """The checkpoints of one attempt.

    Args:
        voice: receives notes and facts about checkpoints: of a job, or outside of jobs.
        own: place of the job's checkpoints. source: place of those of the job that it continues.
        job: the job that runs here; None outside of jobs.
    """

    def __init__(
        self,
        voice: Recorder | Printer,
        own: CheckpointPlace,
        source: CheckpointPlace | None = None,
        *,
        attempt: int = 1,
        job: Context | None = None,
    ) -> None:
        self._voice, self._own, self._source, self._job = voice, own, source, job
        self._attempt = attempt
        self._files = CheckpointFiles(own)
        self._number = 0
        self._written_at: float | None = None
        self._version = ""
        self._code_version: str | None = None
        self._has_failed = self._has_one = False
        self._lock = threading.Lock()

    # -- reading ------------------------------------------------------------------------------------------------------

    def resume(self, default: Any, version: str) -> Any:
        self._version = version
        found = None
        if self._attempt > 1 or self._number:
            found = self._newest(self._own, self._files)
        if found is None and self._source is not None:
            found = self._newest(self._source, CheckpointFiles(self._source))
            if found is None:
                self._say(f"the checkpoint of job {self._source.job_id} cannot be continued: this job begins anew")
        if found is None:
            self._voice.emit("can_go_on")
            return default
        self._has_one = True
        head, value = found
        notes = [f"written by attempt {head.info.attempt}"] if head.info.attempt != self._attempt else []
        if head.code and head.code != self._code():
            notes.append("the code of the task has changed since")
        self._say(f"{head.info.phrase} ({', '.join(notes)})" if notes else head.info.phrase, "INFO")
        self._voice.emit("resumed", head.info)
        self._voice.go_on(head.info.completed, head.info.total)
        self._voice.answers.counts = head.asked
        return value

    def _newest(self, place: CheckpointPlace, files: CheckpointFiles) -> tuple[CheckpointHead, Any] | None:
        """Return the newest checkpoint that can be used, with its value; say what is wrong with newer ones.

        A job must neither fail nor begin anew because a link is away: its own process waits, and can be stopped.
        """
        with nullcontext() if self._job is None or context.is_worker else files.waiting():
            return self._newest_of(place, files)

    def _newest_of(self, place: CheckpointPlace, files: CheckpointFiles) -> tuple[CheckpointHead, Any] | None:
        names = files.names()
        for info, _ in place.known[-1:]:
            if not names or info.name > names[-1]:
                self._say(_unreached(info, files.shown))
        for name in reversed(names):
            try:
                with files.open(name) as file:
                    head = files.head(file, name)
                    if head.version != self._version and self._version:
                        had = f"version {head.version}" if head.version else "no version"
                        self._say(f"{_which(head.info)} is not used: it has {had}, and this code wants {self._version}")
                        return None
                    form, body = files.value(file, head)
                    files.restore(file, head, Path.cwd())
            except (Damaged, SignatureError, FileNotFoundError) as error:
                older = "the one before it is used" if name != names[0] else "there is no older one"
                self._say(f"the newest checkpoint cannot be read ({error}); {older}")
                continue
            try:
                return head, decode(form, body)
            except Exception as error:  # code of the value's own classes
                raise JobkitError(
                    f"{_which(head.info)} cannot be rebuilt on {platform.node()} ({class_name(error)}: {error}): run "
                    "the job on another machine, or from the beginning by job.rerun()"
                ) from error
        return None

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, value: Any, files: File | Iterable[File], every: object) -> bool:
        is_last = self._job is not None and self._job.is_asked
        with self._lock:
            is_written = self._is_due(every, is_last) and self._write(value, files)
        if is_written and self._job is not None:
            self._job.stop_if_asked()
        return is_written

    def _is_due(self, every: object, is_last: bool) -> bool:
        """Return whether enough time has passed; a job that is about to stop writes one more in any case."""
        if every is None:
            return True
        seconds = _seconds(every)
        return is_last or self._written_at is None or time.monotonic() - self._written_at >= seconds

    def _write(self, value: Any, files: File | Iterable[File]) -> bool:
        given = [files] if isinstance(files, (str, os.PathLike)) else list(files)
        if wrong := next((one for one in given if not isinstance(one, (str, os.PathLike))), None):
            raise InvalidParams(f"files must be names of files, not {wrong!r}", "files")
        if getattr(type(value), "__jobkit_task_class__", False):
            names = type(value).__jobkit_state__
            if not names:
                raise InvalidParams(
                    f"{class_name(value)} declares no state: give it state = (names of parameters)", "value"
                )
            value = {name: getattr(value, name) for name in names}
        completed, total = self._voice.position
        try:
            if not self._number:
                self._number = self._files.last_number(self._attempt)
            info = CheckpointInfo(
                name=checkpoint_name(self._attempt, self._number + 1),
                at_ms=now_ms(),
                attempt=self._attempt,
                text=label_of(value),
                completed=completed,
                total=total,
                host=platform.node(),
                place=self._files.shown,
            )
            copied = relative_files(given, Path.cwd())
            form, body = self._files.codec.encode(value)
            head = CheckpointHead(info, form, (), self._version, self._code(), self._voice.answers.counts)
            self._voice.sync()  # the next attempt does not say again what this one has said before its checkpoint
            info, sealed = self._files.write(head, body, copied)
        except ValueError as error:
            if not isinstance(error, InvalidParams):  # of `relative_files`
                raise InvalidParams(f"files: {error}", "files") from None
            return self._fail(str(error))
        except OSError as error:
            return self._fail(_reason(error))
        except Exception as error:  # pickling runs code of the value's own classes
            return self._fail(f"{class_name(error)}: {error}")
        self._number += 1
        self._written_at, self._has_failed, self._has_one = time.monotonic(), False, True
        self._voice.emit("checkpoint", (info, sealed))
        return True

    def _fail(self, why: str) -> bool:
        if not self._has_failed:
            self._has_failed = True
            where = f" to {self._files.shown}" if self._files.shown else ""
            kept = "the one before it stays" if self._has_one else "the job would start from the beginning"
            self._say(f"a checkpoint could not be written{where}: {why}; {kept}")
        return False

    def _say(self, text: str, level: str = "WARNING") -> None:
        self._voice.line("jobkit", text, level)

    def _code(self) -> str:
        if self._code_version is None:
            self._code_version = "" if self._job is None else self._job.code
        return self._code_version


def _seconds(every: object) -> float:
    seconds = seconds_in(every)
    if seconds is None or not seconds >= 0:
        raise InvalidParams(f'every must be seconds, a timedelta or a text like "5m", not {every!r}', "every")
    return seconds


def _reason(error: OSError) -> str:
    """Return what is wrong, with the name of the file if it is one of the user's."""
    name = os.path.relpath(error.filename) if isinstance(error.filename, str) else os.pardir
    return str(error.strerror or error) + ("" if name.startswith(os.pardir) else f": {name!r}")


def _which(info: CheckpointInfo) -> str:
    named = f" ({info.text})" if info.text else ""
    return f"the checkpoint of attempt {info.attempt}{named}"


def _unreached(info: CheckpointInfo, shown: str) -> str:
    """The sentence for a checkpoint that the store knows, and that is not here."""
    if not info.place:
        return f"{_which(info)} is not kept any more"
    here = f"{shown} on this machine ({platform.node()})" if shown else "this worker, which has no directory for files"
    return (
        f"{_which(info)} is in {info.place} of {info.host}, and not in {here}: set JOBKIT_RESULTS of all workers to a "
        "directory that they share"
    )


class Printer:
    """Says on standard error what a job says in its log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.answers = Answers()  # no request has a key here

    def line(self, source: str, text: str, level: str = "", logger: str = "") -> None:
        print(f"jobkit: {text}", file=sys.stderr)

    def sync(self) -> None:
        """Do nothing: what it says is said."""

    def emit(self, kind: str, news: Any = None) -> None:
        if kind == "resumed":
            self.line("jobkit", f"delete {_shown(self._folder)} to begin anew")
        elif kind == "checkpoint" and news[0].name.endswith(".00000001"):
            self.line("jobkit", f"checkpoints ({size(news[0].size_bytes)}) are kept in {_shown(self._folder)}")

    def go_on(self, completed: float | None, total: float | None) -> None:
        """Do nothing: no progress is shown."""

    @property
    def position(self) -> tuple[float | None, float | None]:
        return None, None


def _shown(folder: Path) -> str:
    with suppress(ValueError):
        return f"{os.curdir}{os.sep}{folder.relative_to(Path.cwd())}"
    return str(folder)
