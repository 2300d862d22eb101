"""The breakable parts of a chaos run: a server behind a proxy, a dashboard, and workers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.store.server import Server
from tests.support import ROOT, environment, living_with, wait_until

LEASE_S, HEARTBEAT_S, MAX_LOSSES = 2.0, 0.5, 4

#: Seconds after the last disturbance within which a page has to be up to date.
SETTLE_S = 5.0


class World:
    """The processes of a run, and ways to break them.

    Args:
        folder: of the run, with a short path.
        workers: number that is kept alive.
        fault: a name in `faults`. run: marks the processes. only: the one kind of breakage, "" for all of `WEIGHTS`.
        older: a revision of this repository whose workers serve beside those of this version and a later one.
    """

    def __init__(
        self, folder: Path, rng: random.Random, workers: int, fault: str, run: str, only: str, older: str = ""
    ) -> None:
        self.folder, self.rng, self._count, self._run = folder, rng, workers, run
        self._only = only
        self.server = Server()
        self.socket = folder / "p.sock"
        self.settings = {"url": f"unix://{self.socket}", "namespace": "chaos", "secret": "of this run"}
        self._env = environment(
            JOBKIT_URL=self.settings["url"],
            JOBKIT_NAMESPACE="chaos",
            JOBKIT_SECRET="of this run",
            JOBKIT_HOME=str(folder / "home"),
            JOBKIT_LEASE=str(LEASE_S),
            JOBKIT_HEARTBEAT=str(HEARTBEAT_S),
            JOBKIT_MAX_LOSSES=str(MAX_LOSSES),
            JOBKIT_DRAIN="1.5",
            JOBKIT_CANCEL_GRACE="1",
            CHAOS_FAULT=fault,
            CHAOS_RUN=run,
        )
        self._older = _earlier(older, folder / "older") if older else None
        self._started = 0
        self._born: dict[int, float] = {}
        self.workers: list[subprocess.Popen[bytes]] = []
        self.dashboard: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.disturbed_at = time.monotonic()
        """Time of the last disturbance between the dashboard and the records."""
        self.ending: list[subprocess.Popen[bytes]] = []
        self._asleep: dict[int, tuple[float, list[psutil.Process]]] = {}  # pid -> when to wake, what sleeps
        self.log = (folder / "workers.log").open("ab")
        self.dashboard_log = (folder / "dashboard.log").open("ab")
        self._down_until = 0.0
        self.counts: dict[str, int] = {}

    @property
    def has_older(self) -> bool:
        """True if workers of an earlier version serve."""
        return self._older is not None

    @property
    def is_calm(self) -> bool:
        """True if the dashboard has had enough time to be up to date."""
        return not self._down_until and time.monotonic() - self.disturbed_at > SETTLE_S

    def start(self) -> None:
        self.server.start()
        command = [sys.executable, "-m", "tests.chaos.proxy", str(self.socket), str(self.server.socket)]
        self._proxy = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(CHAOS_RUN=self._run)
        )
        assert self._proxy.stdout is not None
        assert self._proxy.stdout.readline() == b"ready\n"
        self.keep_up()

    def keep_up(self) -> None:
        """Replace workers that died or end, wake stopped ones when it is time, restart the server when it is time."""
        now = time.monotonic()
        for pid, (wake_at, processes) in list(self._asleep.items()):
            if now >= wake_at:
                del self._asleep[pid]
                for process in processes:
                    _signal(process, signal.SIGCONT)
        if self._down_until and now >= self._down_until:
            self._down_until = 0.0
            self.server.start()
            self.disturbed_at = now
        self.ending = [worker for worker in self.ending if worker.poll() is None]
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < self._count:
            self.workers.append(self._worker())
        if self.dashboard is None or self.dashboard.poll() is not None:
            command = [sys.executable, "-m", "jobkit", "dashboard", "--port", str(self.port)]
            env = {**self._env, "JOBKIT_TASKS": "tests.chaos.jobs"}  # a fault comes with them
            self.dashboard = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=self.dashboard_log)
            self.disturbed_at = now

    def _worker(self) -> subprocess.Popen[bytes]:
        """Start the next worker: of this version, a later one and an earlier one in turn."""
        self._started += 1
        kind = self._started % (3 if self._older else 2)
        module = "tests.chaos.newer" if kind == 1 else "jobkit"
        env = (
            {**self._env, "PYTHONPATH": f"{self._older}{os.pathsep}{self._env['PYTHONPATH']}"}
            if kind == 2
            else self._env
        )
        command = [sys.executable, "-m", module, "worker", "-c", "4", "-t", "tests.chaos.jobs"]
        worker = subprocess.Popen(command, env=env, stderr=self.log, cwd=self._older if kind == 2 else None)
        self._born[worker.pid] = time.monotonic()
        return worker

    # -- what can happen ----------------------------------------------------------------------------------------------

    def hurt(self, lull: bool = False) -> None:
        """Break one thing; in a lull, nothing between the dashboard and the records."""
        weights = {name: weight for name, weight in WEIGHTS.items() if not lull or name not in _DISTURBS}
        name = self._only or self.rng.choices(list(weights), list(weights.values()))[0]
        if lull and name in _DISTURBS:
            return
        self.counts[name] = self.counts.get(name, 0) + 1
        if name in _DISTURBS:
            self.disturbed_at = time.monotonic()
        getattr(self, f"_{name}")()

    def _kill(self) -> None:
        self.rng.choice(self.workers).kill()

    def _terminate(self) -> None:
        worker = self.workers.pop(self.rng.randrange(len(self.workers)))
        self.ending.append(worker)
        worker.terminate()

    def _sleep(self) -> None:
        """Stop a worker alone, or all of its processes."""
        worker = self.rng.choice(self.workers)
        if worker.pid in self._asleep:
            return
        try:
            process = psutil.Process(worker.pid)
            family = [process, *(process.children(recursive=True) if self.rng.random() < 0.5 else ())]
        except psutil.NoSuchProcess:
            return
        for each in family:
            _signal(each, signal.SIGSTOP)
        self._asleep[worker.pid] = time.monotonic() + LEASE_S * self.rng.uniform(1.2, 2.5), family

    def _zygote(self) -> None:
        try:
            for child in psutil.Process(self.rng.choice(self.workers).pid).children():
                child.kill()
        except psutil.NoSuchProcess:
            pass

    def _crash(self) -> None:
        if not self._down_until:
            self.server.kill()
            self.server.start()

    def _outage(self) -> None:
        if not self._down_until:
            self.server.kill()
            self._down_until = time.monotonic() + self.rng.choice([0.5, 1.5 * LEASE_S, 2.5 * LEASE_S])

    def _cut(self) -> None:
        self._tell(f"cut {self.rng.choice([0.2, 1.0])}")

    def _swallow(self) -> None:
        seconds = self.rng.uniform(0.05, 0.5)
        self.disturbed_at += seconds
        self._tell(f"swallow {seconds}")

    def _freeze(self) -> None:
        seconds = self.rng.choice([0.3, 1.5 * LEASE_S])
        self.disturbed_at += seconds
        self._tell(f"freeze {seconds}")

    def _forget_functions(self) -> None:
        self._ask("FUNCTION", "FLUSH")

    def _kill_subscribers(self) -> None:
        self._ask("CLIENT", "KILL", "TYPE", "pubsub")

    def _dashboard(self) -> None:
        if self.dashboard is not None:
            self.dashboard.kill()
            self.dashboard.wait()

    def _tell(self, command: str) -> None:
        assert self._proxy.stdin is not None
        self._proxy.stdin.write(f"{command}\n".encode())
        self._proxy.stdin.flush()

    def _ask(self, *command: str) -> None:
        import redis

        if not self._down_until:
            with redis.Redis(unix_socket_path=str(self.server.socket)) as client:
                client.execute_command(*command)

    # -- peace --------------------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Repair everything and break nothing more."""
        self._down_until = min(self._down_until, time.monotonic()) if self._down_until else 0.0
        for pid, (_, processes) in list(self._asleep.items()):
            self._asleep[pid] = 0.0, processes
        self.keep_up()

    def stop_workers(self) -> list[str]:
        """Stop all workers with SIGTERM; return the problems."""
        for worker in self.workers:
            worker.terminate()
        problems = []
        for worker in (*self.workers, *self.ending):
            try:
                status = worker.wait(20)
                is_unborn = status == -signal.SIGTERM and time.monotonic() - self._born[worker.pid] < 30
                if status and worker not in self.ending and not is_unborn:  # killed before it could handle the signal
                    problems.append(f"worker {worker.pid} ended with status {status}")
            except subprocess.TimeoutExpired:
                problems.append(f"worker {worker.pid} did not end within 20 s of SIGTERM")
        return problems

    def close(self) -> list[str]:
        """End everything else; return the remaining processes."""
        if self.dashboard is not None:
            self.dashboard.terminate()
            try:
                self.dashboard.wait(20)
            except subprocess.TimeoutExpired:
                self.dashboard.kill()
                self.dashboard.wait()
        assert self._proxy.stdin is not None
        self._proxy.stdin.close()
        self._proxy.wait(5)
        assert self._proxy.stdout is not None
        self._proxy.stdout.close()
        self.server.stop()
        self.log.close()
        self.dashboard_log.close()
        try:
            wait_until(lambda: not living_with("CHAOS_RUN", self._run))
        except AssertionError:
            left = living_with("CHAOS_RUN", self._run)
            said = [f"process {p.pid} was left: {' '.join(p.cmdline())[:100]}" for p in left]
            for process in left:
                process.kill()
            return said
        return []


#: Kinds of breakage and their relative frequency.
WEIGHTS = {
    "kill": 5,
    "terminate": 2,
    "sleep": 3,
    "zygote": 1,
    "crash": 1.5,
    "outage": 1,
    "cut": 3,
    "swallow": 3,
    "freeze": 1,
    "forget_functions": 0.5,
    "kill_subscribers": 2,
    "dashboard": 0.4,
}

#: Breakage between the dashboard and the records.
_DISTURBS = {"crash", "outage", "cut", "swallow", "freeze", "kill_subscribers", "dashboard"}


def _earlier(revision: str, folder: Path) -> Path:
    """Export the package of a revision of this repository; return the folder to import it from."""
    folder.mkdir()
    kept = subprocess.run(["git", "archive", revision, "jobkit"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=kept, check=True)
    return folder


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _signal(process: psutil.Process, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, what)
