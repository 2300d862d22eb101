"""Threads of BLAS and OpenMP: each job of a worker gets its share of the processors.

Without this each of eight jobs starts as many threads as there are processors, and all of them wait for each other.
Libraries read their number of threads from the environment when they are loaded, so a worker sets it first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from jobkit.system.hardware import cores

#: What OpenBLAS, MKL, BLIS, OpenMP, NumExpr and Arrow read unless their own variable is set.
_COMMON = "OMP_NUM_THREADS"

#: What Apple's Accelerate reads.
_APPLE = "VECLIB_MAXIMUM_THREADS"

#: Variables of one library. Set by the user, they come before the common one.
_OWN = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def share_threads(jobs: int) -> None:
    """Let libraries of this process, and of its children, use the processors divided by the number of jobs at once.

    Variables that the user has set stay.
    """
    if _COMMON not in os.environ:
        share = str(max(1, cores() // jobs))
        os.environ[_COMMON] = share
        os.environ.setdefault(_APPLE, share)


def apply_threads(environ: Mapping[str, str]) -> None:
    """Apply the numbers of threads of a job's own environment to libraries that were loaded before it.

    Needs `threadpoolctl`; without it, and for what is no number, those libraries keep the worker's number.
    """
    for name in (_COMMON, *_OWN):
        if environ.get(name, "").isdecimal():
            try:
                from threadpoolctl import threadpool_limits
            except ImportError:
                return
            threadpool_limits(int(environ[name]) or None, user_api=None if name == _COMMON else "blas")
