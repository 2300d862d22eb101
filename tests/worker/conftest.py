"""Real worker processes with a real server; jobs write to files, which the tests read."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

import jobkit
from jobkit.client.kit import Kit
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from tests.client.conftest import check_keys
from tests.store import support as store_support
from tests.store.server import Server, running_server
from tests.support import environment, wait_until

#: Short, so that tests can wait until it expires; ten heartbeats, so that it does not expire on a busy machine.
LEASE_S = 4.0
HEARTBEAT_S = 0.4


class Bench:
    """A namespace, its kit, and the workers that a test starts in it. `options`: more options of the kit."""

    def __init__(self, server: Server, folder: Path, **options: str) -> None:
        self.server, self.folder = server, folder
        self.place = {"url": server.url, "namespace": f"t{secrets.token_hex(4)}", "secret": "of these tests"} | options
        self.kit: Kit = jobkit.connect(**self.place)
        self.workers: list[subprocess.Popen[bytes]] = []

    def worker(self, *options: str, ready: bool = True, files: int = 0, **variables: str) -> subprocess.Popen[bytes]:
        """Start a worker (`jobkit worker ...`), with so many descriptors at most; return when it serves."""
        limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (files, files)) if files else None
        command = [sys.executable, "-m", "jobkit", "worker", "-c", "4", "-t", "tests.worker.jobs", *options]
        return self.start(command, {"JOBKIT_DRAIN": "10"} | variables, ready=ready, preexec_fn=limit)

    def start(
        self, command: Sequence[str], names: dict[str, str], *, ready: bool, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start the program of a worker, with such variables; return when it serves."""
        times = {"JOBKIT_LEASE": str(LEASE_S), "JOBKIT_HEARTBEAT": str(HEARTBEAT_S)}
        with self.log.open("ab") as log:
            env = environment(**(self.variables | times | names))
            process = subprocess.Popen(command, env=env, stderr=log, **options)
        self.workers.append(process)
        if ready:
            wait_until(lambda: process.pid in self.alive() or process.poll() is not None, what="the worker to serve")
        return process

    @property
    def variables(self) -> dict[str, str]:
        """The place as variables of a process."""
        return {f"JOBKIT_{name.upper()}": value for name, value in self.place.items()}

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        worker.kill()
        worker.wait()

    @property
    def log(self) -> Path:
        """Log of all workers."""
        return self.folder / "workers.log"

    def said(self) -> str:
        return self.log.read_text()

    def alive(self) -> list[int]:
        """Return the process ids of live workers in the store."""
        return [worker.pid for worker in self.kit.workers() if worker.is_alive]

    def file(self, name: str = "notes") -> str:
        return str(self.folder / name)

    def notes(self, name: str = "notes") -> list[str]:
        """Return the lines that jobs have written to a file."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def started(self, name: str = "notes", times: int = 1) -> list[int]:
        """Wait for that many starts of a job; return the process ids of the last one."""
        lines = wait_until(
            lambda: found if len(found := [n for n in self.notes(name) if n.startswith("start")]) >= times else None,
            what=f"{name} to be started {times} times",
        )
        return [int(word) for word in lines[-1].split()[1:]]

    def barred(self) -> set[bytes]:
        """Return the functions that must not run on a worker's loop."""
        with redis.Redis.from_url(self.place["url"]) as client:
            return set(client.smembers(f"jk:{self.place['namespace']}:barred"))

    def check_keys(self) -> None:
        """Check that each key of the namespace has an owner or expires."""

        async def look() -> None:
            store = RedisStore(Settings(url=self.place["url"], namespace=self.place["namespace"]).checked())
            try:
                await store_support.check_keys(store)
            finally:
                await store.close()

        asyncio.run(look())

    def close(self) -> None:
        self.kit.close()
        for process in self.workers:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                process.terminate()
                process.terminate()
        for process in self.workers:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


shared_server = pytest.fixture(running_server, name="shared_server", scope="package")


@pytest.fixture
def bench(shared_server: Server, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(shared_server, tmp_path)
    try:
        yield bench
        assert not bench.log.exists() or "Traceback" not in bench.said()
    finally:
        bench.close()
    bench.check_keys()


@pytest.fixture
def sharing(shared_server: Server, tmp_path: Path) -> Iterator[Bench]:
    """Bench with a directory for files."""
    with contextlib.closing(Bench(shared_server, tmp_path, results=str(tmp_path / "results"))) as bench:
        yield bench
    bench.check_keys()


@pytest.fixture
def other(shared_server: Server, tmp_path: Path) -> Iterator[Bench]:
    """Another bench, of another namespace."""
    (tmp_path / "other").mkdir()
    with contextlib.closing(Bench(shared_server, tmp_path / "other")) as bench:
        yield bench
    bench.check_keys()


@pytest.fixture
def own_bench(tmp_path: Path) -> Iterator[Bench]:
    """Bench whose server may be killed."""
    with Server() as server, contextlib.closing(Bench(server, tmp_path)) as bench:
        yield bench


__all__ = ["Bench", "check_keys"]
