"""The world of one person: a home with its supervisor, Redis and local worker."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from jobkit.embedded import ensure_running
from jobkit.embedded.home import Home
from jobkit.embedded.launch import server_url
from jobkit.embedded.server import answers, ask
from jobkit.settings import Settings
from tests.chaos.world import World
from tests.support import wait_until


class HomeServer:
    """Redis of a home, which its supervisor restarts."""

    def __init__(self, home: Home) -> None:
        self._home = home

    @property
    def socket(self) -> Path:
        return self._home.socket

    @property
    def url(self) -> str:
        return server_url(self._home)

    @property
    def is_running(self) -> bool:
        return answers(str(self.socket))

    @property
    def pid(self) -> int:
        return int(str(ask(str(self.socket), "INFO", "server")).split("process_id:")[1].split()[0])

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def start(self) -> None:
        """Leave it to the supervisor."""


class Embedded(World):
    """The jobs of `local://`."""

    place = "home"

    def __init__(self, folder: Path, fault: str, run: str) -> None:
        super().__init__(folder, fault, run, {"url": "local://"})
        self._home = Home(self.home)
        self.server = HomeServer(self._home)

    def start(self, *, shows: bool = True) -> None:
        """Start it, and with `shows` a dashboard."""
        os.environ |= {name: value for name, value in self.env.items() if not name.startswith("CHAOS_FAULT")}
        ensure_running(Settings.load())
        wait_until(lambda: self.workers, what="the local worker")
        if shows:
            self.keep_up()

    @property
    def _supervisor(self) -> psutil.Process | None:
        try:
            process = psutil.Process(int(self._home.status()["pid"]))
            return process if "jobkit.embedded.supervisor" in process.cmdline() else None
        except (KeyError, psutil.Error):
            return None

    @property
    def workers(self) -> list[psutil.Process]:
        found = []
        for process in self._supervisor.children() if self._supervisor else ():
            with contextlib.suppress(psutil.Error):
                if "--embedded" in process.cmdline():
                    found.append(process)
        return found

    def retire(self, worker: Any, by: signal.Signals = signal.SIGTERM) -> None:
        worker.send_signal(by)

    def kill_supervisor(self) -> None:
        if (supervisor := self._supervisor) is not None:
            supervisor.kill()

    def stop_workers(self) -> list[str]:
        """Stop the workers, and the supervisor from starting others: Redis has to live."""
        workers = self.workers
        if self._supervisor is not None:
            self._supervisor.suspend()
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + 20
        while awake := [each for each in workers if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]:
            if time.monotonic() > deadline:
                return [f"worker {worker.pid} did not end within 20 s of SIGTERM" for worker in awake]
            time.sleep(0.05)
        return []

    def logs(self) -> list[Path]:
        return [*self._home.logs.glob("*.log"), self.folder / "dashboard.log"]

    def end(self) -> None:
        """Delete the home, with which all of its processes have to end."""
        if self._supervisor is not None:
            self._supervisor.resume()
        shutil.rmtree(self.home, ignore_errors=True)
