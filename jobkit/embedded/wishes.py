"""What local workers shall serve: one small file per namespace, written by who submits, read by the supervisor.

A file and not a message: wishes outlive the supervisor, so that jobs that waited through a restart find their worker.
Its modification time says when somebody last connected.
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

from jobkit.embedded.home import Home, write_private
from jobkit.settings import Settings

#: Settings that a local worker takes over from who asked for it.
_PASSED_ON = (
    "lease", "heartbeat", "cancel_grace", "drain", "result_ttl", "max_losses", "keep", "results", "start_method",
    "locals",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wish:
    """What one namespace's worker needs.

    Attributes:
        tasks: modules to import, each once, in the order in which they were asked for.
        folders: directories to import them from: the working directories of those who asked, newest first.
        environ: `JOBKIT_...` variables of the settings in `_PASSED_ON`.
        origins: `sys.prefix` of who asked first, by module.
        idle_stop: seconds without need after which the server may stop.
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
    def of(cls, settings: Settings) -> Wish:
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

    def joined(self, other: Wish) -> Wish:
        """This wish and an older one: workers that have the modules of both. Times are the newer ones."""
        return Wish(
            self.namespace,
            tuple(dict.fromkeys((*other.tasks, *self.tasks))),
            tuple(dict.fromkeys((*self.folders, *other.folders))),
            self.environ,
            self.idle_stop,
            self.drain,
            {**self.origins, **other.origins},
        )

    def tasks_of(self, prefix: str) -> tuple[str, ...]:
        """Return the modules that were asked for from the environment `prefix`."""
        return tuple(name for name in self.tasks if self.origins.get(name, prefix) == prefix)

    @property
    def workers_need(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What makes a running worker the wrong one when it changes."""
        return self.tasks, self.folders


def ask_for(home: Home, settings: Settings) -> bool:
    """Writes down what `settings` need, and that somebody is here now; True where that is news for the supervisor."""
    path = home.namespaces / f"{settings.namespace}.json"
    wish = Wish.of(settings)
    known = _read(path)
    if known is not None:
        wish = wish.joined(known)
        if wish == known:
            os.utime(path)
            return False
    write_private(path, json.dumps(asdict(wish)))
    return known is None or wish.workers_need != known.workers_need


def attend(home: Home, settings: Settings) -> bool:
    """Note that somebody is here now. What running workers load stays: only a submit changes that (`ask_for`).

    Returns:
        True if this is news for the supervisor: nobody has asked for this namespace before.
    """
    path = home.namespaces / f"{settings.namespace}.json"
    if _read(path) is None:
        return ask_for(home, settings)
    os.utime(path)
    return False


def wishes(home: Home) -> dict[str, Wish]:
    """All wishes by namespace; unreadable files are left out."""
    found = (_read(path) for path in sorted(home.namespaces.glob("*.json")))
    return {wish.namespace: wish for wish in found if wish is not None}


def last_asked_s(home: Home) -> float:
    """Seconds since somebody last connected; infinity where nobody ever did."""
    newest = max((path.stat().st_mtime for path in home.namespaces.glob("*.json")), default=float("-inf"))
    return max(0.0, time.time() - newest)


def _read(path: Path) -> Wish | None:
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return Wish(
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
    except OSError:  # removed under our feet
        return os.path.dirname(os.path.abspath(sys.argv[0]))
