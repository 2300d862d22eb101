"""Send prints, log records and warnings of user code to its job's recorder, in the order in which they happened.

`ProcessCapture` is for a forked child, where all output belongs to one job. `Routing` is for a process in which
several jobs and the worker itself print: each write goes to the job of the current context, or to its original stream.
What C code and grandchildren write to descriptors 1 and 2 is not seen here; the parent reads those pipes.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from typing import Any, TextIO

from jobkit.run.inside.context import active
from jobkit.run.inside.lines import clean as clean  # where other rooms look for it
from jobkit.run.inside.recorder import Recorder
from jobkit.run.inside.tracebacks import DYNAMIC


class Captured(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of a job that has its process to itself."""

    def __init__(self, recorder: Recorder, source: str, fd: int) -> None:
        self._source = source
        self._fd = fd
        self.buffer = _Binary(self)
        self.attach(recorder)

    def attach(self, recorder: Recorder) -> None:
        """From now on it is this one's."""
        self._write = recorder.write

    # The attributes of a TextIOWrapper that code asks for.
    line_buffering = True
    write_through = True

    @property
    def name(self) -> str:
        return f"<{self._source}>"

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a plain attribute
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]  # likewise
        return "backslashreplace"

    def write(self, text: str) -> int:
        if type(text) is not str:
            if not isinstance(text, str):
                raise TypeError(f"write() argument must be str, not {type(text).__name__}")
            text = str.__str__(text)
        self._write(self._source, text)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False

    def reconfigure(self, **_: Any) -> None:
        """Accepted and ignored: lines are UTF-8 here."""

    def close(self) -> None:
        """Ignored: a task that closes its output must not lose what comes after."""


class _Binary(io.RawIOBase):
    """`sys.stdout.buffer`."""

    def __init__(self, text: Captured) -> None:
        self._text = text

    def write(self, data: Any) -> int:
        data = bytes(data)
        self._text.write(data.decode("utf-8", "backslashreplace"))
        return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def close(self) -> None:
        pass


class RecordHandler(logging.Handler):
    """Sends records of `logging` to the job they belong to; records without a job are left to the other handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        context = active()
        recorder = None if context is None else context.recorder
        if recorder is None:
            return
        try:
            text = record.getMessage()
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            text = "\n".join(part for part in (text, record.exc_text, record.stack_info) if part)
            recorder.line("log", text, record.levelname, record.name)
        except Exception:  # as the standard handlers do: says on stderr what is wrong with the record
            self.handleError(record)


def warning_text(message: object, category: type[Warning], filename: str, lineno: int) -> str:
    """One line: `file.py:3: UserWarning: text`."""
    text = " ".join(str(message).split())
    place = f"line {lineno}" if filename == DYNAMIC else f"{os.path.basename(filename)}:{lineno}"
    return f"{place}: {category.__name__}: {text}"


class ProcessCapture:
    """Sends all that this process prints, logs and warns to the recorder of its job, until its end.

    `logging` shows INFO and above if no level is set. Handlers that already write to this process's own output
    (a `basicConfig` in a preloaded module) go, or each record would come twice.
    """

    def __init__(self) -> None:
        self._streams: tuple[Captured, ...] = ()
        own = {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}
        root = logging.getLogger()
        for handler in list(root.handlers):
            if type(handler) is logging.StreamHandler and handler.stream in own:
                root.removeHandler(handler)
        root.addHandler(RecordHandler())
        if root.level == logging.WARNING:
            root.setLevel(logging.INFO)
        logging.basicConfig = _basic_config(logging.basicConfig)
        warnings.showwarning = self._showwarning = _showwarning(warnings.showwarning)
        os.register_at_fork(after_in_child=_release)

    def begin(self, recorder: Recorder) -> None:
        """Send everything to this job's recorder from now on."""
        if not self._streams:
            self._streams = (Captured(recorder, "stdout", 1), Captured(recorder, "stderr", 2))
        for stream in self._streams:  # the same ones for each job: user code may have kept one
            stream.attach(recorder)
        sys.stdout, sys.stderr = self._streams
        warnings.showwarning = self._showwarning


def _release() -> None:
    """In a process that the task forked: print to the pipes, the control channel belongs to its parent alone."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        if isinstance(getattr(sys, name), Captured):
            setattr(sys, name, open(fd, "w", buffering=1, errors="backslashreplace", closefd=False))  # noqa: SIM115
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, RecordHandler):
            root.removeHandler(handler)
            root.addHandler(logging.StreamHandler())


def _basic_config(original: Any) -> Any:
    """`logging.basicConfig` that is not a no-op because our handler is there, and does not show records twice."""

    def basicConfig(**kwargs: Any) -> None:
        root = logging.getLogger()
        ours: list[logging.Handler] = [handler for handler in root.handlers if isinstance(handler, RecordHandler)]
        for handler in ours:
            root.removeHandler(handler)
        try:
            original(**kwargs)
        finally:
            for handler in list(root.handlers):
                if type(handler) is logging.StreamHandler and isinstance(handler.stream, (Captured, Routed)):
                    root.removeHandler(handler)
            for handler in ours:
                root.addHandler(handler)

    basicConfig.__doc__ = original.__doc__
    return basicConfig


def _showwarning(original: Any) -> Any:
    def showwarning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        context = active()
        recorder = None if context is None else context.recorder
        if recorder is None or file is not None:
            original(message, category, filename, lineno, file, line)
        else:
            recorder.line("warning", warning_text(message, category, filename, lineno), "WARNING")

    return showwarning


_OF_ORIGINAL = frozenset({"encoding", "errors", "newlines", "buffer", "name", "mode", "flush", "isatty", "fileno"})


class Routed(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of a process that several jobs share.

    Args:
        original: where writes outside a job go, and everything that is not a write.
        is_copying: a job's output also goes to the original.
    """

    def __init__(self, original: TextIO, source: str, is_copying: bool) -> None:
        self._original = original
        self._source = source
        self._is_copying = is_copying

    def write(self, text: str) -> int:
        context = active()
        if context is not None and context.recorder is not None:
            context.recorder.write(self._source, text)
            if not self._is_copying:
                return len(text)
        return self._original.write(text)

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def __getattribute__(self, name: str) -> Any:
        # TextIOBase has these as its own attributes, which `__getattr__` would never see.
        if name in _OF_ORIGINAL:
            return getattr(object.__getattribute__(self, "_original"), name)
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class Routing:
    """Routes this process's output to the jobs it belongs to, from `install` to `remove`. Counts its users."""

    def __init__(self, *, is_copying: bool = False) -> None:
        self._is_copying = is_copying
        self._users = 0
        self._handler: logging.Handler | None = None
        self._undo: list[tuple[Any, str, Any, Any]] = []
        self._level = logging.WARNING

    def install(self) -> None:
        self._users += 1
        if self._users > 1:
            return
        for owner, name, ours in (
            (sys, "stdout", Routed(sys.stdout, "stdout", self._is_copying)),
            (sys, "stderr", Routed(sys.stderr, "stderr", self._is_copying)),
            (warnings, "showwarning", _showwarning(warnings.showwarning)),
        ):
            self._undo.append((owner, name, ours, getattr(owner, name)))
            setattr(owner, name, ours)
        root = logging.getLogger()
        self._handler = RecordHandler()
        root.addHandler(self._handler)
        self._level = root.level
        if not self._is_copying and root.level == logging.WARNING:
            root.setLevel(logging.INFO)  # as in a child; to show fewer elsewhere, set the level of that handler

    def remove(self) -> None:
        self._users -= 1
        if self._users:
            return
        for owner, name, ours, original in reversed(self._undo):
            if getattr(owner, name) is ours:  # else it was wrapped meanwhile, and the wrapper keeps working
                setattr(owner, name, original)
        self._undo.clear()
        if self._handler is not None:
            root = logging.getLogger()
            root.removeHandler(self._handler)
            if root.level == logging.INFO:
                root.setLevel(self._level)
            self._handler = None
