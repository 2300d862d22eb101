"""arq's own client and reader, jobkit's worker for plain arq functions, and a real server between them.

arq's keys have no prefix, so these tests have a separate server, which is empty before each test.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from arq.connections import ArqRedis, RedisSettings

import jobkit
from jobkit.client.kit import Kit
from jobkit.settings import Settings
from jobkit.worker import Worker
from tests.store.server import Server, running_server
from tests.support import environment, wait_until

#: Short, so that tests can wait until it expires; ten heartbeats, so that it does not expire on a busy machine.
LEASE_S = 4.0
HEARTBEAT_S = 0.4

#: Options of a cron job that is not due while a test runs, whatever the time is.
NOT_SOON: Any = {"month": 2, "day": 29}

Make = Callable[..., Worker]


server = pytest.fixture(running_server, name="server", scope="package")


@pytest.fixture
def settings(server: Server) -> Settings:
    return Settings(url=server.url, lease=LEASE_S, heartbeat=HEARTBEAT_S, secret="of these tests")


@pytest.fixture
def where(server: Server) -> RedisSettings:
    return RedisSettings(unix_socket_path=str(server.socket))


@pytest.fixture
async def arq_redis(server: Server) -> AsyncIterator[ArqRedis]:
    """arq's own client."""
    pool = ArqRedis(unix_socket_path=str(server.socket), encoding="utf8")
    await pool.flushdb()
    yield pool
    await check_keys(pool)
    await pool.aclose(close_connection_pool=True)


@pytest.fixture
async def worker(arq_redis: ArqRedis, where: RedisSettings, settings: Settings) -> AsyncIterator[Make]:
    """Factory of workers in burst mode, which are closed after the test."""
    made: list[Worker] = []

    def make(functions: Any = (), **options: Any) -> Worker:
        usual = {"redis_settings": where, "burst": True, "poll_delay": 0.05, "handle_signals": False}
        made.append(Worker(functions, **(usual | options), settings=settings))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def check_keys(pool: ArqRedis) -> None:
    """Check that all keys of the bridge expire once arq's queue is empty."""
    if await pool.zcard("arq:queue"):
        return
    left = [key.decode() for key in await pool.keys("*")]
    bad = [key for key in left if key.startswith(("jk:default:arq", "arq:")) and not key.startswith("arq:result:")]
    forever = [key for key in bad if await pool.ttl(key) < 0 and key != "arq:abort"]
    assert not forever, f"keys without an owner: {forever}"


class Bench:
    """Worker processes for `tests.arq.service`, arq's blocking view of the server, and a kit."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.redis = redis.Redis(unix_socket_path=str(server.socket))
        self.redis.flushdb()
        self.place = {"url": server.url, "namespace": f"t{secrets.token_hex(4)}", "secret": "of these tests"}
        self.kit: Kit = jobkit.connect(**self.place)
        self.processes: list[subprocess.Popen[bytes]] = []

    def worker(self, *options: str, ready: bool = True, **variables: str) -> subprocess.Popen[bytes]:
        """Start `jobkit worker --arq tests.arq.service.WorkerSettings`; return when it serves."""
        names = {f"JOBKIT_{name.upper()}": value for name, value in self.place.items()}
        names |= {"JOBKIT_LEASE": str(LEASE_S), "JOBKIT_HEARTBEAT": str(HEARTBEAT_S)} | variables
        argv = [sys.executable, "-m", "jobkit", "worker", "--arq", "tests.arq.service.WorkerSettings", *options]
        process = self._start(argv, names)
        if ready:
            wait_until(lambda: process.pid in self.alive() or process.poll() is not None, what="the worker to serve")
        return process

    def plain(self, *options: str) -> subprocess.Popen[bytes]:
        """Start arq's own worker for the same functions."""
        return self._start([sys.executable, "-m", "arq", "tests.arq.service.WorkerSettings", *options], {})

    def _start(self, argv: list[str], names: dict[str, str]) -> subprocess.Popen[bytes]:
        names |= {"PYTHONUNBUFFERED": "1"}  # tests read what workers print while they run
        names |= {"SERVICE_SOCKET": str(self.server.socket), "SERVICE_NOTES": str(self.folder / "notes")}
        with self.log.open("ab") as log:
            self.processes.append(subprocess.Popen(argv, env=environment(**names), stdout=log, stderr=log))
        return self.processes[-1]

    @property
    def log(self) -> Path:
        return self.folder / "workers.log"

    def said(self) -> str:
        return self.log.read_text()

    def alive(self) -> list[int]:
        return [worker.pid for worker in self.kit.workers() if worker.is_alive]

    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def noted(self, line: str, times: int = 1) -> None:
        wait_until(lambda: self.notes().count(line) >= times, what=f"{times} times {line!r} in {self.notes()}")

    def close(self) -> None:
        self.kit.close()
        self.redis.close()
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


@pytest.fixture
def bench(server: Server, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(server, tmp_path)
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture
def own_bench(tmp_path: Path) -> Iterator[Bench]:
    """Bench whose server may be killed."""
    with Server() as server, contextlib.closing(Bench(server, tmp_path)) as bench:
        yield bench
