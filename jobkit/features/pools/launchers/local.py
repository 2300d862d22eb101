"""Workers as processes of this machine: for more of them while jobs wait, and to try pools without a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from jobkit.access.own_machine import write_private
from jobkit.features.pools.launcher import (
    EngineUnavailable,
    Launcher,
    LaunchRefused,
    Unit,
    WorkerOrder,
    worker_command,
    worker_environment,
)
from jobkit.features.pools.launchers.support import PrivateFolder
from jobkit.features.pools.launchers.unit_process import command
from jobkit.system import processes

#: Seconds for which the files of a unit are kept.
_KEPT_S = 3 * 86_400

#: Processes that this one has started, by unit; they outlive it, and no launcher owns them.
_children: dict[str, subprocess.Popen[bytes]] = {}


class LocalOptions(msgspec.Struct, frozen=True):
    """Options of a pool on this machine.

    Attributes:
        folder: working directory of the workers, from which they import tasks.
    """

    folder: str = msgspec.field(default_factory=os.getcwd)

    def __post_init__(self) -> None:
        if not Path(self.folder).expanduser().is_dir():
            raise ValueError(f"folder must be a directory, not {self.folder!r}")


class LocalLauncher(Launcher):
    """Each unit is a detached process with a folder of this user alone: its process id and its log.

    A unit is found again by that file, which names its process and the time of its start.
    """

    Options: ClassVar[type[msgspec.Struct]] = LocalOptions
    LIST_S: ClassVar[float] = 1.0

    def __init__(self, pool: str, options: LocalOptions) -> None:
        self._options = options
        self._files = PrivateFolder(pool, str(Path(tempfile.gettempdir()) / f"jobkit-pools-{os.geteuid()}"))
        self._folder = self._files.path

    async def start(self, orders: Sequence[WorkerOrder]) -> list[Unit]:
        return await asyncio.to_thread(lambda: [self._start(order) for order in orders])

    def _start(self, order: WorkerOrder) -> Unit:
        for path in (self._folder.parent, self._folder):
            path.mkdir(mode=0o700, exist_ok=True)
        self._check_owner(LaunchRefused)
        log = self._folder / f"{order.unit}.log"
        python = order.python or sys.executable
        with os.fdopen(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as output:
            try:
                process = subprocess.Popen(
                    command(order.setup, python, worker_command(order)),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **worker_environment(order, f"local {os.uname().nodename}")},
                    cwd=Path(self._options.folder).expanduser(),
                    start_new_session=True,
                )
            except OSError as error:
                raise LaunchRefused(f"{python} could not be started: {error.strerror or error}") from None
        _children[order.unit] = process
        write_private(self._folder / f"{order.unit}.pid", processes.mark(process.pid))
        return Unit(order.unit, str(process.pid), "running", host=os.uname().nodename)

    def _check_owner(self, refusal: type[LaunchRefused | EngineUnavailable]) -> None:
        """Raise `refusal` if others can write into the folder: its files name processes that are stopped."""
        for path in (self._folder.parent, self._folder):
            with contextlib.suppress(FileNotFoundError):
                facts = path.lstat()
                if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
                    raise refusal(f"{path} belongs to another user: remove it, or set TMPDIR")

    async def list(self) -> list[Unit]:
        return await asyncio.to_thread(lambda: list(self._units()))

    def _units(self) -> Iterator[Unit]:
        for process in list(_children.values()):  # pools list in threads
            process.poll()  # reaps it
        self._check_owner(EngineUnavailable)
        for path in sorted(self._folder.glob("*.pid")):
            with contextlib.suppress(OSError):
                unit, mark, age_s = path.stem, path.read_text("ascii"), time.time() - path.stat().st_mtime
                if not processes.has_died(mark):
                    yield Unit(unit, _pid(mark), "running", host=os.uname().nodename)
                elif age_s < _KEPT_S:
                    yield Unit(unit, _pid(mark), "ended", error=self._last_words(unit))
                else:
                    path.unlink()
                    path.with_suffix(".log").unlink(missing_ok=True)

    def _last_words(self, unit: str) -> str:
        """Return why a worker has ended, "" if it was asked to."""
        process = _children.get(unit)
        if process is not None and process.returncode in (0, -signal.SIGTERM):
            return ""
        return self._files.last_line(f"{unit}.log")

    async def stop(self, units: Sequence[str], *, now: bool = False) -> None:
        self._check_owner(EngineUnavailable)
        for unit in units:
            with contextlib.suppress(OSError):
                mark = (self._folder / f"{unit}.pid").read_text("ascii")
                if not processes.has_died(mark):
                    pid = int(_pid(mark))
                    processes.send(-pid if now else pid, signal.SIGKILL if now else signal.SIGTERM)


def _pid(mark: str) -> str:
    """Return the process id in a mark of `processes.mark`."""
    return mark.split()[2]
