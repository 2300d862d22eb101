"""The breakable parts of a chaos run: processes, a disk, and the outages that go on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import psutil
import redis

from tests.chaos.outages import HEARTBEAT_S, LEASE_S, MAX_LOSSES, OUTAGES
from tests.support import ROOT, environment, free_port, living_with, wait_until

#: Seconds after the last disturbance within which a page has to be up to date.
SETTLE_S = 5.0

#: Size of the disk that can be full (MB), and whether this process may mount one: see `__main__`.
DISK_MB = 100
MAY_MOUNT = "CHAOS_MAY_MOUNT"

#: Folder whose `sitecustomize` applies a fault.
SITE = ROOT / "tests/chaos/site"


@dataclass(slots=True)
class Ongoing:
    """An outage that lasts until a time of the monotonic clock."""

    name: str
    until: float
    rest: Iterator[float]


class World(ABC):
    """The processes of a run, and ways to break them. `Team` and `Embedded` are the two places where jobs run.

    Args:
        folder: of the run, with a short path. fault: a name in `faults`. run: marks the processes.
    """

    place: ClassVar[str]

    def __init__(self, folder: Path, fault: str, run: str, settings: dict[str, Any]) -> None:
        self.folder, self.run = folder, run
        self.disk = folder / "disk"
        self.temporary = self.disk / "tmp"
        self.home = self.disk / "home"
        for path in (self.disk, self.temporary):
            path.mkdir(mode=0o700)
            if path == self.disk and MAY_MOUNT in os.environ:
                size = f"size={DISK_MB}m,mode=0700"
                subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path)], check=True)
        self.settings = {"namespace": "chaos", "home": str(self.home), **settings}
        names = {f"JOBKIT_{name.upper()}": value for name, value in self.settings.items()}
        self.env = environment(
            **names,
            JOBKIT_LEASE=str(LEASE_S),
            JOBKIT_HEARTBEAT=str(HEARTBEAT_S),
            JOBKIT_MAX_LOSSES=str(MAX_LOSSES),
            JOBKIT_DRAIN="1.5",
            JOBKIT_CANCEL_GRACE="1",
            JOBKIT_TASKS="tests.chaos.jobs",
            TMPDIR=str(self.temporary),
            CHAOS_FAULT=fault,
            CHAOS_RUN=run,
        )
        if fault:
            self.env["PYTHONPATH"] = os.pathsep.join([str(SITE), self.env["PYTHONPATH"]])
        self.port = free_port()
        self.dashboard: subprocess.Popen[bytes] | None = None
        self._dashboard_log = (folder / "dashboard.log").open("ab")
        self._ongoing: list[Ongoing] = []
        self._disturbed_at = time.monotonic()
        self._began = time.monotonic()
        self.counts: Counter[str] = Counter()

    # -- what a kind of world has ------------------------------------------------------------------------------------

    server: Any
    """Redis: `socket`, `url`, `is_running`, `kill()` and `start()`."""

    @property
    @abstractmethod
    def workers(self) -> Sequence[psutil.Process | subprocess.Popen[bytes]]:
        """The living workers."""

    @abstractmethod
    def start(self) -> None:
        """Start all processes."""

    @abstractmethod
    def retire(self, worker: Any, by: signal.Signals = signal.SIGTERM) -> None:
        """Ask a worker to end."""

    @abstractmethod
    def stop_workers(self) -> list[str]:
        """Stop all workers with SIGTERM; return the problems."""

    @abstractmethod
    def logs(self) -> list[Path]:
        """Return the files with what jobkit's processes have said."""

    @abstractmethod
    def end(self) -> None:
        """End all processes except the dashboard."""

    # -- outages -----------------------------------------------------------------------------------------------------

    def possible(self) -> list[str]:
        """Return the names of the outages that can happen here."""
        names = [name for name, outage in OUTAGES.items() if self.place in outage.places]
        return names if self.disk.is_mount() else [name for name in names if name not in ("full", "starved")]

    def begin(self, name: str, rng: Random) -> None:
        """Begin an outage, unless the same one still goes on."""
        if any(each.name == name for each in self._ongoing):
            return
        with (self.folder / "broken.log").open("a") as log:
            log.write(f"{time.monotonic() - self._began:.2f} {name}\n")
        self.counts[name] += 1
        self._disturb(name)
        rest = OUTAGES[name].begin(self, rng)
        if rest is not None and (seconds := next(rest, None)) is not None:
            self._ongoing.append(Ongoing(name, time.monotonic() + seconds, rest))

    def keep_up(self, until: float | None = None) -> None:
        """End outages whose time is over, and replace what has died."""
        until = time.monotonic() if until is None else until
        for each in [each for each in self._ongoing if each.until <= until]:
            self._ongoing.remove(each)
            next(each.rest, None)
            self._disturb(each.name)
        if self.dashboard is None or self.dashboard.poll() is not None:
            command = [sys.executable, "-m", "jobkit", "dashboard", "--port", str(self.port)]
            self.dashboard = subprocess.Popen(
                command, env=self.env, stdout=subprocess.DEVNULL, stderr=self._dashboard_log
            )
            self._disturb("dashboard")

    def calm(self) -> None:
        """Repair everything."""
        self.keep_up(until=float("inf"))

    @property
    def is_broken(self) -> bool:
        """True while an outage goes on."""
        return bool(self._ongoing)

    @property
    def may_lose_writes(self) -> bool:
        """True while Redis's disk is full: if it dies now, it loses what it took before it noticed that."""
        return self.place == "home" and any(each.name in ("full", "starved") for each in self._ongoing)

    @property
    def is_calm(self) -> bool:
        """True if the dashboard has had enough time to be up to date."""
        disturbs = any(OUTAGES[each.name].disturbs for each in self._ongoing)
        return not disturbs and time.monotonic() - self._disturbed_at > SETTLE_S

    def _disturb(self, name: str) -> None:
        if OUTAGES[name].disturbs:
            self._disturbed_at = time.monotonic()

    def tell_proxy(self, command: str) -> None:
        """Send a command to the proxy in front of Redis; only in a world that has one."""
        raise NotImplementedError

    def kill_supervisor(self) -> None:
        """Kill the home's supervisor; only in a world that has one."""
        raise NotImplementedError

    def ask(self, *command: str | bytes) -> Any:
        """Send a command to Redis itself; None if it is away."""
        with (
            contextlib.suppress(redis.ConnectionError),
            redis.Redis(unix_socket_path=str(self.server.socket)) as client,
        ):
            return client.execute_command(*command)

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> list[str]:
        """End everything; return the remaining processes."""
        if self.dashboard is not None:
            self.dashboard.terminate()
            try:
                self.dashboard.wait(20)
            except subprocess.TimeoutExpired:
                self.dashboard.kill()
                self.dashboard.wait()
        self._dashboard_log.close()
        if (self.home / "logs").exists():
            shutil.copytree(self.home / "logs", self.folder / "logs")
        self.end()
        left = self._left()
        if self.disk.is_mount():
            subprocess.run(["umount", "--lazy", str(self.disk)], check=True)
        return left

    def _left(self) -> list[str]:
        try:
            wait_until(lambda: not living_with("CHAOS_RUN", self.run))
        except AssertionError:
            left = living_with("CHAOS_RUN", self.run)
            said = [f"process {p.pid} was left: {' '.join(p.cmdline())[:100]}" for p in left]
            for process in left:
                process.kill()
            return said
        return []
