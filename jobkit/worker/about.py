"""Facts about a worker: its identity and its record."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from jobkit.store.values import WorkerInfo


def identify(
    queues: Sequence[str] | Mapping[str, float],
    slots: int,
    tasks: Sequence[str],
    resources: Mapping[str, float] | None = None,
) -> WorkerInfo:
    """This process as a worker, under a new id. Queues with weights share its slots, others are served in order."""
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
        weights=dict(queues) if isinstance(queues, Mapping) else {},
        resources=dict(resources or {}),
    )


def facts(info: WorkerInfo, process: psutil.Process, **counted: int) -> dict[str, Any]:
    """Return the fields of the worker's record that each heartbeat stores."""
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
        **({"weights": json.dumps(dict(info.weights))} if info.weights else {}),
        **({"has": json.dumps(dict(info.resources))} if info.resources else {}),
        **counted,
    }


def _safe(name: str) -> str:
    """A host name as it may stand in a key."""
    return "".join(c if c.isalnum() or c in "_-" else "-" for c in name)[:60] or "host"


def _version() -> str:
    from jobkit import __version__

    return __version__
