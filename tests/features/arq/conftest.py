"""arq's own client and reader, jobkit's worker for plain arq functions, and a real server between them.

arq's keys have no prefix, so these tests have a separate server, which is empty before each test.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from arq import func
from arq.connections import ArqRedis, RedisSettings

from jobkit.settings import Settings
from jobkit.worker import Worker
from tests.store.server import Server, running_server
from tests.support import wait_until
from tests.worker.conftest import HEARTBEAT_S, LEASE_S
from tests.worker.conftest import Bench as WorkerBench

#: Options of a cron job that is not due while a test runs, whatever the time is.
NOT_SOON: Any = {"month": 2, "day": 29}

Make = Callable[..., Worker]

SERVICE = "tests.features.arq.service.WorkerSettings"


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


@contextlib.asynccontextmanager
async def serving(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """Let a worker serve within the block."""
    task = asyncio.create_task(worker.main())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Waiting:
    """A function of the name "wait" that runs until `go` is set; `started` is set when it runs."""

    def __init__(self) -> None:
        self.started, self.go = asyncio.Event(), asyncio.Event()
        self.function = func(self._wait, name="wait")

    async def _wait(self, ctx: dict[Any, Any]) -> str:
        self.started.set()
        await self.go.wait()
        return "done"


async def check_keys(pool: ArqRedis) -> None:
    """Check that all keys of the bridge expire once arq's queue is empty."""
    if await pool.zcard("arq:queue"):
        return
    left = [key.decode() for key in await pool.keys("*")]
    bad = [key for key in left if key.startswith(("jk:default:arq", "arq:")) and not key.startswith("arq:result:")]
    forever = [key for key in bad if await pool.ttl(key) < 0 and key != "arq:abort"]
    assert not forever, f"keys without an owner: {forever}"


class Bench(WorkerBench):
    """Worker processes for `tests.features.arq.service`, arq's blocking view of the server, and a kit."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.redis = redis.Redis(unix_socket_path=str(server.socket))
        self.redis.flushdb()
        super().__init__(server, folder)

    def worker(self, *options: str, ready: bool = True, **variables: str) -> subprocess.Popen[bytes]:  # type: ignore[override]
        """Start `jobkit worker --arq tests.features.arq.service.WorkerSettings`; return when it serves."""
        command = [
            sys.executable,
            "-m",
            "jobkit",
            "worker",
            "--arq",
            "tests.features.arq.service.WorkerSettings",
            *options,
        ]
        return self.start(command, variables, ready=ready)

    def plain(self, *options: str) -> subprocess.Popen[bytes]:
        """Start arq's own worker for the same functions."""
        return self.start([sys.executable, "-m", "arq", SERVICE, *options], {}, ready=False)

    def start(
        self, command: Sequence[str], names: dict[str, str], *, ready: bool, **options: Any
    ) -> subprocess.Popen[bytes]:
        service = {"SERVICE_SOCKET": str(self.server.socket), "SERVICE_NOTES": self.file()}
        names = names | service | {"PYTHONUNBUFFERED": "1"}  # tests read what workers print while they run
        with self.log.open("ab") as log:
            return super().start(command, names, ready=ready, stdout=log, **options)

    def noted(self, line: str, times: int = 1) -> None:
        wait_until(lambda: self.notes().count(line) >= times, what=f"{times} times {line!r} in {self.notes()}")

    def close(self) -> None:
        super().close()
        self.redis.close()


@pytest.fixture
def bench(server: Server, tmp_path: Path) -> Iterator[Bench]:
    with contextlib.closing(Bench(server, tmp_path)) as bench:
        yield bench


@pytest.fixture
def own_bench(tmp_path: Path) -> Iterator[Bench]:
    """Bench whose server may be killed."""
    with Server() as server, contextlib.closing(Bench(server, tmp_path)) as bench:
        yield bench
