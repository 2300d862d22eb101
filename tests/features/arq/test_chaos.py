"""Workers and their server are killed while arq's client enqueues: each job ends once, for arq and for jobkit."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job
from redis.exceptions import RedisError

from tests.support import wait_until

from .conftest import Bench

#: Duration of the breakage in seconds.
BREAKING_S = 12.0


class Producer:
    """Client of arq that retries until a job is accepted, with fixed ids."""

    def __init__(self, bench: Bench, luck: random.Random) -> None:
        self.bench, self.luck = bench, luck
        self.expected: dict[str, Any] = {}
        self.aborted: set[str] = set()

    def client(self) -> ArqRedis:
        return ArqRedis(unix_socket_path=str(self.bench.server.socket), encoding="utf8")

    async def enqueue(self, count: int) -> None:
        pool = self.client()
        try:
            for _ in range(count):
                n = len(self.expected)
                arq_id = f"job-{n}"
                call, value = self.luck.choice(
                    [(("add", n), n + 1), (("wait", arq_id, self.luck.random() / 2), arq_id), (("flaky", 3), 3)]
                )
                self.expected[arq_id] = value
                while True:
                    try:
                        await pool.enqueue_job(*call, _job_id=arq_id, _defer_by=self.luck.choice([None, 0.2]))
                        if self.luck.random() < 0.05:
                            await pool.zadd("arq:abort", {arq_id: time.time() * 1000})
                            self.aborted.add(arq_id)
                        break
                    except (RedisError, OSError):
                        await asyncio.sleep(0.05)
        finally:
            await pool.aclose(close_connection_pool=True)

    async def results(self) -> dict[str, Any]:
        pool = self.client()
        try:
            found = {arq_id: await Job(arq_id, pool).result_info() for arq_id in self.expected}
            return {arq_id: info and info.result for arq_id, info in found.items()}
        finally:
            await pool.aclose(close_connection_pool=True)


def break_something(bench: Bench, luck: random.Random, frozen: list[Any]) -> None:
    what = luck.random()
    worker = luck.choice(bench.workers[-2:])
    if what < 0.2:
        bench.server.kill()
        time.sleep(luck.choice([0.0, 1.0]))  # duration of the outage
        bench.server.start()
    elif what < 0.4 and worker not in frozen:
        worker.send_signal(signal.SIGSTOP)
        frozen.append(worker)
    elif worker not in frozen:
        worker.kill() if what < 0.8 else worker.terminate()
        worker.wait(60)
        bench.workers.remove(worker)
        bench.worker(ready=False, JOBKIT_MAX_LOSSES="50")
    elif frozen:
        frozen.pop().send_signal(signal.SIGCONT)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [1])
def test_each_job_ends_once_whatever_fails(own_bench: Bench, seed: int) -> None:
    bench, luck, frozen = own_bench, random.Random(seed), []  # type: ignore[var-annotated]
    producer = Producer(bench, luck)
    for _ in range(2):
        bench.worker(JOBKIT_MAX_LOSSES="50")

    until = time.monotonic() + BREAKING_S
    while time.monotonic() < until:
        asyncio.run(producer.enqueue(luck.randint(5, 15)))
        break_something(bench, luck, frozen)
    for worker in frozen:
        worker.send_signal(signal.SIGCONT)

    wait_until(lambda: not bench.redis.zcard("arq:queue"), what="arq's queue to be empty")
    results = asyncio.run(producer.results())
    records = {job.id: job for job in bench.kit.jobs(limit=10_000)}
    wrong = {
        arq_id: results[arq_id]
        for arq_id, value in producer.expected.items()
        if results[arq_id] != value
        and not (arq_id in producer.aborted and isinstance(results[arq_id], asyncio.CancelledError))
    }
    assert not wrong
    assert set(records) == set(producer.expected)
    for arq_id, job in records.items():
        state = "cancelled" if isinstance(results[arq_id], asyncio.CancelledError) else "succeeded"
        ends = Counter(event.type for event in job.events())
        assert job.state == state, arq_id
        assert ends["succeeded"] + ends["cancelled"] + ends["failed"] == 1, arq_id
    left = [key for key in bench.redis.keys("arq:*") if not key.startswith((b"arq:result:", b"arq:queue:health"))]
    assert left == []
    assert "jobkit failed" not in bench.said()
