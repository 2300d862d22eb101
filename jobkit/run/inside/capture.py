"""Send prints, log records and warnings of user code to its job's recorder, in the order in which they happened.

Each write goes to the job of the current context, or to its original stream. In a forked child all output belongs to
one job (`own_process`). What C code and grandchildren write to descriptors 1 and 2 is not seen here; the parent reads
those pipes.
"""

from __future__ import annotations

import io
import logging
import operator
import os
import sys
import warnings
from typing import Any, TextIO

from jobkit.run.inside.context import active_recorder
from jobkit.run.inside.tracebacks import labelled, place_of


class Routed(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` whose writes go to the job that makes them, with `is_copying` also to the original.

    Writes outside a job, and everything that is not a write, go to the original.
    """

    def __init__(self, original: TextIO, source: str, is_copying: bool) -> None:
        self._original = original
        self._source = source
        self._is_copying = is_copying
        self.buffer = _Binary(self, original)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if (recorder := active_recorder()) is not None:
            recorder.write(self._source, labelled(text))
            if not self._is_copying:
                return len(text)
        return self._original.write(text)

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Ignored: a task that closes its output must not lose what comes after."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


for _name in ("encoding", "errors", "newlines", "flush", "isatty", "fileno"):  # TextIOBase has own ones
    setattr(Routed, _name, property(operator.attrgetter(f"_original.{_name}")))


class _Binary(io.RawIOBase):
    """The `buffer` of a stream."""

    def __init__(self, text: Routed, original: TextIO) -> None:
        self._text = text
        self._original = original

    def write(self, data: Any) -> int:
        if active_recorder() is None:
            return self._original.buffer.write(data)
        data = bytes(data)
        self._text.write(data.decode("utf-8", "backslashreplace"))
        return len(data)

    def flush(self) -> None:
        self._text.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def close(self) -> None:
        pass


class RecordHandler(logging.Handler):
    """Sends records of `logging` to the job they belong to; records without a job are left to the other handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        recorder = active_recorder()
        if recorder is None:
            return
        try:
            text = record.getMessage()
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            text = "\n".join(part for part in (text, record.exc_text, record.stack_info) if part)
            recorder.line("log", labelled(text), record.levelname, record.name)
        except Exception:  # as the standard handlers do: says on stderr what is wrong with the record
            self.handleError(record)


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
                if type(handler) is logging.StreamHandler and isinstance(handler.stream, Routed):
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
        recorder = active_recorder()
        if recorder is None or file is not None:
            original(message, category, filename, lineno, file, line)
        else:
            recorder.line(
                "warning",
                f"{place_of(filename, lineno)}: {category.__name__}: {' '.join(str(message).split())}",
                "WARNING",
            )

    return showwarning


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


def own_process() -> None:
    """Send all that this process prints, logs and warns to its job, until its end.

    Handlers of `logging` that already write to its own output (a `basicConfig` in a preloaded module) go, or each
    record would come twice.
    """
    own = {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler and handler.stream in own:
            root.removeHandler(handler)
    for name, fd in (("stdout", 1), ("stderr", 2)):  # to the pipes: what processes print that the task forks
        plain: Any = open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        plain.buffer.raw.name = f"<{name}>"
        setattr(sys, name, plain)
    Routing().install()
    logging.basicConfig = _basic_config(logging.basicConfig)
    os.register_at_fork(after_in_child=lambda: root.addHandler(logging.StreamHandler()))
