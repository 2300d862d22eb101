"""A worker of arq's own beside ours on one queue. Jobs wait in our backlog, because our only slot is taken."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import arq.worker
import pytest
from arq import Retry, func
from arq.connections import ArqRedis
from arq.worker import JobExecutionFailed

from jobkit.settings import Settings
from tests.support import until

from .conftest import Make, Waiting, serving
from .test_better import records
from .test_documented import Ctx, enqueued


class Flaky:
    """A function of the name "flaky" that is deferred until its last try. `runs`: try and time of each call."""

    def __init__(self, *, defer_s: float, succeeds_at: int) -> None:
        self.runs: list[tuple[int, float]] = []
        self._defer_s, self._succeeds_at = defer_s, succeeds_at
        self.function = func(self._run, name="flaky", max_tries=2)

    async def _run(self, ctx: Ctx) -> int:
        self.runs.append((ctx["job_try"], time.time()))
        if ctx["job_try"] < self._succeeds_at:
            raise Retry(defer=self._defer_s)
        return int(ctx["job_try"])


async def run_by_arq(pool: ArqRedis, function: Any) -> None:
    """Let arq's own worker run one job once."""
    one = arq.worker.Worker([function], redis_pool=pool, handle_signals=False, poll_delay=0.02)
    task = asyncio.create_task(one.main())
    await until(lambda: one.jobs_retried + one.jobs_complete > 0 and not one.tasks, "arq's worker to run the job")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def busy(arq_redis: ArqRedis, worker: Make, settings: Settings) -> Any:
    """A block in which a job of `flaky` waits in our backlog, until `go` of what it yields is set."""

    @contextlib.asynccontextmanager
    async def busy(flaky: Flaky) -> AsyncIterator[Waiting]:
        wait = Waiting()
        async with serving(worker([wait.function, flaky.function], max_jobs=1, burst=False)):
            await enqueued(arq_redis, "wait", _job_id="first")
            await wait.started.wait()
            await enqueued(arq_redis, "flaky", _job_id="second")
            await until(lambda: _is(settings, second="queued"), "the job to have a record")
            yield wait

    return busy


async def _is(settings: Settings, **states: str) -> bool:
    found = {record.id: str(record.state) for record in await records(settings)}
    return found.items() >= states.items()


async def test_a_job_that_arqs_worker_has_deferred_starts_at_its_time_with_the_next_try(
    arq_redis: ArqRedis, settings: Settings, busy: Any
) -> None:
    flaky = Flaky(defer_s=1.5, succeeds_at=2)
    async with busy(flaky) as wait:
        await run_by_arq(arq_redis, flaky.function)
        due = await arq_redis.zscore("arq:queue", "second")

        wait.go.set()

        await until(lambda: _is(settings, second="scheduled"), "the deferral to be seen")
        await until(lambda: _is(settings, second="succeeded"), "the job to end")
    assert [job_try for job_try, _ in flaky.runs] == [1, 2]
    assert flaky.runs[1][1] * 1000 >= due - 20
    (record,) = [record for record in await records(settings) if record.id == "second"]
    assert (record.attempt, record.retried) == (1, 1)


async def test_tries_of_arqs_worker_count(arq_redis: ArqRedis, busy: Any) -> None:
    flaky = Flaky(defer_s=0.05, succeeds_at=99)
    async with busy(flaky) as wait:
        await run_by_arq(arq_redis, flaky.function)

        wait.go.set()

        job = arq.jobs.Job("second", arq_redis)
        with pytest.raises(JobExecutionFailed, match="max 2 retries exceeded"):
            await job.result(20, poll_delay=0.02)
    assert [job_try for job_try, _ in flaky.runs] == [1, 2]


async def test_a_job_that_arqs_worker_has_ended_leaves_no_record(
    arq_redis: ArqRedis, settings: Settings, busy: Any
) -> None:
    flaky = Flaky(defer_s=0.05, succeeds_at=1)
    async with busy(flaky) as wait:
        await run_by_arq(arq_redis, flaky.function)
        wait.go.set()
        await until(lambda: _ended(settings), "the record to be deleted")

    assert await arq.jobs.Job("second", arq_redis).result(20) == 1
    assert await arq_redis.zcard("jk:default:state:cancelled") == 0
    assert await arq_redis.zcard("jk:default:jobs") == 1


async def _ended(settings: Settings) -> bool:
    return [record.id for record in await records(settings)] == ["first"]


async def test_a_job_that_arqs_worker_runs_and_defers_comes_back_as_the_next_try(
    arq_redis: ArqRedis, settings: Settings, busy: Any
) -> None:
    flaky = Flaky(defer_s=0.05, succeeds_at=2)
    async with busy(flaky) as wait:
        # As arq's worker does when it starts a job.
        await arq_redis.set("arq:in-progress:second", b"1", px=60_000)
        await arq_redis.incr("arq:retry:second")
        await arq_redis.expire("arq:retry:second", 60)
        wait.go.set()
        await until(lambda: _ended(settings), "the record to be deleted")

        await arq_redis.zincrby("arq:queue", 100, "second")
        await arq_redis.delete("arq:in-progress:second")

        await until(lambda: _is(settings, second="succeeded"), "the job to end")
    assert [job_try for job_try, _ in flaky.runs] == [2]


async def test_a_stopped_worker_of_ours_leaves_arqs_count_as_it_was(arq_redis: ArqRedis, worker: Make) -> None:
    wait = Waiting()
    await enqueued(arq_redis, "wait", _job_id="job")
    async with serving(worker([wait.function], burst=False)):
        await wait.started.wait()
        assert await arq_redis.get("arq:retry:job") == b"1"

    assert await arq_redis.get("arq:retry:job") == b"0"
    wait.go.set()
    await worker([wait.function]).main()  # so that no key is left
