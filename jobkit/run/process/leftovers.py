"""Processes that outlive their worker and its zygote. They are found by a mark in their environment and ended.

A zygote ends all that its jobs have started when its worker dies. If both are killed at once, programs of a job and
processes that it has forked would go on beside its next attempt. All of them have the environment of their zygote, and
in it the `OWNER`: process id and start time of the worker, and a word for the zygote. Only a worker itself ends
processes that it owns, and no worker those of another user or container. A program that was started with another
environment is not found.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable

from jobkit.run.shortage import patiently
from jobkit.system import processes

logger = logging.getLogger("jobkit.worker")

#: Another one without `/proc`: the start times of both cannot be compared.
OWNER = "JOBKIT_OWNER" if processes.HAS_PROC else "JOBKIT_OWNER_ID"
#: Seconds that a zygote has to end its processes itself, and between two looks; so many rounds of kills at most.
_GRACE_S, _LOOK_S, _ROUNDS = 1.0, 0.02, 50


def new_owner() -> str:
    """Return the value of `OWNER` for one zygote of this process; "" if the system does not tell its start time."""
    own = processes.identity(os.getpid())
    return "" if own is None else f"{own[0]}.{own[1]}.{secrets.token_hex(4)}"


def end_orphans() -> None:
    """End the processes whose worker is gone. Blocks: some ms if there are none."""
    deadline = time.monotonic() + _GRACE_S
    while patiently(_found, _is_orphaned):
        if time.monotonic() > deadline:
            return _end(_is_orphaned)
        time.sleep(_LOOK_S)


class Orphans:
    """Looks for processes whose worker is gone, on behalf of many attempts: a look reads all processes of the machine,
    so one serves all that asked for it before it began."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._begun = self._done = 0  # numbers of the last look that has begun, and that has ended well

    async def end(self) -> None:
        """Return when those that there are now have been ended. Raises OSError."""
        before = self._begun
        async with self._lock:
            if self._done <= before:
                self._begun += 1
                await asyncio.to_thread(end_orphans)
                self._done = self._begun


def end_owned_by(owner: str) -> None:
    """End the processes of a zygote that is gone. Blocks."""
    if owner:
        _end(owner.__eq__)


def _end(is_sought: Callable[[str], bool]) -> None:
    """Return when they are gone, or will not go."""
    for n in range(_ROUNDS):
        pids = patiently(_found, is_sought)
        if not pids:
            return
        if n == 0:
            logger.warning("processes that jobs have left behind are ended: %s", ", ".join(map(str, pids)))
        processes.kill(pids)
        time.sleep(_LOOK_S)


def _is_orphaned(owner: str) -> bool:
    pid, start, _ = owner.split(".")
    return processes.identity(int(pid)) != (int(pid), int(start))


def _found(is_sought: Callable[[str], bool]) -> list[int]:
    """Return the other processes of this user, in this container, whose owner is sought."""
    prefix, found = f"{OWNER}=".encode(), []
    for pid, entries in processes.mine():
        marks = [entry for entry in entries if entry.startswith(prefix)]
        with contextlib.suppress(ValueError):  # its mark is not ours
            if marks and is_sought(marks[0].removeprefix(prefix).decode()) and processes.identity(pid):
                found.append(pid)
    return found
