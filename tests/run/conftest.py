"""Real runners, real processes; what happened is read from files that the jobs write."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobkit.codec import Codec
from jobkit.model import LogLine
from jobkit.model.metrics import Point
from jobkit.run.attempt import Assignment, Outcome
from jobkit.run.inside.answers import Reply
from jobkit.run.process.runner import ProcessRunner
from jobkit.tasks.call import Call, encode_call
from tests.support import until, wait_until

CODEC = Codec([b"key of these tests"])


class Heard:
    """Sink that collects what it receives."""

    def __init__(self) -> None:
        self.news: list[tuple[float | None, float | None, str]] = []
        self.awaited: list[list[str]] = []
        self.curves: dict[str, list[Point]] = {}
        self.asked: list[tuple[str, bytes, Callable[[Reply], None]]] = []
        self.log: list[LogLine] = []
        self.arrived: list[float] = []
        self.artifacts: dict[str, tuple[str, bytes]] = {}

    def progress(self, done: float | None, total: float | None, message: str) -> None:
        self.news.append((done, total, message))

    def emit(self, kind: str, news: Any) -> None:
        if kind == "awaits":
            self.awaited.append(list(news))
        for name, points in news.items() if kind == "metrics" else ():
            self.curves.setdefault(name, []).extend(points)

    def request(self, feature: str, key: str, body: bytes, reply: Callable[[Reply], None]) -> None:
        self.asked.append((key, body, reply))

    def lines(self, lines: Sequence[LogLine]) -> None:
        self.log += lines
        self.arrived += [time.monotonic()] * len(lines)

    def artifact(self, name: str, media: str, body: bytes) -> None:
        self.artifacts[name] = media, body

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.log]


def assign(function: Callable[..., Any] | None, *args: Any, ref: str = "", **options: Any) -> Assignment:
    """Return an assignment that calls `function`, which is pickled by value if it is local to a test."""
    call = encode_call(CODEC, Call(function, args, {}), ref=ref, **options.pop("head", {}))
    names = {"job_id": "j1", "task": "task", "attempt": 1} | options
    return Assignment(call=call, **names)


def pid_in(path: Path) -> int | None:
    """Return the process id that a job wrote to a file, or None while the line is incomplete."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    return int(text) if text.endswith("\n") else None


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Fail a test that leaves a child process, a thread or a descriptor behind."""
    fds, threads = set(os.listdir("/proc/self/fd")), set(threading.enumerate())
    before = psutil.Process().children(recursive=True)
    yield
    assert not [p for p in psutil.Process().children(recursive=True) if p not in before]
    # A thread reports its outcome shortly before it ends.
    stay = "asyncio_", "jobkit-log"
    wait_until(lambda: not [t for t in set(threading.enumerate()) - threads if not t.name.startswith(stay)])
    assert len(os.listdir("/proc/self/fd")) <= len(fds) + 3  # pytest-asyncio's loop


@pytest.fixture
def heard() -> Heard:
    return Heard()


class Runner(ProcessRunner):
    """A runner of processes with the sink of its test."""

    heard: Heard

    async def do(self, function: Callable[..., Any] | None, *args: Any, **options: Any) -> Outcome:
        """Run a job to its end; see `assign`."""
        return await self.run(assign(function, *args, **options), self.heard)


@contextlib.asynccontextmanager
async def started(
    *preload: str, heard: Heard | None = None, is_lazy: bool = False, **options: Any
) -> AsyncIterator[Runner]:
    """Start a runner (or let its first job do it), and close it at the end."""
    runner = Runner(preload, **options)
    runner.heard = heard or Heard()
    try:
        if not is_lazy:
            await runner.start()
        yield runner
    finally:
        await runner.close()


@pytest.fixture
async def runner(heard: Heard) -> AsyncIterator[Runner]:
    async with started(heard=heard) as runner:
        yield runner


async def stopped(runner: Any, sign: Path, job: Coroutine[Any, Any, Outcome], kind: str = "cancel") -> Outcome:
    """Stop a job when a file shows that it has begun, and return its outcome."""
    running = asyncio.create_task(job)
    await until(sign.exists, "the job to begin")
    runner.stop("j1", kind)
    return await running
