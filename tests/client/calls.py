"""Functions that tests submit, in a module that a job's process imports fast."""

from __future__ import annotations

import os
import time


def double(n: int) -> int:
    return 2 * n


def fail(text: str) -> None:
    raise LookupError(text)


def second_time(flag: str) -> int:
    """Fail, unless a file says that it was called before."""
    if os.path.exists(flag):
        return 7
    open(flag, "w").close()
    raise OSError("not yet")


def hold(started: str, go: str) -> str:
    """Say that it has started, and wait for a file."""
    open(started, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    return "held"


async def plus(a: int, b: int) -> int:
    return a + b


def where(n: int) -> tuple[int, int, tuple[str, int]]:
    """Return the argument, the process, and how calls of joblib's Parallel run here."""
    from joblib.parallel import get_active_backend

    backend, _ = get_active_backend()
    return n, os.getpid(), (type(backend).__name__, backend.nesting_level)


def valley(x: float, kind: str = "square") -> float:
    return (x - 2) ** 2 + (10 if kind == "far" else 0)
