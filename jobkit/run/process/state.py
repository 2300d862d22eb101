"""State of a process that runs jobs: variables hidden from them, and what is put back between two of them (`reuse=`).

Put back: output, environment, working directory, import path, umask, signal handlers and timers, loggers, warning
filters, random seeds. Not put back, because that is what a warm process is for: modules and their globals, caches, open
connections, settings of libraries. A process in which something of a job is still alive (a thread, a process) gets no
further job.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import NoReturn

from jobkit.run.shortage import first_file_limit, set_file_limit

HIDDEN = ("JOBKIT_SECRET", "JOBKIT_SECRET_FILE", "JOBKIT_TOKEN_SECRET", "JOBKIT_URL")

_taken: dict[str, str] = {}


def without_hidden(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process of jobs."""
    return {name: value for name, value in environ.items() if name not in HIDDEN}


def start_over() -> NoReturn:
    """Run the program of this process again, in its place, with environment and limit of open files as they were."""
    set_file_limit(first_file_limit())
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **_taken})


@contextlib.contextmanager
def hiding() -> Iterator[None]:
    """For a process that runs jobs among other things: takes it out of the environment meanwhile."""
    _taken.update({name: os.environ.pop(name) for name in HIDDEN if name in os.environ})
    try:
        yield
    finally:
        os.environ.update(_taken)
        _taken.clear()


#: No module offers this but through private names; `catch_warnings` itself calls it so that changed filters count.
_filters_mutated = getattr(warnings, "_filters_mutated", lambda: None)


class ProcessState:
    """As they were when this was made."""

    def __init__(self) -> None:
        self._environ = dict(os.environ)
        self._output = sys.stdout, sys.stderr, warnings.showwarning
        self._cwd = _cwd()
        self._path = list(sys.path)
        self._umask = _umask()
        self._handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        self._loggers = {logger: _state(logger) for logger in _loggers()}
        self._disabled = logging.root.manager.disable
        self._filters = list(warnings.filters)
        self._recursion = sys.getrecursionlimit()
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()

    def is_clean(self, *allowed: threading.Thread | None) -> bool:
        """Return whether no thread of a job lives on and our descriptors are unchanged."""
        threads = set(threading.enumerate()) - self._threads - set(allowed)
        return not threads and _descriptors() == self._descriptors

    def restore(self) -> None:
        sys.stdout, sys.stderr, warnings.showwarning = self._output
        now = dict(os.environ)
        for name in now.keys() - self._environ.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in self._environ.items() if now.get(name) != value})
        if self._cwd and _cwd() != self._cwd:
            with contextlib.suppress(OSError):  # it was removed: the next job goes where its submitter was anyway
                os.chdir(self._cwd)
        if sys.path != self._path:
            sys.path[:] = self._path
        os.umask(self._umask)
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) != handler and number != signal.SIGTERM:
                signal.signal(number, handler)
        for logger in _loggers():
            _put_back(logger, self._loggers.get(logger, (logging.NOTSET, (), True, False)))
        if logging.root.manager.disable != self._disabled:
            logging.disable(self._disabled)
        warnings.filters[:] = self._filters  # type: ignore[index]  # typeshed has a Sequence, it is a list
        _filters_mutated()  # or a warning that one job has seen would not show in the next
        sys.setrecursionlimit(self._recursion)
        random.seed()  # so that those of the job before do not foretell them
        reseed_numpy()


def reseed_numpy() -> None:
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(int.from_bytes(os.urandom(4), "little"))  # without a number it takes half a millisecond


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _umask() -> int:
    now = os.umask(0o077)
    os.umask(now)
    return now


def _descriptors() -> list[tuple[int, int]]:
    """Return the files behind descriptors 0 to 3."""
    found = []
    for fd in range(4):
        try:
            status = os.fstat(fd)
        except OSError:
            found.append((-1, -1))
        else:
            found.append((status.st_dev, status.st_ino))
    return found


def _loggers() -> list[logging.Logger]:
    named = logging.root.manager.loggerDict.values()
    return [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]


_State = tuple[int, tuple[logging.Handler, ...], bool, bool]


def _state(logger: logging.Logger) -> _State:
    return logger.level, tuple(logger.handlers), logger.propagate, logger.disabled


def _put_back(logger: logging.Logger, state: _State) -> None:
    if _state(logger) == state:
        return
    level, handlers, logger.propagate, logger.disabled = state
    for handler in set(logger.handlers) - set(handlers):
        with contextlib.suppress(Exception):  # of the user's
            handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)  # not the attribute: loggers remember what is on
