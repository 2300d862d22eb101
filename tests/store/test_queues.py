"""Tests of reasons why queues wait, and of what workers use."""

from __future__ import annotations

import json

from jobkit.model import Gate
from jobkit.model.load import Spark, Usage, WorkerLoad
from jobkit.store.redis import RedisStore
from jobkit.store.values import WorkerInfo

from .support import claim, submit, worker

ONE_GPU = WorkerInfo(id="w1", resources={"gpu": 1})


async def reasons(store: RedisStore, *queues: str) -> list[tuple[str, int, str]]:
    found = await store.blocked(queues or ["default"])
    return [(line.queue, line.count, line.waiting.gate if line.waiting else "") for line in found]


async def test_jobs_are_counted_by_what_they_wait_for(store: RedisStore) -> None:
    await submit(store, "a", "b", "c", resources={"gpu": 1})
    await submit(store, "s1", "s2", "s3", limits=(Gate("key:simulate", n=1),))
    await claim(store, 10, ONE_GPU)

    assert sorted(await reasons(store)) == [("default", 2, "key:simulate"), ("default", 2, "res:default:gpu=1")]


async def test_of_many_blocked_jobs_the_first_and_the_last_are_read(store: RedisStore) -> None:
    await submit(store, *(f"a{i}" for i in range(120)), limits=(Gate("key:one", n=1),))
    await submit(store, "b1", "b2", limits=(Gate("key:two", n=1),))
    await claim(store, 10)

    assert await reasons(store) == [("default", 119, "key:one"), ("default", 1, "key:two")]


async def test_a_paused_queue_has_one_reason_for_all_of_its_jobs(store: RedisStore) -> None:
    await submit(store, "a", "b")
    await store.set_rule("queue:default", {"paused": {"by": "ada"}})

    [line] = await store.blocked(["default", "unknown"])

    assert line.count == 0
    assert line.waiting is not None
    assert line.waiting.is_paused


async def test_a_queue_that_only_needs_a_worker_has_no_reason(store: RedisStore) -> None:
    await submit(store, "a")

    assert await reasons(store) == []
    assert await store.blocked([]) == []


async def test_workers_say_what_their_jobs_use_of_their_resources(store: RedisStore) -> None:
    await submit(store, "a", "b", resources={"gpu": 1})
    await store.renew("w1", {}, {"queues": "default", "has": json.dumps({"gpu": 4, "mem": 8})})
    await claim(store, 10, WorkerInfo(id="w1", resources={"gpu": 4, "mem": 8}))

    [found] = await store.workers()

    assert (found.resources, found.in_use) == ({"gpu": 4, "mem": 8}, {"gpu": 2})


async def test_the_load_of_a_worker_is_kept_beside_its_record(store: RedisStore) -> None:
    load = WorkerLoad(whole=Usage(Spark.of([1, 50, 200], 100), Spark.of([10, 20])))
    await store.renew("w1", {}, {"load": json.dumps(load.to_wire())})
    await store.renew("w2", {}, {})

    assert await store.loads(["w1", "w2"]) == {"w1": load}
    assert b"load" not in await store.ask("HGETALL", "worker:w1")
    assert 0 < await store.ask("PTTL", "load:w1") <= 60_000 * 4
    assert load.whole.cpu.shape == "09z"


async def test_a_worker_without_a_load_is_listed(store: RedisStore) -> None:
    await claim(store, 1, worker("old"))
    await store.renew("old", {}, {"cpu": 12.5, "rss": 1000})

    [found] = await store.workers()

    assert (found.cpu_percent, found.gpus, found.in_use) == (12.5, (), {})
    assert await store.loads(["old"]) == {}


async def test_jobs_at_gates_that_are_not_read_are_counted_together(store: RedisStore) -> None:
    for n in range(15):
        await submit(store, f"a{n}", f"b{n}", limits=(Gate(f"key:{n:02}", n=1),))
    await claim(store, 20)

    found = await store.blocked(["default"])

    assert [(line.count, line.waiting is None) for line in found] == [*[(1, False)] * 10, (5, True)]
