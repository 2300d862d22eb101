"""Demand: how many waiting jobs could start now, by queue and resources; and workers that end only without jobs."""

from __future__ import annotations

import pytest

from jobkit.features.pools.store import Demand, PoolStore
from jobkit.model.limits import Gate
from jobkit.store.redis import RedisStore
from jobkit.store.values import WorkerInfo
from tests.features.schedules.test_store import put
from tests.features.schedules.test_store import spec as schedule_spec
from tests.store.support import claim, come_due, ending, job, lapse, started, submit, worker


async def wait_many(store: RedisStore, n: int, **spec: object) -> None:
    for start in range(0, n, 500):
        await store.submit([job(**spec) for _ in range(min(500, n - start))])  # type: ignore[arg-type]


async def test_jobs_are_counted_by_queue_and_resources(store: RedisStore) -> None:
    await submit(store, "a", "b")
    await submit(store, "c", "d", queue="gpu", resources={"gpu": 1.0})
    await submit(store, "e", queue="gpu", resources={"gpu": 2.0})

    found = await store.part(PoolStore).demand(["default", "gpu", "unused"])

    assert found[0] == Demand("default", {}, 2)
    assert sorted((each.jobs, dict(each.use)) for each in found[1:]) == [(1, {"gpu": 2.0}), (2, {"gpu": 1.0})]


async def test_a_job_whose_needs_are_damaged_hides_no_others(store: RedisStore) -> None:
    await submit(store, "a", "b")
    terms = '{"uses": "gpu", "use": {"gpu": "many"}}'
    for id in await store.redis.zrange(f"{store.prefix}ready:default", 0, 0):
        await store.redis.hset(f"{store.prefix}job:{id.decode()}", "terms", terms)

    assert await store.part(PoolStore).demand(["default"]) == [Demand("default", {}, 1)]


@pytest.mark.parametrize("line", ["ready:default", "due:default", "leases", "schedules"])
async def test_damaged_records_hide_no_other_jobs(store: RedisStore, line: str) -> None:
    await submit(store, "a")
    damaged = [f"{store.prefix}{kind}:damaged" for kind in ("job", "schedule")]
    await store.redis.mset(dict.fromkeys(damaged, "no record"))
    await store.redis.zadd(f"{store.prefix}{line}", {"damaged": 1})

    found = await store.part(PoolStore).demand(["default"])

    await store.redis.delete(*damaged)
    await store.redis.zrem(f"{store.prefix}{line}", "damaged")
    assert found == [Demand("default", {}, 1)]


async def test_jobs_of_paused_queues_and_tasks_are_no_demand(store: RedisStore) -> None:
    await submit(store, "a", "b")
    await submit(store, "c", task="other")

    await store.set_rule("task:other", {"paused": {"by": "ada"}})
    assert [each.jobs for each in await store.part(PoolStore).demand(["default"])] == [2]
    await store.set_rule("queue:default", {"paused": {"by": "ada"}})
    assert await store.part(PoolStore).demand(["default"]) == []


async def test_jobs_beyond_a_limit_are_no_demand_before_and_while_others_run(store: RedisStore) -> None:
    await submit(store, *"abcdefg", limits=(Gate("task:simulate", n=3),))

    assert [each.jobs for each in await store.part(PoolStore).demand(["default"])] == [3]
    claimed = await claim(store, 2)
    assert [each.jobs for each in await store.part(PoolStore).demand(["default"])] == [1]
    await store.finish([ending(each) for each in claimed])


async def test_a_limit_of_the_queue_counts_for_all_its_jobs(store: RedisStore) -> None:
    await submit(store, *"abcdefg")
    await store.set_rule("queue:default", {"n": 2})

    assert [each.jobs for each in await store.part(PoolStore).demand(["default"])] == [2]


async def test_what_only_a_worker_starts_is_demand_if_no_worker_lives(store: RedisStore) -> None:
    lost = await started(store, "lost")
    await submit(store, "soon", queue="gpu", resources={"gpu": 1.0}, delay_ms=60_000)
    await submit(store, "first", "parked", limits=(Gate("key:calls", count=1, period_ms=60_000),))
    first = await claim(store, 2)
    await put(store, schedule_spec())
    assert await store.part(PoolStore).demand(["default", "gpu"]) == []

    await lapse(store, "lost")
    await come_due(store, "soon", "gpu")
    assert await store.part(PoolStore).demand(["default", "gpu"]) == [
        Demand("default", {}, 1),
        Demand("gpu", {"gpu": 1.0}, 1),
    ]
    await come_due(store, "!key:calls")
    await store.redis.delete(f"{store.prefix}starts:key:calls")
    await store.redis.zadd(f"{store.prefix}schedules", {"nightly": 1}, xx=True)
    assert await store.part(PoolStore).demand(["default"]) == [Demand("default", {}, 3)]
    await store.finish([ending(each) for each in (lost, *first)])


async def test_long_lines_are_estimated_without_reading_them(store: RedisStore) -> None:
    await wait_many(store, 700)

    [found] = await store.part(PoolStore).demand(["default"])

    assert found.jobs == 700


async def test_jobs_behind_many_that_may_not_start_are_seen(store: RedisStore) -> None:
    await wait_many(store, 400, task="limited", limits=(Gate("task:limited", n=1),))
    await wait_many(store, 400)

    [found] = await store.part(PoolStore).demand(["default"])

    assert 350 <= found.jobs <= 500


async def test_an_idle_worker_that_is_asked_to_end_gets_no_job_any_more(store: RedisStore) -> None:
    here = WorkerInfo(id="w1", slots=2)
    await store.renew("w1", {}, {"slots": 2, "queues": "default"})
    await store.claim(here, 2)

    assert await store.stop_idle(["w1", "unknown"]) == [True, False]
    await submit(store, "a")
    assert await claim(store, 2, here) == []
    assert len(await claim(store, 1, worker("w2"))) == 1
    assert await store.stop_idle(["w1"]) == [False]


async def test_a_worker_with_a_job_is_not_asked_to_end(store: RedisStore) -> None:
    here = WorkerInfo(id="w1", slots=2)
    await submit(store, "a")
    await store.renew("w1", {}, {"slots": 2, "queues": "default"})
    [claimed] = await claim(store, 2, here)

    assert await store.stop_idle(["w1"]) == [False]
    await store.finish([ending(claimed)])
    await store.claim(here, 2)
    assert await store.stop_idle(["w1"]) == [True]


async def test_a_worker_that_finishes_its_jobs_stays_known_until_it_has_ended(store: RedisStore) -> None:
    await store.renew("w1", {}, {"slots": 2, "queues": "default"})

    await store.leave("w1", stays=True)
    assert [(one.id, one.is_draining) for one in await store.workers()] == [("w1", True)]
    await store.leave("w1")
    assert await store.workers() == []
