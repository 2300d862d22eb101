"""Many workers on one server: its CPU, memory and connections, and how fast jobs start, by the number of workers.

    python -m benchmarks.fleet [--workers 25 50 100 200] [--slots 10] [--waiting 100000] [--seconds 12]

The workers are stand-ins that run no code: each makes a worker's calls (claim, renew, progress, finish and their like)
over as many connections, at the same intervals. They are `PROCESSES` processes beside this one, so on a small machine
they and not the server bound the jobs per second. "server" is the time of the server's main thread: a job's share of it
says how many a second one server bears. Not among the benchmarks that `make bench` runs: it takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks import table
from benchmarks.place import Place, private_redis, running
from jobkit.model import JobSpec
from jobkit.settings import Settings
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from jobkit.store.values import AttemptNews, Claimed, Ending, Submission, WorkerInfo
from jobkit.store.wire import read_claimed

PROCESSES = 4

#: Seconds of a worker: between heartbeats, between two claims at most, of a job, and between its reports.
BEAT_S, POLL_S, JOB_S, REPORT_S = 5.0, 5.0, 1.0, 1.0

#: Dashboards that listen at once, in turn.
DASHBOARDS = (0, 1, 5)

#: Jobs that are submitted one by one to idle workers, and those that come due one by one.
SINGLE, DUE = 200, 50


# -- a worker that runs no code ----------------------------------------------------------------------------------------


class StandIn:
    """A worker's calls to the store. A job's only act is to wait, and to report once."""

    def __init__(self, url: str, slots: int) -> None:
        settings = Settings(url=url, namespace="fleet").checked()
        self.store, self.beats = RedisStore(settings), RedisStore(settings)
        self.info = WorkerInfo(f"w{secrets.token_hex(6)}", host="fleet", slots=slots, version="0")
        self._held: dict[str, str] = {}
        self._news: list[AttemptNews] = []
        self._endings: list[Ending] = []
        self._wake = asyncio.Event()
        self._received = 0
        self._jobs = set[asyncio.Task[None]]()

    async def run(self) -> None:
        await asyncio.gather(self._beat(), self._listen(), self._serve())

    async def _beat(self) -> None:
        facts = {"host": "fleet", "slots": self.info.slots, "pid": os.getpid(), "running": 0, "queues": "default"}
        await asyncio.sleep(BEAT_S * int(self.info.id[-2:], 16) / 256)
        while True:
            await self.beats.renew(self.info.id, dict(self._held), facts | {"running": len(self._held)})
            await self.beats.prune(200)
            await self.beats.refused()
            await self.beats.ask("GET", "place")
            await asyncio.sleep(BEAT_S)

    async def _listen(self) -> None:
        pubsub = self.store.redis.pubsub()
        await self.store.claim(self.info, 0, -1)
        await pubsub.subscribe(self.store.channel("inbox", self.info.id))
        self._wake.set()
        async for message in pubsub.listen():
            if message["type"] == "message":
                if message["data"][:1] == b"J":
                    self._received += 1
                    self._start(read_claimed(message["data"][1:]))
                else:
                    self._wake.set()

    async def _serve(self) -> None:
        while True:
            self._wake.clear()
            news, self._news = self._news, []
            endings, self._endings = self._endings, []
            for ending in endings:
                self._held.pop(ending.job_id, None)
            held = len(self._held)
            free = self.info.slots - held
            _, claimed, wait_s = await self.store.exchange(
                news, endings, (self.info, free, self._received, (), 0, held) if self._received >= 0 else None
            )
            for one in claimed:
                self._start(one)
            if not self._endings:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait_s, POLL_S)):
                        await self._wake.wait()

    def _start(self, claimed: Claimed) -> None:
        self._held[claimed.spec.id] = claimed.token
        job = asyncio.create_task(self._job(claimed))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _job(self, claimed: Claimed) -> None:
        await asyncio.sleep(REPORT_S / 2)
        self._news.append(AttemptNews(claimed.spec.id, claimed.token, True, 1, 2, "half"))
        await asyncio.sleep(JOB_S - REPORT_S / 2)
        self._endings.append(Ending(claimed.spec.id, claimed.token, "succeeded", result=b"x" * 60))
        self._wake.set()


async def work(url: str, workers: int, slots: int) -> None:
    """Run stand-ins until this process is stopped; print their ids first."""
    found = [StandIn(url, slots) for _ in range(workers)]
    print(json.dumps([one.info.id for one in found]), flush=True)
    await asyncio.gather(*(one.run() for one in found))


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass
class Figures:
    """Measurements with one number of workers."""

    workers: int
    values: dict[str, float] = field(default_factory=dict)


class Watch:
    """Load of the server within a block."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self.seconds = self.cpu_s = self.mb_out = 0.0
        self.calls: dict[str, int] = {}

    async def _read(self) -> tuple[float, float, float, dict[str, int]]:
        info = await self._store.redis.info("everything")
        cpu = info.get("used_cpu_user_main_thread", 0.0) + info.get("used_cpu_sys_main_thread", 0.0)
        calls = {name: each["calls"] for name, each in info.items() if name.startswith("cmdstat_")}
        return time.monotonic(), cpu, info["total_net_output_bytes"] / 1e6, calls

    async def __aenter__(self) -> Watch:
        self._before = await self._read()
        return self

    async def __aexit__(self, *_: object) -> None:
        before, now = self._before, await self._read()
        self.seconds, self.cpu_s, self.mb_out = (b - a for a, b in zip(before[:3], now[:3], strict=True))
        self.calls = {name: count - before[3].get(name, 0) for name, count in now[3].items()}

    @property
    def percent(self) -> float:
        return 100 * self.cpu_s / self.seconds


def jobs(count: int) -> list[Submission]:
    return [
        Submission(JobSpec(secrets.token_hex(8), "tasks.simulate", params={"n": n}, owner="ada"), b"x" * 200)
        for n in range(count)
    ]


async def measure(url: str, workers: int, slots: int, waiting: int, seconds: float) -> Figures:
    """Figures of a server with so many workers, which other processes run."""
    store = RedisStore(Settings(url=url, namespace="fleet").checked())
    found = Figures(workers)
    values = found.values

    async def has_workers() -> bool:
        return len(await store.workers()) >= workers

    async def is_idle() -> bool:
        return not (await store.queues()).get("default", {}).get("running")

    await _until(has_workers)
    await asyncio.sleep(BEAT_S)
    info = await store.redis.info("everything")
    values["connections"] = info["connected_clients"] - 1
    values["memory idle (MB)"] = info["used_memory"] / 1e6

    async with Watch(store) as idle:
        await asyncio.sleep(seconds / 2)
    values["idle: server (%)"] = idle.percent

    values["read of workers (ms)"] = await _ms(store.workers)
    values["read of the Workers page (ms)"] = await _ms(store.workers, store.queues, store.tasks)

    async with _starts(store) as started:
        count = min(SINGLE, workers * slots)  # a slot for each
        for one in jobs(count):
            started.sent[one.spec.id] = time.time()
            await store.submit([one])
        await started.all(count)
    values["start, idle workers, p50 (ms)"], values["start, idle workers, p99 (ms)"] = started.percentiles()

    async with Watch(store) as due:
        for n, one in enumerate(jobs(DUE)):
            await store.submit([Submission(replace(one.spec, delay_ms=500 + n * 100), one.payload)])
        await asyncio.sleep(DUE * 0.1 + 1)
    values["due one by one: calls a job"] = sum(n for name, n in due.calls.items() if "fcall" in name) / DUE
    values["due one by one: server (ms a job)"] = 1000 * due.cpu_s / DUE

    await _until(is_idle)
    batch = jobs(waiting)
    began = time.monotonic()
    async with Watch(store) as filling:
        for first in range(0, waiting, 200):
            await store.submit(batch[first : first + 200])
    values["submit of 200: jobs/s"] = waiting / (time.monotonic() - began)
    values["submit of 200: server (µs a job)"] = 1e6 * filling.cpu_s / waiting
    values["memory full (MB)"] = (await store.redis.info("memory"))["used_memory"] / 1e6

    for dashboards in DASHBOARDS:
        async with _listening(url, dashboards):
            ended = await _ended(store)
            async with Watch(store) as busy:
                await asyncio.sleep(seconds)
            count = await _ended(store) - ended
        name = f"busy, {dashboards} dashboards"
        values[f"{name}: jobs/s"] = count / busy.seconds
        values[f"{name}: server (%)"] = busy.percent
        values[f"{name}: server (µs a job)"] = 1e6 * busy.cpu_s / max(1, count)
        values[f"{name}: sent (MB/s)"] = busy.mb_out / busy.seconds
    values["still waiting"] = (await store.queues())["default"]["queued"]
    values["read of workers, busy (ms)"] = await _ms(store.workers)
    await store.close()
    return found


async def _ended(store: RedisStore) -> int:
    return int(await store.ask("ZCARD", "state:succeeded"))


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():  # noqa: ASYNC110  # of the server
        await asyncio.sleep(0.2)


async def _ms(*reads: Any) -> float:
    """Median time of some reads at once."""
    took = []
    for _ in range(9):
        began = time.perf_counter()
        await asyncio.gather(*(read() for read in reads))
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)


class _Starts:
    def __init__(self) -> None:
        self.sent: dict[str, float] = {}
        self.took: list[float] = []

    def percentiles(self) -> tuple[float, float]:
        return table.percentile(self.took, 0.5), table.percentile(self.took, 0.99)

    async def all(self, count: int) -> None:
        while len(self.took) < count:  # noqa: ASYNC110  # a callback counts
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _starts(store: RedisStore) -> AsyncIterator[_Starts]:
    """Times from a submit to the event of its start, in ms."""
    found, hub = _Starts(), EventHub(store)

    def take(event: Any) -> None:
        if event.type == "started" and event.job_id in found.sent:
            found.took.append(1000 * (time.time() - found.sent[event.job_id]))

    hub.listen(take)
    await hub.start()
    await hub.ready()
    yield found
    await hub.close()


@contextlib.asynccontextmanager
async def _listening(url: str, count: int) -> AsyncIterator[None]:
    """So many hubs that listen to all jobs, as dashboards do."""
    stores = [RedisStore(Settings(url=url, namespace="fleet").checked()) for _ in range(count)]
    hubs = [EventHub(store) for store in stores]
    for hub in hubs:
        hub.listen(lambda _: None)
        await hub.start()
        await hub.ready()
    yield
    for hub, store in zip(hubs, stores, strict=True):
        await hub.close()
        await store.close()


@contextlib.contextmanager
def _fleet(place: Place, workers: int, slots: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    with contextlib.ExitStack() as stack:
        parts = [workers // PROCESSES + (n < workers % PROCESSES) for n in range(PROCESSES)]
        me = [sys.executable, "-m", "benchmarks.fleet", "--stand-in", place.url, "--slots", str(slots), "--workers"]
        yield [stack.enter_context(running([*me, str(part)], place)) for part in parts if part]


def report(found: list[Figures]) -> str:
    names = list(found[-1].values)
    head = "| figure | " + " | ".join(f"{one.workers} workers" for one in found) + " |"
    rows = [f"| {name} | " + " | ".join(table.number(one.values[name]) for one in found) + " |" for name in names]
    return "\n".join([head, "|" + " --- |" * (len(found) + 1), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[25, 50, 100, 200])
    parser.add_argument("--slots", type=int, default=10, help="of each worker")
    parser.add_argument("--waiting", type=int, default=100_000, help="jobs")
    parser.add_argument("--seconds", type=float, default=12, help="of one measurement")
    parser.add_argument("--stand-in", metavar="URL", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stand_in:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(work(asked.stand_in, asked.workers[0], asked.slots))
        return
    found = []
    for workers in asked.workers:
        with private_redis() as (url, folder), _fleet(Place(url, Path(folder), False, {}), workers, asked.slots):
            found.append(asyncio.run(measure(url, workers, asked.slots, asked.waiting, asked.seconds)))
        print(report(found), flush=True)
    with private_redis() as (url, folder), Place(url, folder, False, {}).redis() as client:
        print(table.machine(client.info("server")["redis_version"]))


if __name__ == "__main__":
    main()
