"""Documented behaviour of arq's worker, tested on jobkit's: arq's client enqueues, arq's `Job` reads."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import arq.worker
import pytest
from arq import Retry, func
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.cron import cron
from arq.jobs import Job, JobStatus, ResultNotFound, SerializationError
from arq.worker import FailedJobs, JobExecutionFailed, async_check_health

from jobkit.settings import Settings
from jobkit.worker import Worker
from tests.support import until

from .conftest import NOT_SOON, Make, Waiting, serving

Ctx = dict[str, Any]


async def answer(ctx: Ctx) -> int:
    return 42


async def fails(ctx: Ctx) -> None:
    raise TypeError("my type error")


async def forever(ctx: Ctx) -> None:
    await asyncio.sleep(3600)


async def enqueued(pool: ArqRedis, *args: Any, **options: Any) -> Job:
    job = await pool.enqueue_job(*args, **options)
    assert job is not None
    return job


def test_every_argument_of_arqs_worker_is_accepted_with_the_same_default() -> None:
    theirs, ours = (inspect.signature(kind).parameters for kind in (arq.worker.Worker, Worker))

    assert {name: p.default for name, p in theirs.items()} == {name: ours[name].default for name in theirs}
    assert set(ours) - set(theirs) == {"settings", "owns_process"}


# -- functions and their context


async def test_a_function_gets_its_context(arq_redis: ArqRedis, worker: Make) -> None:
    seen: Ctx = {}

    async def startup(ctx: Ctx) -> None:
        ctx["session"] = "opened"

    async def look(ctx: Ctx, *args: int, **more: int) -> tuple[Any, ...]:
        seen.update(ctx)
        return args, more

    job = await enqueued(arq_redis, "look", 1, 2, c=3, _job_id="my job/7")
    before = await arq_redis.zscore("arq:queue", "my job/7")
    await worker([func(look, name="look")], on_startup=startup, ctx={"own": 1}).main()

    assert await job.result() == ((1, 2), {"c": 3})
    assert (seen["job_id"], seen["job_try"], seen["own"], seen["session"]) == ("my job/7", 1, 1, "opened")
    assert seen["score"] == before
    assert isinstance(seen["redis"], ArqRedis)
    assert abs(datetime.now(UTC) - seen["enqueue_time"]) < timedelta(seconds=30)


async def test_jobs_may_enqueue_jobs(arq_redis: ArqRedis, worker: Make) -> None:
    async def parent(ctx: Ctx) -> str:
        return str((await ctx["redis"].enqueue_job("answer")).job_id)

    job = await enqueued(arq_redis, "parent")
    await worker([func(parent, name="parent"), answer]).main()

    assert await Job(await job.result(), arq_redis).result() == 42


async def test_functions_are_registered_by_path_name_and_setting(arq_redis: ArqRedis, worker: Make) -> None:
    named = await enqueued(arq_redis, "other")
    by_path = await enqueued(arq_redis, "tests.features.arq.test_documented.answer")
    await worker([func(answer, name="other"), "tests.features.arq.test_documented.answer"]).main()

    assert (await named.result(), await by_path.result()) == (42, 42)


async def test_settings_without_functions_are_refused(settings: Settings) -> None:
    with pytest.raises(RuntimeError, match="at least one function or cron_job must be registered"):
        Worker([], settings=settings)
    with pytest.raises(RuntimeError, match="is not a coroutine function"):
        Worker([len], settings=settings)
    with pytest.raises(RuntimeError, match="must be instances of CronJob"):
        Worker(cron_jobs=[answer], settings=settings)
    with pytest.raises(ValueError, match="queue_name is absent"):
        Worker([answer], queue_name=None, settings=settings)


async def test_blocking_code_may_run_in_an_executor(arq_redis: ArqRedis, worker: Make) -> None:
    async def blocking(ctx: Ctx, seconds: float) -> str:
        await asyncio.get_running_loop().run_in_executor(ctx["pool"], time.sleep, seconds)
        return "slept"

    with ThreadPoolExecutor() as pool:
        jobs = [await enqueued(arq_redis, "blocking", 0.05) for _ in range(3)]
        await worker([func(blocking, name="blocking")], ctx={"pool": pool}).main()

        assert [await job.result() for job in jobs] == ["slept"] * 3


# -- deferring, ids, results


async def test_deferred_jobs_wait(arq_redis: ArqRedis, worker: Make) -> None:
    by = await enqueued(arq_redis, "answer", _defer_by=0.4)
    until_ = await enqueued(arq_redis, "answer", _defer_until=datetime.now(UTC) + timedelta(seconds=0.5))
    assert [await by.status(), await until_.status()] == [JobStatus.deferred] * 2
    began = time.monotonic()

    await worker([answer]).main()

    assert time.monotonic() - began > 0.3
    for job in (by, until_):
        info = await job.result_info()
        assert info is not None
        assert info.start_time - info.enqueue_time >= timedelta(seconds=0.35)


async def test_a_job_that_expires_is_not_started(arq_redis: ArqRedis, worker: Make) -> None:
    busy = await enqueued(arq_redis, "nap", _job_id="a")
    late = await enqueued(arq_redis, "answer", _job_id="b", _expires=0.1)

    async def nap(ctx: Ctx) -> None:
        await asyncio.sleep(0.3)

    one = worker([func(nap, name="nap"), answer], max_jobs=1)
    await one.main()

    assert await busy.result() is None
    with pytest.raises(JobExecutionFailed, match="job expired"):
        await late.result()


async def test_a_job_whose_payload_is_gone_fails(arq_redis: ArqRedis, worker: Make) -> None:
    job = await enqueued(arq_redis, "answer")
    await arq_redis.delete(f"arq:job:{job.job_id}")

    with pytest.raises(FailedJobs, match="job expired"):
        await worker([answer]).run_check()
    with pytest.raises(JobExecutionFailed, match="job expired"):
        await job.result()


async def test_an_id_is_refused_until_the_result_expires(arq_redis: ArqRedis, worker: Make) -> None:
    await enqueued(arq_redis, "answer", _job_id="backup")
    assert await arq_redis.enqueue_job("answer", _job_id="backup") is None
    one = worker([answer], keep_result=1)
    await one.main()
    assert await arq_redis.enqueue_job("answer", _job_id="backup") is None

    await until(lambda: _is_gone(arq_redis, "arq:result:backup"), "the result to go")
    again = await enqueued(arq_redis, "answer", _job_id="backup")
    await one.main()

    assert await again.result() == 42
    assert one.jobs_complete == 2


async def _is_gone(pool: ArqRedis, key: str) -> bool:
    return not await pool.exists(key)


async def test_results_are_read_as_in_arq(arq_redis: ArqRedis, worker: Make) -> None:
    job = await enqueued(arq_redis, "add", 1, b=2)
    assert await job.status() is JobStatus.queued
    info = await job.info()
    assert info is not None
    assert (info.function, info.args, info.kwargs, info.job_try) == ("add", (1,), {"b": 2}, None)

    async def add(ctx: Ctx, a: int, b: int) -> int:
        assert await job.status() is JobStatus.in_progress
        return a + b

    await worker([func(add, name="add")]).main()

    assert await job.status() is JobStatus.complete
    found = await job.result_info()
    assert found is not None
    assert (found.success, found.result, found.job_try, found.queue_name) == (True, 3, 1, "arq:queue")
    assert (found.function, found.args, found.kwargs, found.job_id) == ("add", (1,), {"b": 2}, job.job_id)
    assert found.enqueue_time <= found.start_time <= found.finish_time
    assert [r.result for r in await arq_redis.all_job_results()] == [3]
    assert await arq_redis.queued_jobs() == []


async def test_waiting_jobs_are_listed_and_keep_their_score(arq_redis: ArqRedis, worker: Make) -> None:
    wait = Waiting()
    await enqueued(arq_redis, "wait", _job_id="first")
    await enqueued(arq_redis, "answer", 1, _job_id="second")
    await enqueued(arq_redis, "answer", _job_id="later", _defer_by=60)
    before = [(j.job_id, j.score) for j in await arq_redis.queued_jobs()]

    one = worker([wait.function, answer], max_jobs=1, burst=False)
    async with serving(one):
        await wait.started.wait()
        await until(lambda: _size(arq_redis, "jk:default:arq:arq:queue", 3), "all to have records")

        assert [(j.job_id, j.score) for j in await arq_redis.queued_jobs()] == before
        statuses = [await Job(job_id, arq_redis).status() for job_id in ("first", "second", "later")]
        assert statuses == [JobStatus.in_progress, JobStatus.queued, JobStatus.deferred]
    assert await Job("first", arq_redis).status() is JobStatus.queued


async def _size(pool: ArqRedis, key: str, size: int) -> bool:
    return bool(await pool.hlen(key) == size)  # type: ignore[misc]


async def test_an_error_is_raised_when_the_result_is_read(arq_redis: ArqRedis, worker: Make) -> None:
    job = await enqueued(arq_redis, "fails")

    with pytest.raises(FailedJobs, match=r"1 job failed TypeError\('my type error'\)"):
        await worker([fails]).run_check()

    with pytest.raises(TypeError, match="my type error"):
        await job.result()


async def test_an_exception_that_is_returned_is_a_value(arq_redis: ArqRedis, worker: Make) -> None:
    async def give(ctx: Ctx) -> TypeError:
        return TypeError("xxx")

    job = await enqueued(arq_redis, "give")
    await worker([func(give, name="give")]).main()

    assert isinstance(await job.result(), TypeError)


async def test_an_unknown_function_fails_the_job(arq_redis: ArqRedis, worker: Make) -> None:
    await enqueued(arq_redis, "missing")

    with pytest.raises(FailedJobs, match="function 'missing' not found"):
        await worker([answer]).run_check()


async def test_results_are_kept_for_the_requested_time(arq_redis: ArqRedis, worker: Make) -> None:
    functions = [
        func(answer, name="usual"),
        func(answer, name="brief", keep_result=timedelta(seconds=10)),
        func(answer, name="none", keep_result=0),
        func(answer, name="forever", keep_result_forever=True),
    ]
    jobs = {f.name: await enqueued(arq_redis, f.name) for f in functions}
    await worker(functions, keep_result=100.5).main()

    ttl = {name: await arq_redis.pttl(f"arq:result:{job.job_id}") for name, job in jobs.items()}
    assert 90_000 < ttl["usual"] <= 100_500
    assert 5_000 < ttl["brief"] <= 10_000
    assert ttl["none"] == -2
    assert ttl["forever"] == -1
    with pytest.raises(ResultNotFound):
        await jobs["none"].result()


async def test_nothing_but_results_and_health_remains_of_arqs_keys(arq_redis: ArqRedis, worker: Make) -> None:
    await enqueued(arq_redis, "answer", _job_id="testing")
    one = worker([answer])
    await one.main()
    assert sorted(await arq_redis.keys("arq:*")) == [b"arq:queue:health-check", b"arq:result:testing"]

    await one.close()

    assert sorted(await arq_redis.keys("arq:*")) == [b"arq:result:testing"]


# -- retries


async def test_retry_runs_the_job_again_after_its_delay(arq_redis: ArqRedis, worker: Make) -> None:
    tries: list[tuple[int, float]] = []

    async def flaky(ctx: Ctx) -> str:
        tries.append((ctx["job_try"], time.monotonic()))
        if ctx["job_try"] < 3:
            raise Retry(defer=0.2)
        return "done"

    job = await enqueued(arq_redis, "flaky")
    one = worker([func(flaky, name="flaky")])
    assert await one.run_check() == 1

    assert await job.result() == "done"
    assert [number for number, _ in tries] == [1, 2, 3]
    assert all(later - earlier >= 0.19 for (_, earlier), (_, later) in itertools.pairwise(tries))
    assert (one.jobs_complete, one.jobs_retried, one.jobs_failed) == (1, 2, 0)
    info = await job.result_info()
    assert info is not None
    assert info.job_try == 3


async def test_a_job_that_waits_for_its_retry_is_deferred(arq_redis: ArqRedis, worker: Make) -> None:
    async def later(ctx: Ctx) -> None:
        raise Retry(defer=60)

    job = await enqueued(arq_redis, "later")
    one = worker([func(later, name="later")], burst=False)
    async with serving(one):

        async def is_deferred() -> bool:
            return await job.status() is JobStatus.deferred

        await until(is_deferred, "the job to be deferred")
        info = await job.info()
        assert info is not None
        assert info.score is not None
        assert 50 < info.score / 1000 - time.time() < 61
    await arq_redis.delete("arq:queue")
    await one.queue.scan(10, obeys_aborts=False)


@pytest.mark.parametrize(("own", "tries"), [(None, 5), (1, 1), (3, 3)])
async def test_a_job_is_tried_max_tries_times(arq_redis: ArqRedis, worker: Make, own: int | None, tries: int) -> None:
    runs = []

    async def retry(ctx: Ctx) -> None:
        runs.append(ctx["job_try"])
        raise Retry

    job = await enqueued(arq_redis, "retry")
    one = worker([func(retry, name="retry", max_tries=own)])
    with pytest.raises(FailedJobs, match=f"max {tries} retries exceeded"):
        await one.run_check()

    assert runs == list(range(1, tries + 1))
    assert (one.jobs_retried, one.jobs_failed) == (tries, 1)
    with pytest.raises(JobExecutionFailed, match=f"max {tries} retries exceeded"):
        await job.result()


async def test_other_errors_are_final(arq_redis: ArqRedis, worker: Make) -> None:
    await enqueued(arq_redis, "fails")
    one = worker([fails])
    await one.main()

    assert (one.jobs_failed, one.jobs_retried) == (1, 0)


async def test_without_retry_jobs_a_retry_is_an_error(arq_redis: ArqRedis, worker: Make) -> None:
    async def retry(ctx: Ctx) -> None:
        raise Retry(defer=0.01)

    await enqueued(arq_redis, "retry")
    with pytest.raises(FailedJobs, match="1 job failed <Retry defer 0.01s>"):
        await worker([func(retry, name="retry")]).run_check(retry_jobs=False)


async def test_a_cancelled_error_raised_by_the_function_is_a_try(arq_redis: ArqRedis, worker: Make) -> None:
    async def odd(ctx: Ctx) -> str:
        if ctx["job_try"] == 1:
            raise asyncio.CancelledError
        return "done"

    job = await enqueued(arq_redis, "odd")
    await worker([func(odd, name="odd")]).main()

    assert await job.result() == "done"


async def test_the_first_try_may_have_a_number(arq_redis: ArqRedis, worker: Make) -> None:
    async def number(ctx: Ctx) -> int:
        if ctx["job_try"] == 3:
            raise Retry
        return int(ctx["job_try"])

    plain = await enqueued(arq_redis, "number")
    third = await enqueued(arq_redis, "number", _job_try=3)
    too_many = await enqueued(arq_redis, "number", _job_try=7)
    await worker([func(number, name="number")]).main()

    assert (await plain.result(), await third.result()) == (1, 4)
    with pytest.raises(JobExecutionFailed, match="max 5 retries exceeded"):
        await too_many.result()


# -- timeout and abort


async def test_a_timeout_ends_the_job(arq_redis: ArqRedis, worker: Make) -> None:
    jobs = [await enqueued(arq_redis, name) for name in ("usual", "own")]
    functions = [func(forever, name="usual"), func(forever, name="own", timeout=timedelta(seconds=0.1))]
    await worker(functions, job_timeout=0.2).main()

    for job in jobs:
        with pytest.raises(asyncio.TimeoutError):
            await job.result()


async def test_no_timeout_is_allowed(arq_redis: ArqRedis, worker: Make) -> None:
    job = await enqueued(arq_redis, "answer")
    await worker([answer, fails], job_timeout=None).main()

    assert await job.result() == 42


async def test_a_running_job_is_aborted(arq_redis: ArqRedis, worker: Make) -> None:
    left = asyncio.Event()
    started = asyncio.Event()

    async def long(ctx: Ctx) -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            left.set()

    job = await enqueued(arq_redis, "long")
    one = worker([func(long, name="long")], allow_abort_jobs=True)
    serving = asyncio.create_task(one.main())
    await started.wait()

    assert await job.abort(timeout=10, poll_delay=0.02) is True
    await serving
    assert left.is_set()
    assert (one.jobs_failed, one.jobs_retried) == (1, 0)
    info = await job.result_info()
    assert info is not None
    assert info.success is False
    assert isinstance(info.result, asyncio.CancelledError)


@pytest.mark.parametrize("defer_by", [None, 86_400])
async def test_a_waiting_job_is_aborted_before_it_starts(
    arq_redis: ArqRedis, worker: Make, defer_by: float | None
) -> None:
    job = await enqueued(arq_redis, "fails", _defer_by=defer_by)
    with pytest.raises(asyncio.TimeoutError):
        await job.abort(timeout=0)

    one = worker([fails], allow_abort_jobs=True)
    await one.main()

    with pytest.raises(asyncio.CancelledError):
        await job.result()
    assert one.jobs_failed == 1
    assert await arq_redis.zcard("arq:abort") == 0


async def test_without_allow_abort_jobs_an_abort_has_no_effect(arq_redis: ArqRedis, worker: Make) -> None:
    started = asyncio.Event()

    async def short(ctx: Ctx) -> str:
        started.set()
        await asyncio.sleep(0.3)
        return "done"

    job = await enqueued(arq_redis, "short")
    serving = asyncio.create_task(worker([func(short, name="short")]).main())
    await started.wait()

    assert await job.abort(poll_delay=0.02) is False
    assert await job.result() == "done"
    await serving


# -- burst, hooks, health, logs


async def test_burst_with_nothing_to_do_ends(arq_redis: ArqRedis, worker: Make) -> None:
    assert await worker([answer]).run_check() == 0


async def test_max_burst_jobs_leaves_the_others(arq_redis: ArqRedis, worker: Make) -> None:
    jobs = [await enqueued(arq_redis, "answer") for _ in range(5)]

    assert await worker([answer]).run_check(max_burst_jobs=2) == 2

    statuses = [await job.status() for job in jobs]
    assert statuses.count(JobStatus.complete) == 2
    assert statuses.count(JobStatus.queued) == 3
    await worker([answer]).main()


async def test_max_jobs_run_at_once(arq_redis: ArqRedis, worker: Make) -> None:
    now, most = 0, 0

    async def count(ctx: Ctx) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1

    for _ in range(12):
        await enqueued(arq_redis, "count")
    assert await worker([func(count, name="count")], max_jobs=3).run_check() == 12
    assert most == 3


async def test_hooks_are_called_in_order_with_the_context(arq_redis: ArqRedis, worker: Make) -> None:
    calls: list[tuple[str, Any]] = []
    job = await enqueued(arq_redis, "note", _job_id="testing")

    def hook(name: str) -> Any:
        async def call(ctx: Ctx) -> None:
            calls.append((name, ctx.get("job_id")))
            if name == "after_job_end":
                assert await job.result() == "value"

        return call

    async def note(ctx: Ctx) -> str:
        calls.append(("job", ctx["job_id"]))
        return "value"

    names = ("on_startup", "on_shutdown", "on_job_start", "on_job_end", "after_job_end")
    one = worker([func(note, name="note")], **{name: hook(name) for name in names})
    await one.main()
    await one.close()

    inside = [(name, "testing") for name in ("on_job_start", "job", "on_job_end", "after_job_end")]
    assert calls == [("on_startup", None), *inside, ("on_shutdown", None)]


@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")  # arq itself uses it
async def test_health_is_reported_as_in_arq(arq_redis: ArqRedis, worker: Make, where: RedisSettings) -> None:
    assert await async_check_health(where) == 1
    await enqueued(arq_redis, "answer")
    await enqueued(arq_redis, "fails")
    one = worker([answer, fails], health_check_interval=0.01)
    await one.main()
    await asyncio.sleep(0.02)  # arq's health record uses the wall clock
    await one.record_health()

    (told,) = await arq_redis.mget("arq:queue:health-check")
    assert re.fullmatch(
        r"\w{3}-\d\d \d\d:\d\d:\d\d j_complete=1 j_failed=1 j_retried=0 j_ongoing=0 queued=0", told.decode()
    )
    assert await async_check_health(where) == 0
    assert str(one) == "<Worker j_complete=1 j_failed=1 j_retried=0 j_ongoing=0>"


async def test_the_health_key_may_have_another_name(arq_redis: ArqRedis, worker: Make) -> None:
    await worker([answer], health_check_key="arq:test:health").main()

    assert await arq_redis.keys("arq:*") == [b"arq:test:health"]


@pytest.mark.parametrize(("log_results", "end"), [(True, "● 42"), (False, "● ")])
async def test_jobs_are_logged_as_arq_does(
    arq_redis: ArqRedis, worker: Make, caplog: pytest.LogCaptureFixture, log_results: bool, end: str
) -> None:
    caplog.set_level("INFO", "arq.worker")
    await enqueued(arq_redis, "answer", _job_id="testing")
    await worker([answer], log_results=log_results).main()

    lines = [re.sub(r"\d+\.\d\ds", "X.XXs", r.getMessage()) for r in caplog.records if r.name == "arq.worker"]
    assert lines[-2:] == ["  X.XXs → testing:answer()", f"  X.XXs ← testing:answer {end}"]


async def test_arguments_are_logged_shortened_and_without_secrets(
    arq_redis: ArqRedis, worker: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "arq.worker")

    async def login(ctx: Ctx, user: str, password: str, *more: int, api_token: str = "", note: str = "") -> None: ...

    await enqueued(arq_redis, "login", "me", "s3cret", 7, api_token="s3cret", note="n" * 200)
    await worker([func(login, name="login")]).main()

    assert "login('me', ***, 7, api_token=***, note='nnn" in caplog.text
    assert "s3cret" not in caplog.text
    assert "n" * 81 not in caplog.text


# -- serializers, queues


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


async def test_custom_serializers_are_used(worker: Make, arq_redis: ArqRedis, where: RedisSettings) -> None:
    pool = await create_pool(where, job_serializer=_json_bytes, job_deserializer=json.loads)
    job = await enqueued(pool, "add", 1, b=2)
    wrong = await enqueued(pool, "fails")

    async def add(ctx: Ctx, a: int, b: int) -> int:
        inner = await ctx["redis"].enqueue_job("answer", _job_id="inner")
        assert inner is not None
        return a + b

    functions = [func(add, name="add"), fails, answer]
    await worker(functions, job_serializer=_json_bytes, job_deserializer=json.loads).main()

    assert await job.result() == 3
    assert json.loads(await pool.get(f"arq:result:{job.job_id}"))["r"] == 3
    assert await Job("inner", pool, _deserializer=json.loads).result() == 42
    with pytest.raises(SerializationError, match="unable to serialize result"):
        await wrong.result()
    await pool.aclose(close_connection_pool=True)


async def test_a_payload_of_another_serializer_fails_the_job(worker: Make, arq_redis: ArqRedis) -> None:
    await enqueued(arq_redis, "answer")
    one = worker([answer], job_serializer=_json_bytes, job_deserializer=json.loads)
    await one.main()

    assert one.jobs_failed == 1


async def test_a_result_that_cannot_be_serialized_is_reported(arq_redis: ArqRedis, worker: Make) -> None:
    async def give(ctx: Ctx) -> Any:
        return lambda: 1

    job = await enqueued(arq_redis, "give")
    await worker([func(give, name="give")]).main()

    with pytest.raises(SerializationError, match="unable to serialize result"):
        await job.result()


@pytest.mark.parametrize("name", ["arq:other", "my queue, no. 1/ü"])
async def test_a_queue_may_have_another_name(arq_redis: ArqRedis, worker: Make, name: str) -> None:
    other = await enqueued(arq_redis, "answer", _queue_name=name)
    usual = await enqueued(arq_redis, "answer")
    await worker([answer], queue_name=name).main()

    assert await other.result() == 42
    assert await usual.status() is JobStatus.queued
    await worker([answer]).main()


async def test_a_redis_pool_may_be_passed(arq_redis: ArqRedis, where: RedisSettings, settings: Settings) -> None:
    pool = await create_pool(where, default_queue_name="arq:own")
    job = await enqueued(pool, "answer")
    one = Worker([answer], redis_pool=pool, queue_name=None, burst=True, handle_signals=False, settings=settings)
    assert one.queue_name == "arq:own"
    await one.main()

    assert await job.result() == 42
    await one.close()


# -- cron jobs


async def test_a_cron_job_runs_at_its_time_once(arq_redis: ArqRedis, worker: Make) -> None:
    runs: list[tuple[float, float]] = []

    async def regularly(ctx: Ctx) -> None:
        runs.append((int(ctx["job_id"].rpartition(":")[2]) / 1000, time.time()))

    def one() -> Worker:
        every = {n for n in range(60) if n % 2 == 0}
        return worker(cron_jobs=[cron(regularly, second=every, microsecond=0)], burst=False)

    serving = [asyncio.create_task(one().main()) for _ in range(2)]
    await until(lambda: len(runs) >= 2, "two slots")
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)

    assert len({slot for slot, _ in runs}) == len(runs)
    assert all(slot % 2 == 0 and at >= slot for slot, at in runs)
    await arq_redis.delete("arq:queue")
    await worker([answer]).main()


async def test_a_cron_job_may_run_at_startup(arq_redis: ArqRedis, worker: Make) -> None:
    async def other(ctx: Ctx) -> None: ...

    jobs = [cron(answer, **NOT_SOON, run_at_startup=True), cron(other, **NOT_SOON)]
    one = worker(cron_jobs=jobs)
    await one.main()

    assert (one.jobs_complete, one.jobs_failed) == (1, 0)
    (held,) = await arq_redis.keys("arq:in-progress:cron:answer:*")
    assert await arq_redis.pttl(held) > 0


async def test_cron_jobs_with_the_same_id_run_once(arq_redis: ArqRedis, worker: Make) -> None:
    async def other(ctx: Ctx) -> None: ...

    both = [cron(f, **NOT_SOON, run_at_startup=True, job_id="single") for f in (answer, other)]
    one = worker(cron_jobs=both)
    await one.main()

    assert one.jobs_complete == 1


async def test_cron_jobs_use_their_timezone(arq_redis: ArqRedis, worker: Make) -> None:
    zone = timezone(timedelta(hours=3))
    one = worker(cron_jobs=[cron(answer, hour=1)], timezone=zone)
    await one.main()

    at = one.cron_jobs[0].next_run
    assert at is not None
    assert (at.utcoffset(), at.hour) == (timedelta(hours=3), 1)
    assert worker([answer]).timezone == datetime.now().astimezone().tzinfo
