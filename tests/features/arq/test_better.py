"""Deliberate improvements over arq: in each test, arq's worker would lose or repeat a job, or die.

`docs/from-arq.md` explains them. Tests that need real processes are in `test_processes.py`.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import sys
import time
from typing import Any

import pytest
from arq import func
from arq.connections import ArqRedis, RedisSettings
from arq.constants import abort_jobs_ss
from arq.jobs import Job, JobStatus
from arq.worker import FailedJobs, JobExecutionFailed

from jobkit.model import JobSnapshot
from jobkit.settings import Settings
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.worker import Worker
from tests.support import until
from tests.worker.conftest import LEASE_S

from .conftest import Make, Waiting, serving
from .test_documented import Ctx, answer, enqueued, fails


async def records(settings: Settings) -> list[JobSnapshot]:
    """Return the records that the dashboard reads, newest first."""
    store = RedisStore(settings)
    try:
        return list((await store.list(Query())).jobs)
    finally:
        await store.close()


async def test_the_id_of_a_running_job_is_refused_after_its_payload_expired(arq_redis: ArqRedis, worker: Make) -> None:
    """arq's payload key expires while its job runs. arq then accepts the id again and loses the second job."""
    wait = Waiting()
    job = await enqueued(arq_redis, "wait", _job_id="same", _expires=20)
    serving = asyncio.create_task(worker([wait.function]).main())
    await wait.started.wait()
    assert await arq_redis.pttl("arq:job:same") == -1  # no longer expires

    assert await arq_redis.enqueue_job("wait", _job_id="same") is None

    wait.go.set()
    await serving
    assert await job.result() == "done"


async def test_a_late_abort_does_not_affect_the_next_job_of_that_id(arq_redis: ArqRedis, worker: Make) -> None:
    first = await enqueued(arq_redis, "answer", _job_id="same")
    one = worker([answer], allow_abort_jobs=True, keep_result=0, burst=False)
    async with serving(one):
        await until(lambda: one.jobs_complete == 1, "the first job to end")

        assert await first.abort(poll_delay=0.01) is False

        await until(lambda: _is_empty(arq_redis, abort_jobs_ss), "the abort to be forgotten")
        await enqueued(arq_redis, "answer", _job_id="same")
        await until(lambda: one.jobs_complete == 2, "the second job to end")


async def _is_empty(pool: ArqRedis, key: str) -> bool:
    return not await pool.exists(key)


@pytest.mark.parametrize("skew_s", [-3600, 3600])
async def test_an_abort_by_a_wrong_clock_is_obeyed(arq_redis: ArqRedis, worker: Make, skew_s: float) -> None:
    wait = Waiting()
    job = await enqueued(arq_redis, "wait")
    workers = [worker([wait.function], allow_abort_jobs=True) for _ in range(2)]
    serving = [asyncio.create_task(one.main()) for one in workers]
    await wait.started.wait()

    await arq_redis.zadd(abort_jobs_ss, {job.job_id: (time.time() + skew_s) * 1000})

    with pytest.raises(asyncio.CancelledError):
        await job.result(60, poll_delay=0.02)
    await asyncio.gather(*serving)


async def test_a_job_that_blocks_the_loop_keeps_its_lease(arq_redis: ArqRedis, worker: Make) -> None:
    runs = []

    async def block(ctx: Ctx) -> str:
        runs.append(1)
        time.sleep(LEASE_S + 1)  # noqa: ASYNC251  # what is tested
        return "done"

    job = await enqueued(arq_redis, "block")
    await worker([func(block, name="block")]).main()

    assert await job.result() == "done"
    assert runs == [1]


async def test_long_jobs_do_not_hide_short_ones_from_another_worker(arq_redis: ArqRedis, worker: Make) -> None:
    """arq polls the oldest members of the queue, which include running jobs."""
    wait = Waiting()
    functions = [wait.function, answer]
    for _ in range(5):
        await enqueued(arq_redis, "wait")
    busy, idle = (worker(functions, max_jobs=5, queue_read_limit=5) for _ in range(2))
    serving = [asyncio.create_task(busy.main())]
    await until(lambda: len(busy.tasks) == 5, "the long jobs to run")
    serving.append(asyncio.create_task(idle.main()))

    short = await enqueued(arq_redis, "answer")

    assert await short.result(60, poll_delay=0.02) == 42
    wait.go.set()
    await asyncio.gather(*serving)


async def test_a_function_that_breaks_its_worker_fails_only_its_job(arq_redis: ArqRedis, worker: Make) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no picture please")

        def __reduce__(self) -> Any:
            return int, (7,)

    class Unreadable(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")

    async def leave(ctx: Ctx) -> None:
        sys.exit(3)

    async def shy(ctx: Ctx) -> Any:
        return Shy()

    async def unreadable(ctx: Ctx) -> None:
        raise Unreadable(1, 2)

    # So that pickle finds it.
    globals()["Unreadable"], Unreadable.__qualname__ = Unreadable, "Unreadable"
    jobs = {name: await enqueued(arq_redis, name) for name in ("leave", "shy", "unreadable", "answer")}
    functions = [func(f, name=f.__name__) for f in (leave, shy, unreadable, answer)]
    one = worker(functions)
    with pytest.raises(FailedJobs, match="2 jobs failed"):
        await one.run_check()

    assert await jobs["answer"].result() == 42
    assert await jobs["shy"].result() == 7
    with pytest.raises(JobExecutionFailed, match="the task called sys.exit"):
        await jobs["leave"].result()
    with pytest.raises(JobExecutionFailed, match="Unreadable: 1 and 2"):
        await jobs["unreadable"].result()
    assert len(await arq_redis.all_job_results()) == 4


async def test_a_hook_that_fails_fails_its_job_and_not_the_worker(arq_redis: ArqRedis, worker: Make) -> None:
    async def start(ctx: Ctx) -> None:
        if ctx["job_id"] == "bad":
            raise RuntimeError("not today")

    async def end(ctx: Ctx) -> None:
        raise RuntimeError("too late")

    bad = await enqueued(arq_redis, "answer", _job_id="bad")
    good = await enqueued(arq_redis, "answer", _job_id="good")
    one = worker([answer], on_job_start=start, on_job_end=end, after_job_end=end)
    await one.main()

    with pytest.raises(RuntimeError, match="not today"):
        await bad.result()
    assert await good.result() == 42


async def test_entries_that_are_not_jobs_are_put_aside(arq_redis: ArqRedis, worker: Make) -> None:
    await arq_redis.zadd("arq:queue", {b"\xff\xfe": 1})
    job = await enqueued(arq_redis, "answer")
    strange = {"t": None, "f": ["no name"], "a": 1, "k": None, "et": "now"}
    for arq_id, payload in {"garbled": b"not a pickle", "strange": pickle.dumps(strange)}.items():
        await arq_redis.set(f"arq:job:{arq_id}", payload)
        await arq_redis.zadd("arq:queue", {arq_id: 1})

    one = worker([answer])
    await one.main()

    assert await job.result() == 42
    assert (one.jobs_complete, one.jobs_failed) == (1, 2)
    assert await arq_redis.smembers("jk:default:arq-quarantine:arq:queue") == {b"\xff\xfe"}  # type: ignore[misc]


async def test_a_queue_key_of_another_type_is_waited_for(arq_redis: ArqRedis, worker: Make) -> None:
    await arq_redis.set("arq:queue", "no queue")
    one = worker([answer], burst=False)
    async with serving(one) as task:
        await asyncio.sleep(0.2)  # until the worker has read the key
        assert not task.done()

        await arq_redis.delete("arq:queue")
        job = await enqueued(arq_redis, "answer")

        assert await job.result(60, poll_delay=0.02) == 42


async def test_a_wiped_server_does_not_end_the_worker(arq_redis: ArqRedis, worker: Make) -> None:
    wait = Waiting()
    await enqueued(arq_redis, "wait")
    one = worker([wait.function, answer], burst=False)
    async with serving(one):
        await wait.started.wait()
        await arq_redis.flushdb()
        wait.go.set()

        job = await enqueued(arq_redis, "answer")

        assert await job.result(60, poll_delay=0.02) == 42
        assert len(await arq_redis.keys("arq:result:*")) == 1


async def test_a_job_that_is_removed_from_arqs_queue_is_not_run(
    arq_redis: ArqRedis, worker: Make, settings: Settings
) -> None:
    wait = Waiting()
    await enqueued(arq_redis, "wait", _job_id="first")
    await enqueued(arq_redis, "fails", _job_id="second")
    await enqueued(arq_redis, "fails", _job_id="third", _defer_by=60)
    one = worker([wait.function, fails], max_jobs=1)
    serving = asyncio.create_task(one.main())
    await wait.started.wait()
    await until(lambda: _has(settings, 3), "all to have records")

    await arq_redis.zrem("arq:queue", "second", "third")
    wait.go.set()

    await serving
    found = {record.id: str(record.state) for record in await records(settings)}
    assert found == {"first": "succeeded", "second": "cancelled", "third": "cancelled"}
    assert one.jobs_failed == 0
    assert 0 < await arq_redis.pttl("arq:job:second") <= 86_400_000  # as arq leaves it


async def _has(settings: Settings, count: int) -> bool:
    return len(await records(settings)) == count


async def test_an_id_that_is_used_again_gets_a_new_record(
    arq_redis: ArqRedis, worker: Make, settings: Settings
) -> None:
    one = worker([answer], keep_result=0)
    for _ in range(2):
        await enqueued(arq_redis, "answer", _job_id="nightly")
        await one.main()
    odd = await enqueued(arq_redis, "answer", _job_id="für alle: 1/2")
    await one.main()

    last, second, first = await records(settings)
    assert first.id == "nightly"
    assert second.id.startswith("nightly.")
    assert (second.spec.key, last.spec.key) == ("nightly", odd.job_id)
    assert second.to_json()["key"] == "nightly"  # what `jobkit show --json` prints
    assert all(record.state == "succeeded" for record in (first, second, last))


async def test_the_health_key_stays_while_another_worker_lives(
    arq_redis: ArqRedis, worker: Make, where: RedisSettings, settings: Settings
) -> None:
    other = Worker([answer], redis_settings=where, handle_signals=False, settings=settings)
    async with serving(other):
        await until(lambda: arq_redis.exists("arq:queue:health-check"), "the other worker to tell its health")
        one = worker([answer])
        await one.main()

        await one.close()

        assert await arq_redis.exists("arq:queue:health-check")
    await other.close()
    assert not await arq_redis.exists("arq:queue:health-check")


async def test_a_signal_that_comes_before_the_start_counts(arq_redis: ArqRedis, worker: Make) -> None:
    one = worker([answer], burst=False)
    one.handle_sig(signal.SIGTERM)
    await one.main()

    job = await enqueued(arq_redis, "answer")
    serving = asyncio.create_task(one.main())

    assert await job.result(60, poll_delay=0.02) == 42
    one.handle_sig(signal.SIGTERM)
    await serving


async def test_a_closed_worker_may_serve_again(arq_redis: ArqRedis, worker: Make) -> None:
    one = worker([answer])
    for _ in range(2):
        job = await enqueued(arq_redis, "answer")
        await one.main()
        assert await job.result() == 42
        await one.close()


async def test_close_waits_for_the_jobs_that_it_ends(arq_redis: ArqRedis, worker: Make) -> None:
    wait = Waiting()
    job = await enqueued(arq_redis, "wait")
    one = worker([wait.function], burst=False)
    serving = asyncio.create_task(one.main())
    await wait.started.wait()

    await one.close()

    assert serving.done()
    assert serving.exception() is None
    assert await job.status() is JobStatus.queued
    await arq_redis.delete("arq:queue")
    await worker([answer]).main()


async def test_a_cancelled_worker_releases_its_jobs_at_once(arq_redis: ArqRedis, worker: Make) -> None:
    started = asyncio.Event()

    async def once(ctx: Ctx) -> str:
        if not started.is_set():
            started.set()
            await asyncio.sleep(3600)
        return f"try {ctx['job_try']}"

    job = await enqueued(arq_redis, "once")
    async with serving(worker([func(once, name="once")])):
        await started.wait()
    assert await job.status() is JobStatus.queued

    await worker([func(once, name="once")]).main()

    assert await job.result() == "try 1"


async def test_a_backlog_longer_than_the_window_is_worked_off(
    arq_redis: ArqRedis, worker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.features.arq.queue.WINDOW", 10)
    jobs = [await enqueued(arq_redis, "answer") for _ in range(60)]
    await enqueued(arq_redis, "answer", _job_id="later", _defer_by=0.3)

    assert await worker([answer], queue_read_limit=7).run_check() == 61

    assert [await job.result() for job in jobs] == [42] * 60
    assert await Job("later", arq_redis).result() == 42


class _ExitsInReduce:
    def __reduce__(self) -> Any:
        raise SystemExit(3)


async def leave(ctx: Ctx, way: str) -> Any:
    if way == "cancel":
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
    if way == "reduce":
        return _ExitsInReduce()
    raise {"close": GeneratorExit, "interrupt": KeyboardInterrupt, "exit": SystemExit}[way]("words")


@pytest.mark.parametrize("hook", [None, "on_job_start", "on_job_end", "after_job_end"])
async def test_every_way_out_of_a_function_and_of_a_hook_ends_its_job(
    arq_redis: ArqRedis, worker: Make, settings: Settings, hook: str | None
) -> None:
    """In arq most of these end the worker; `GeneratorExit` leaves the job unfinished for ever."""

    async def leaves(ctx: Ctx) -> None:
        raise GeneratorExit

    ways = ("close", "interrupt", "exit", "cancel", "reduce") if hook is None else ("close",)
    jobs = [await enqueued(arq_redis, "leave", way) for way in ways]
    jobs.append(await enqueued(arq_redis, "answer"))
    options = {} if hook is None else {hook: leaves}

    await asyncio.wait_for(worker([leave, answer], retry_jobs=False, **options).main(), 20)

    for job in jobs[:-1]:
        with pytest.raises((JobExecutionFailed, asyncio.CancelledError)):
            await job.result(timeout=1)
    if hook == "on_job_start":
        assert {record.state for record in await records(settings)} == {"failed"}
    else:
        assert await jobs[-1].result(timeout=1) == 42
    assert len(await records(settings)) == len(jobs)
