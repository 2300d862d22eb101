"""The world of a team: a Redis behind an unreliable proxy, and workers that are started one by one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.world import World
from tests.store.server import Server
from tests.support import environment


class Team(World):
    """Workers of this version and of a later one in turn.

    Args:
        workers: number that is kept alive.
        appendfsync: when Redis flushes its append-only file: "always", "everysec" or "no".
    """

    place = "team"

    def __init__(self, folder: Path, fault: str, run: str, *, workers: int = 3, appendfsync: str = "no") -> None:
        self._socket = folder / "p.sock"
        settings = {
            "url": f"unix://{self._socket}",
            "secret": "of this run",
            "results": str(folder / "disk/results"),
        }
        super().__init__(folder, fault, run, settings)
        self.server = Server("", "--appendfsync", appendfsync)
        self._count = workers
        self._started = 0
        self._born: dict[int, float] = {}
        self._workers: list[subprocess.Popen[bytes]] = []
        self._ending: list[subprocess.Popen[bytes]] = []
        self._log = (folder / "workers.log").open("ab")

    @property
    def workers(self) -> Sequence[subprocess.Popen[bytes]]:
        return self._workers

    def start(self) -> None:
        self.server.start()
        command = [sys.executable, "-m", "tests.chaos.proxy", str(self._socket), str(self.server.socket)]
        self._proxy = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(CHAOS_RUN=self.run)
        )
        assert self._proxy.stdout is not None
        assert self._proxy.stdout.readline() == b"ready\n"
        self.keep_up()

    def keep_up(self, until: float | None = None) -> None:
        super().keep_up(until)
        self._ending = [worker for worker in self._ending if worker.poll() is None]
        self._workers = [worker for worker in self._workers if worker.poll() is None]
        while len(self._workers) < self._count:
            self._workers.append(self._worker())

    def _worker(self) -> subprocess.Popen[bytes]:
        """Start the next worker: of this version and of a later one in turn."""
        self._started += 1
        module = "tests.chaos.newer" if self._started % 2 else "jobkit"
        command = [sys.executable, "-m", module, "worker", "-c", "4"]
        worker = subprocess.Popen(command, env=self.env, stderr=self._log)
        self._born[worker.pid] = time.monotonic()
        return worker

    def retire(self, worker: subprocess.Popen[bytes], by: signal.Signals = signal.SIGTERM) -> None:
        self._workers.remove(worker)
        self._ending.append(worker)
        worker.send_signal(by)

    def tell_proxy(self, command: str) -> None:
        assert self._proxy.stdin is not None
        self._proxy.stdin.write(f"{command}\n".encode())
        self._proxy.stdin.flush()

    def stop_workers(self) -> list[str]:
        for worker in self._workers:
            worker.terminate()
        problems = []
        for worker in (*self._workers, *self._ending):
            try:
                status = worker.wait(20)
                is_unborn = status == -signal.SIGTERM and time.monotonic() - self._born[worker.pid] < 30
                if status and worker not in self._ending and not is_unborn:  # killed before it could handle the signal
                    problems.append(f"worker {worker.pid} ended with status {status}")
            except subprocess.TimeoutExpired:
                problems.append(f"worker {worker.pid} did not end within 20 s of SIGTERM")
        return problems

    def logs(self) -> list[Path]:
        return [self.folder / "workers.log", self.folder / "dashboard.log"]

    def end(self) -> None:
        assert self._proxy.stdin is not None
        self._proxy.stdin.close()
        self._proxy.wait(5)
        assert self._proxy.stdout is not None
        self._proxy.stdout.close()
        self.server.stop()
        self._log.close()
