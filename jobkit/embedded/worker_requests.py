"""Requests to the supervisor for local workers: one small file per namespace, written by clients.

A file instead of a message: requests outlive the supervisor, so that jobs that waited during a restart get a worker.
Its modification time is that of the last connection.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jobkit.embedded.home import Home
from jobkit.own_machine import write_private
from jobkit.settings import Settings

#: Settings that a local worker inherits from the client.
_PASSED_ON = (
    "lease", "heartbeat", "cancel_grace", "drain", "result_ttl", "max_losses", "keep", "results", "start_method",
    "locals",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """Requirements for the local worker of a namespace.

    Attributes:
        tasks: modules to import, without duplicates, in the order of the requests.
        folders: directories to import them from: the clients' working directories, newest first.
        environ: `JOBKIT_...` variables of the settings in `_PASSED_ON`.
        origins: `sys.prefix` of the first client that requested it, by module.
        idle_stop: seconds without use after which the server may stop.
        drain: seconds that a stopping worker waits for its jobs.
    """

    namespace: str
    tasks: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    environ: Mapping[str, str] | None = None
    idle_stop: float = 600.0
    drain: float = 30.0
    origins: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> WorkerRequest:
        environ = {f"JOBKIT_{name.upper()}": f"{getattr(settings, name)}" for name in _PASSED_ON}
        return cls(
            namespace=settings.namespace,
            tasks=settings.tasks,
            folders=(_cwd(),) if settings.tasks else (),
            environ={name: value for name, value in environ.items() if value},
            idle_stop=settings.idle_stop,
            drain=settings.drain,
            origins=dict.fromkeys(settings.tasks, sys.prefix),
        )

    def joined(self, other: WorkerRequest) -> WorkerRequest:
        """Return the union with an older request: the modules of both, the newer times."""
        return WorkerRequest(
            self.namespace,
            tuple(dict.fromkeys((*other.tasks, *self.tasks))),
            tuple(dict.fromkeys((*self.folders, *other.folders))),
            self.environ,
            self.idle_stop,
            self.drain,
            {**self.origins, **other.origins},
        )

    def tasks_of(self, prefix: str) -> tuple[str, ...]:
        """Return the modules that were requested from the environment `prefix`."""
        return tuple(name for name in self.tasks if self.origins.get(name, prefix) == prefix)

    @property
    def workers_need(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Requirements that need a new worker when they change."""
        return self.tasks, self.folders


def request_workers(home: Home, settings: Settings) -> bool:
    """Write the requirements of `settings` and the time of use; return True if the supervisor must be notified."""
    path = home.namespaces / f"{settings.namespace}.json"
    request = WorkerRequest.of(settings)
    known = _read(path)
    if known is not None:
        request = request.joined(known)
        if request == known:
            os.utime(path)
            return False
    write_private(path, json.dumps(asdict(request)))
    return known is None or request.workers_need != known.workers_need


def touch(home: Home, settings: Settings) -> bool:
    """Write the time of use without changing what workers load; only a submit does that (`request_workers`).

    Returns:
        True if the supervisor must be notified: this namespace is new.
    """
    path = home.namespaces / f"{settings.namespace}.json"
    if _read(path) is None:
        return request_workers(home, settings)
    os.utime(path)
    return False


def read_requests(home: Home) -> dict[str, WorkerRequest]:
    """Return all requests by namespace; unreadable files are ignored."""
    found = (_read(path) for path in sorted(home.namespaces.glob("*.json")))
    return {request.namespace: request for request in found if request is not None}


def last_used_s(home: Home) -> float:
    """Return the seconds since a client last connected; infinity if none ever did."""
    newest = max((path.stat().st_mtime for path in home.namespaces.glob("*.json")), default=float("-inf"))
    return max(0.0, time.time() - newest)


def _read(path: Path) -> WorkerRequest | None:
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return WorkerRequest(
            namespace=str(data["namespace"]),
            tasks=tuple(map(str, data["tasks"])),
            folders=tuple(map(str, data["folders"])),
            environ={str(name): str(value) for name, value in data["environ"].items()},
            idle_stop=float(data["idle_stop"]),
            drain=float(data["drain"]),
            origins={str(name): str(value) for name, value in data.get("origins", {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _cwd() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it has been deleted
        return os.path.dirname(os.path.abspath(sys.argv[0]))
