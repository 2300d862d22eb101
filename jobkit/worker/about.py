"""What a worker tells others about itself."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil

from jobkit.store.base import WorkerInfo


def identify(queues: Sequence[str], slots: int, tasks: Sequence[str]) -> WorkerInfo:
    """This process as a worker, under a new id."""
    host = socket.gethostname()
    return WorkerInfo(
        id=f"{_safe(host)}.{os.getpid()}.{secrets.token_hex(3)}",
        host=host,
        pid=os.getpid(),
        queues=tuple(queues),
        slots=slots,
        started_ms=int(time.time() * 1000),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        tasks=tuple(tasks),
    )


def facts(info: WorkerInfo, process: psutil.Process, **counted: int) -> dict[str, Any]:
    """What each heartbeat carries: the words and numbers of the worker's record, by their names there."""
    return {
        "host": info.host,
        "pid": info.pid,
        "queues": ",".join(info.queues),
        "slots": info.slots,
        "started": info.started_ms,
        "version": _version(),
        "python": info.python,
        "tasks": ",".join(info.tasks),
        "cpu": process.cpu_percent(),
        "rss": process.memory_info().rss,
        **counted,
    }


def _safe(name: str) -> str:
    """A host name as it may stand in a key."""
    return "".join(c if c.isalnum() or c in "_-" else "-" for c in name)[:60] or "host"


def _version() -> str:
    from jobkit import __version__

    return __version__
