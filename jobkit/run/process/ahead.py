"""Imports that a zygote does ahead of the jobs that need them, and the reasons not to fork afterwards.

What is imported here is in every process that is forked from here, whatever its job needs. So it must leave nothing but
modules: no thread, no open file, no process, no module of the user's own.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jobkit.run.inside import imports
from jobkit.system import own, processes

_JOBKIT = os.path.join(Path(__file__).parents[2], "")
#: A zygote that is larger imports nothing more (bytes).
MEMORY_MOST = 500_000_000
#: A fork that does nothing must end within this time (s).
_FORK_LIMIT_S = 5.0

#: They run threads, and locks that those hold at a fork stay locked in the child for ever. (numpy's BLAS and
#: pyarrow see to themselves.)
_UNSAFE = ("jax", "tensorflow", "grpc", "ray", "polars")
#: Names of native threads that see to themselves: pyarrow's allocator has one.
_HARMLESS = ("jemalloc_bg_thd",)


def why_unsafe(modules: str = "the task modules") -> str:
    """Return why processes should not be forked from here, or "". `modules`: what was imported last."""
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if threads:
        return f"{modules} have started a thread ({threads[0]})"
    found = [name for name in _UNSAFE if name in sys.modules]
    if found:
        return f"{modules} import {found[0]}"
    cuda = sys.modules.get("torch.cuda")
    return f"{modules} use CUDA" if cuda is not None and cuda.is_initialized() else ""


def import_ahead(names: Sequence[str]) -> tuple[str, str]:
    """Import installed modules; return the name of one after which nothing should be forked, with the reason.

    Stops at the first of that kind. ("", "") if there is none; no name with a reason that there was before. A module
    that cannot be imported is left out.
    """
    if names and (why := why_unsafe() or ("" if own.is_childless() else "the task modules have started a process")):
        return "", why
    for name in names:
        if processes.rss_bytes(os.getpid()) > MEMORY_MOST:
            break
        modules, files, state = set(sys.modules), _descriptors(), _state()
        # The job that needs it will say what is wrong.
        with _only_installed(), silence(), contextlib.suppress(BaseException):
            importlib.import_module(name)
        if changed := [what for what, value in _state().items() if value != state[what]]:
            return name, f"it changes {changed[0]} of its process"
        if why := _problem_with(sys.modules.keys() - modules, files):
            return name, why
    return "", ""


def _problem_with(modules: set[str], files: set[str]) -> str:
    """Return why nothing should be forked after these modules were imported, or ""."""
    tops = {name.partition(".")[0] for name in modules}
    if why := why_unsafe("its modules"):
        return why
    if not own.is_childless():
        return "it has started a process"
    if _descriptors() - files:
        return "it has opened a file, a connection or a device"
    if foreign := [name for name in modules if _is_foreign(name)]:
        return f"it imports {min(foreign)}, which is not installed"
    if mine := imports.shadowed(tops):
        return f"there is another {mine[0]} in the directories of the worker"
    imports.ahead |= tops
    return _fork_problem()


def _is_foreign(name: str) -> bool:
    file = imports.namespace(sys.modules.get(name)).get("__file__")
    return isinstance(file, str) and not file.startswith(_JOBKIT) and imports.is_own(os.path.dirname(file))


def _fork_problem() -> str:
    """Fork once for nothing: what runs threads and is prepared for forks has ended them afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    deadline = time.monotonic() + _FORK_LIMIT_S
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            processes.kill([pid])
            os.waitpid(pid, 0)
            return "a process that is forked after it hangs"
        time.sleep(0.001)
    threads = [name for name in own.native_threads() if name not in _HARMLESS]
    if status:
        return "a process that is forked after it crashes"
    return f"it runs {len(threads) - 1} threads that stay at a fork" if len(threads) > 1 else ""


def _state() -> dict[str, Any]:
    """Return what jobs that do not need a module would find changed by it."""
    return {
        "the working directory": os.stat(".").st_ino,
        "the handlers of signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "the logging": (logging.root.level, logging.root.handlers[:], logging.root.manager.disable),
    }


def _descriptors() -> set[str]:
    return {name for name in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{name}")}


@contextlib.contextmanager
def _only_installed() -> Iterator[None]:
    """Find installed modules only."""
    path = sys.path[:]
    sys.path[:] = [entry for entry in path if not imports.is_own(entry)]
    try:
        yield
    finally:
        sys.path[:] = path + [entry for entry in sys.path if entry not in path]  # some add one


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Drop what is printed meanwhile: no job has a log yet."""
    kept = [os.dup(fd) for fd in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for fd in (1, 2):
            os.dup2(null, fd)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for fd, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, fd)
        for fd in (null, *kept):
            os.close(fd)
