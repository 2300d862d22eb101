"""Environment of a benchmark: a private redis-server, the programs of each system, and the length of the run."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from jobkit.store.binary import find_server

ROOT = Path(__file__).parent.parent

#: Seconds that anything may take before the run is given up.
PATIENCE_S = 120.0

SECRET = "a benchmark's own"


@dataclass(frozen=True, slots=True)
class Place:
    """Environment of a run.

    Attributes:
        url: of a Redis without persistence without other clients.
        folder: for files; deleted after the run.
        is_quick: a short run that only tests the benchmarks.
        peers: system name to the Python that has it installed; empty if only jobkit is measured.
    """

    url: str
    folder: Path
    is_quick: bool
    peers: dict[str, Path]

    def pick(self, whole: int, quick: int) -> int:
        """Return `whole`, or `quick` in a quick run."""
        return quick if self.is_quick else whole

    def redis(self) -> redis.Redis:
        client: redis.Redis = redis.Redis.from_url(self.url)
        return client

    def flush(self) -> None:
        """Nothing of the benchmark before is left."""
        with self.redis() as client:
            client.flushall()

    def environment(self, **more: object) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("JOBKIT_")}
        own = {
            "PYTHONPATH": str(ROOT),
            "JOBKIT_URL": self.url,
            "JOBKIT_SECRET": SECRET,
            "JOBKIT_HOME": str(self.folder / "home"),
            "BENCH_URL": self.url,
        }
        return inherited | own | {name: str(value) for name, value in more.items()}


@contextmanager
def private_redis() -> Iterator[tuple[str, Path]]:
    """URL and folder of a fresh server, which ends with the block."""
    binary = str(find_server("redis").path)  # for figures that can be compared: Redis, if this machine has it
    folder = Path(tempfile.mkdtemp(prefix="jkb-"))
    port = free_port()
    options = ["--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    options += ["--hash-max-listpack-value", "1024"]  # as the embedded server
    server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        with redis.Redis.from_url(url) as client:
            until(lambda: _answers(client), "redis-server to answer")
        yield url, folder
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(client: redis.Redis) -> bool:
    with suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(predicate: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """The first true value of `predicate`."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.01)
    return value


@contextmanager
def running(argv: Sequence[str | Path], place: Place, **environment: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the background, whose output is kept in `place.folder`; it ends with the block."""
    log = place.folder / "output.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in argv], env=place.environment(**environment), cwd=place.folder,
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield process
        if process.poll() not in (None, 0):
            raise RuntimeError(f"{argv} ended with {process.returncode}: {log.read_text()[-2000:]}")
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def jobkit_worker(slots: int, module: str = "benchmarks.systems.jobkit_tasks") -> list[str]:
    return [sys.executable, "-m", "jobkit", "worker", "-t", module, "-c", str(slots)]


class Driver:
    """The submitting side of one system: a process that answers one JSON line for each that it gets."""

    def __init__(self, system: str, place: Place) -> None:
        python = sys.executable if system.startswith("jobkit") else str(place.peers[system.partition(" ")[0]])
        self._argv = [python, "-m", f"benchmarks.systems.{system.partition(' ')[0]}_"]
        self.system, self._place = system, place
        self.environment = {"BENCH_POLL": "0.01" if system == "arq 0.01" else "0.5"}
        self._process = subprocess.Popen(
            [*self._argv, "drive"], env=place.environment(**self.environment), cwd=place.folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._process.wait()

    def ask(self, verb: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"verb": verb, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the driver of {self.system} ended with {self._process.wait()}")
        return json.loads(line)

    def worker(self, slots: int) -> list[str]:
        """The command of a worker for what this driver submits."""
        if self.system.startswith("jobkit"):
            return jobkit_worker(slots)
        return [*self._argv, "work", str(slots)]
