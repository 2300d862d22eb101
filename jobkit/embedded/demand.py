"""Demand for the embedded server of a home: its workers, when it was last used, and further background processes.

Requests are small files that clients write, one for each namespace and process. A file instead of a message: requests
outlive the supervisor, so that jobs that waited during a restart get a worker, and a later supervisor starts these
processes again. The modification time of a request for workers is that of the last use.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from jobkit.access.own_machine import write_private
from jobkit.embedded.home import Home, make_private, signal_to
from jobkit.settings import Settings

T = TypeVar("T")

#: Name of the gateway, which lets other machines in, among the services of a home.
GATEWAY = "gateway"

#: Settings that a local worker inherits from the client.
_PASSED_ON = (
    "slots", "lease", "heartbeat", "cancel_grace", "drain", "result_ttl", "max_losses", "keep", "results", "archive",
    "archive_files", "start_method", "import_ahead", "locals", "made_by", "made_env",
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
    environ: Mapping[str, str] = field(default_factory=dict)
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
        return replace(
            self,
            tasks=tuple(dict.fromkeys((*other.tasks, *self.tasks))),
            folders=tuple(dict.fromkeys((*self.folders, *other.folders))),
            origins={**self.origins, **other.origins},
        )

    def with_slots(self, slots: str) -> WorkerRequest:
        """Return this request with another number of jobs at once."""
        return replace(self, environ={**self.environ, "JOBKIT_SLOTS": slots})

    @property
    def slots(self) -> str:
        """Jobs at once, as text; "0" for the default."""
        return self.environ.get("JOBKIT_SLOTS", "0")

    @property
    def workers_need(self) -> tuple[tuple[str, ...], tuple[str, ...], str, str]:
        """Requirements that need a new worker when they change; without that of the archive, jobs would go nowhere."""
        return self.tasks, self.folders, self.environ.get("JOBKIT_ARCHIVE", ""), self.slots


def request_workers(home: Home, settings: Settings, *, only_looks: bool = False) -> bool:
    """Write the requirements of `settings` and the time of use; return True if the supervisor must be notified.

    With `only_looks`, the requirements are written only if the namespace is new, and if that is possible: only a submit
    changes what workers load. Else raises OSError. A number of slots holds until another one is given or the server
    stops: clients that give none do not change it.
    """
    path = home.namespaces / f"{settings.namespace}.json"
    request = WorkerRequest.of(settings)
    known = _read(path, WorkerRequest)
    if known is not None:
        is_served = home.is_supervised()
        slots = known.slots if is_served and (only_looks or request.slots == "0") else request.slots
        request = (known if only_looks else request.joined(known)).with_slots(slots)
        if request == known:
            _touch(path)
            return False
    try:
        write_private(path, msgspec.json.encode(request).decode())
    except OSError:
        if not only_looks:
            raise
        return False
    return known is None or request.workers_need != known.workers_need


def read_requests(home: Home) -> dict[str, WorkerRequest]:
    """Return all requests by namespace; unreadable files are ignored."""
    return {request.namespace: request for request in _read_all(home.namespaces, WorkerRequest).values()}


def last_used_s(home: Home) -> float:
    """Return the seconds since the server was last used; infinity if it never was."""
    newest = max((path.stat().st_mtime for path in home.namespaces.glob("*.json")), default=float("-inf"))
    return max(0.0, time.time() - newest)


def mark_used(home: Home) -> None:
    """Let `last_used_s` count from now on."""
    for path in home.namespaces.glob("*.json"):
        _touch(path)


def _touch(path: Path) -> None:
    with suppress(OSError):
        os.utime(path)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def _read_all(folder: Path, kind: type[T]) -> dict[str, T]:
    """Return the requests in a folder by the names of their files, without unreadable ones."""
    found = {path.stem: _read(path, kind) for path in sorted(folder.glob("*.json"))}
    return {name: request for name, request in found.items() if request is not None}


def _cwd() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it has been deleted
        return os.path.dirname(os.path.abspath(sys.argv[0]))


# -- further processes -------------------------------------------------------------------------------------------------


class Service(msgspec.Struct, frozen=True):
    """A process: `python -m MODULE --home HOME ARGUMENTS`. A change of any field restarts it.

    Attributes:
        is_use: the server does not stop by itself while it is kept.
    """

    module: str
    arguments: tuple[str, ...] = ()
    is_use: bool = True


def keep_service(home: Home, name: str, service: Service) -> bool:
    """Let the supervisor of a home keep a process; return True if that is news. Raises OSError if it cannot."""
    make_private(home.services, "the jobkit home's directory")
    if read_services(home).get(name) == service:
        return False
    write_private(home.services / f"{name}.json", msgspec.json.encode(service).decode())
    signal_to(home.status(), signal.SIGHUP)
    return True


def end_service(home: Home, name: str) -> bool:
    """Let the supervisor stop a process; return True if that is news."""
    try:
        (home.services / f"{name}.json").unlink()
    except FileNotFoundError:
        return False
    signal_to(home.status(), signal.SIGHUP)
    return True


def read_services(home: Home) -> dict[str, Service]:
    """Return the services of a home by name; unreadable files are ignored."""
    return _read_all(home.services, Service)


def has_other_machines(home: Home) -> bool:
    """Return whether workers of other machines may serve a home. As cheap as a submit needs it."""
    return (home.services / f"{GATEWAY}.json").exists()


def service_log(home: Home, name: str) -> Path:
    """Return the path of a service's log."""
    return home.logs / f"{name}.log"
