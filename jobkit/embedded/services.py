"""Further background processes of a home, which its supervisor keeps alive beside server and workers.

Each is a small file of the home: the module to run, with `--home HOME` and more arguments. A later supervisor starts
these processes again.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import msgspec

from jobkit.embedded.children import Child
from jobkit.embedded.home import Home, make_private, say
from jobkit.embedded.launch import signal_to
from jobkit.own_machine import write_private


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
    found = {}
    for path in sorted(home.services.glob("*.json")):
        try:
            found[path.stem] = msgspec.json.decode(path.read_bytes(), type=Service)
        except (OSError, msgspec.MsgspecError):
            continue
    return found


def child_of(home: Home, name: str, service: Service, environ: dict[str, str]) -> Child:
    """Return the process for a keeper."""
    return Child(
        name=name,
        argv=[sys.executable, "-P", "-m", service.module, "--home", str(home.path), *service.arguments],
        log=service_log(home, name),
        env=environ,
        cwd=home.path,
        death_signal=signal.SIGTERM,
        say=say,
    )


def service_log(home: Home, name: str) -> Path:
    """Return the path of a service's log."""
    return home.logs / f"{name}.log"
