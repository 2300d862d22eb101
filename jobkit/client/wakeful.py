"""Interrupts of cells that await jobs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import weakref
from collections.abc import Iterator

#: A kernel that awaits a job sees an interrupt within so many seconds.
_WAKE_S = 0.25

_waiting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()
_ticking: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


@contextlib.contextmanager
def wakeful() -> Iterator[None]:
    """Let the running loop wake up now and then, in the kernel of a notebook.

    ipykernel's handler of SIGINT schedules the end of the cell with `call_soon`, which does not wake a loop that sleeps
    in `select`: without this, stopping a cell that awaits a job takes until the job says something.
    """
    if "ipykernel" not in sys.modules:
        yield
        return
    loop = asyncio.get_running_loop()

    def tick() -> None:
        if _waiting.get(loop):
            loop.call_later(_WAKE_S, tick)
        else:
            _ticking.discard(loop)

    _waiting[loop] = _waiting.get(loop, 0) + 1
    if loop not in _ticking:
        _ticking.add(loop)
        tick()
    try:
        yield
    finally:
        _waiting[loop] -= 1
