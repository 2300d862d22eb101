"""Threads of BLAS and OpenMP: the jobs that run at once share the processors.

Without this each of eight jobs starts as many threads as there are processors, and all of them wait for each other.
A job that runs alone has all of them. Libraries read their number of threads from the environment when they are
loaded; in those that are loaded already it is set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jobkit.system.hardware import cores

#: What OpenBLAS, MKL, BLIS, OpenMP, NumExpr and Arrow read unless their own variable is set.
_COMMON = "OMP_NUM_THREADS"

#: What Apple's Accelerate reads.
_APPLE = "VECLIB_MAXIMUM_THREADS"

#: Variables of one library. Set by the user, they come before the common one.
_OWN = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")

_workers = 1  # of one command line, which share the processors, too
_given = 0  # the number of the last job of this process


@dataclass
class _ThreadPool:
    """Threads of a loaded library. `most`: those without a share. `given`: those that it has by our doing, or 0."""

    control: Any
    most: int
    given: int


_loaded: list[_ThreadPool] = []  # of this process, and of processes that are forked from it


def share_machine(workers: int) -> None:
    """Divide the processors among this process and others like it."""
    global _workers
    _workers = workers


def share(jobs: int) -> int:
    """Return the number of threads for each of the jobs that run at once in this worker."""
    return max(1, cores() // (jobs * _workers))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let libraries that are imported meanwhile have one thread, unless the user has set a number.

    `set_for_forks` raises it.
    """
    global _given
    if is_free := _is_free():
        os.environ[_COMMON], _given = "1", 1
    try:
        yield
    finally:
        if is_free:
            os.environ.pop(_COMMON, None)


def look_at_libraries() -> None:
    """Find the libraries that are loaded, once: it takes up to 20 ms. Processes that are forked need not."""
    if not _loaded and not sys.modules.keys().isdisjoint(("numpy", "torch")):
        from threadpoolctl import ThreadpoolController

        # What an earlier job of this process has loaded has read its number.
        _loaded.extend(_ThreadPool(control, cores(), _given) for control in ThreadpoolController().lib_controllers)


def set_for_forks(most: int) -> None:
    """Let the processes that are forked from this one begin with so many threads.

    A fork ends the threads of OpenBLAS, and the first use starts them again: so a job that uses none starts none. In
    the forked process another number would start them at once.
    """
    if _is_free():
        _set(most)


def _is_free() -> bool:
    """Return True unless the user has set a number."""
    return os.environ.keys().isdisjoint((_COMMON, *_OWN))


def _set(most: int) -> None:
    """Code of the user that has set a lower number for a library, in a module of tasks, keeps it."""
    for library in _loaded:
        now = library.control.get_num_threads() or cores()
        if now != library.given:  # by code of the user
            library.most = now
        library.given = min(most, library.most)
        if library.given != now:  # else BLAS would start its threads for nothing
            library.control.set_num_threads(library.given)


def apply_threads(environ: Mapping[str, str], most: int) -> None:
    """Apply a job's own numbers of threads, else `most` unless the user has set one for the worker."""
    global _given
    look_at_libraries()
    if is_free := _is_free():
        _set(most)
        os.environ[_COMMON] = str(most)
        os.environ.setdefault(_APPLE, str(most))
    for library in _loaded:
        for name in (_COMMON, *(_OWN if library.control.user_api == "blas" else ())):
            if environ.get(name, "").isdecimal():
                library.control.set_num_threads(int(environ[name]) or cores())
    _given = most if is_free else 0
