"""Parameters of arq's worker that apply to all functions, as arq documents them."""

from __future__ import annotations

import asyncio
import signal
from datetime import datetime

import pytest
from arq import Retry, func
from arq.connections import ArqRedis
from arq.cron import cron
from arq.worker import FailedJobs

from tests.support import until

from .conftest import NOT_SOON, Make
from .test_documented import Ctx, answer, enqueued


async def test_max_tries_applies_to_functions_without_their_own(arq_redis: ArqRedis, worker: Make) -> None:
    tries: list[str] = []

    async def again(ctx: Ctx, name: str) -> None:
        tries.append(name)
        raise Retry

    functions = [func(again, name="usual"), func(again, name="own", max_tries=3)]
    for each in functions:
        await enqueued(arq_redis, each.name, each.name)
    with pytest.raises(FailedJobs, match="max 2 retries exceeded"):
        await worker(functions, max_tries=2).run_check()

    assert (tries.count("usual"), tries.count("own")) == (2, 3)


async def test_keep_result_forever_applies_to_functions_without_their_own(arq_redis: ArqRedis, worker: Make) -> None:
    functions = [func(answer, name="usual"), func(answer, name="own", keep_result=10, keep_result_forever=False)]
    usual, own = [await enqueued(arq_redis, each.name) for each in functions]
    await worker(functions, keep_result_forever=True).main()

    assert await arq_redis.pttl(f"arq:result:{usual.job_id}") == -1
    assert 5_000 < await arq_redis.pttl(f"arq:result:{own.job_id}") <= 10_000


async def test_expires_extra_ms_applies_to_jobs_that_jobs_enqueue(arq_redis: ArqRedis, worker: Make) -> None:
    left: list[int] = []

    async def parent(ctx: Ctx) -> None:
        await ctx["redis"].enqueue_job("answer", _job_id="child", _defer_by=1)
        left.append(await arq_redis.pttl("arq:job:child"))
        await arq_redis.zadd("arq:queue", {"child": 1}, xx=True)

    await enqueued(arq_redis, "parent")
    await worker([func(parent, name="parent"), answer], expires_extra_ms=20_000).main()

    assert 15_000 < left[0] <= 21_000


async def test_on_stop_gets_the_signal(arq_redis: ArqRedis, worker: Make) -> None:
    told: list[signal.Signals] = []
    one = worker([answer], burst=False)
    one.on_stop = told.append
    serving = asyncio.create_task(one.main())
    await until(lambda: arq_redis.exists("arq:queue:health-check"), "the worker to serve")

    one.handle_sig(signal.SIGTERM)
    await serving

    assert told == [signal.SIGTERM]


async def test_the_health_key_lasts_an_interval_and_a_second_and_is_renewed(arq_redis: ArqRedis, worker: Make) -> None:
    one = worker([answer], burst=False, health_check_interval=1)
    serving = asyncio.create_task(one.main())
    await until(lambda: arq_redis.exists("arq:queue:health-check"), "the first record of health")
    assert 0 < await arq_redis.pttl("arq:queue:health-check") <= 2_000

    await enqueued(arq_redis, "answer")
    await until(lambda: _says(arq_redis, b"j_complete=1"), "the next record of health")

    one.handle_sig(signal.SIGTERM)
    await serving


async def _says(pool: ArqRedis, words: bytes) -> bool:
    return words in (await pool.get("arq:queue:health-check") or b"")


@pytest.mark.parametrize(("unique", "times"), [(True, 1), (False, 2)])
async def test_a_cron_job_that_is_not_unique_runs_for_each_worker(
    arq_redis: ArqRedis, worker: Make, unique: bool, times: int
) -> None:
    runs: list[str] = []

    async def regularly(ctx: Ctx) -> None:
        runs.append(ctx["job_id"])

    both = [worker(cron_jobs=[cron(regularly, **NOT_SOON, run_at_startup=True, unique=unique)]) for _ in range(2)]
    slot = datetime.now(both[0].timezone)
    for one in both:
        await one.run_cron(slot, 0.5)
    for one in both:
        await one.main()

    assert len(runs) == len(set(runs)) == times
