"""Limits: concurrency and rates of tasks, queues and keys, and the queues of waiting jobs."""

from __future__ import annotations

from itertools import pairwise

import pytest

from jobkit.model import Gate, JobState
from jobkit.model.limits import Supply
from jobkit.store.redis import RedisStore
from jobkit.store.values import WorkerInfo

from .support import claim, ending, lapse, snapshot, structure, submit, worker
from .test_handover import inbox

HOUR_MS = 3_600_000
TWO = (Gate("task:simulate", n=2),)
ONE = (Gate("key:simulate ada", n=1),)


def has(name: str = "w1", **resources: float) -> WorkerInfo:
    return WorkerInfo(id=name, resources=resources)


async def ids(store: RedisStore, free: int = 10, by: WorkerInfo | None = None) -> list[str]:
    return [claimed.spec.id for claimed in await claim(store, free, by)]


async def sentence(store: RedisStore, id: str, supply: Supply | None = None) -> str:
    [found] = await store.waiting([id])
    return "" if found is None else found.sentence(supply)


# -- places -----------------------------------------------------------------------------------------------------------


async def test_no_more_jobs_run_than_the_limit(store: RedisStore) -> None:
    await submit(store, "a", "b", "c", limits=TWO)

    assert await ids(store) == ["a", "b"]
    assert await ids(store) == []
    assert (await snapshot(store, "c")).state is JobState.QUEUED


async def test_a_job_over_its_limit_blocks_no_job_behind_it(store: RedisStore) -> None:
    await submit(store, "a", "b", limits=ONE)
    await submit(store, "plain")

    assert await ids(store) == ["a", "plain"]


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
async def test_the_first_waiting_job_starts_when_a_slot_is_free(store: RedisStore, outcome: str) -> None:
    await submit(store, "a", "b", "c", limits=ONE)
    [a] = await claim(store, 10)
    assert await ids(store) == []

    await store.finish([ending(a, outcome)])

    assert await ids(store) == ["b"]


async def test_priority_decides_which_waiting_job_is_next(store: RedisStore) -> None:
    await submit(store, "a", limits=ONE)
    [a] = await claim(store, 10)
    await submit(store, "b", limits=ONE)
    await submit(store, "c", limits=ONE, priority=1)

    await store.finish([ending(a)])

    assert await ids(store) == ["c"]


@pytest.mark.parametrize("how", ["retried", "released", "lost"])
async def test_the_slot_of_a_released_attempt_is_free(store: RedisStore, how: str) -> None:
    await submit(store, "a", "b", limits=ONE)
    [a] = await claim(store, 10)

    await store.finish([ending(a, how, delay_ms=60_000 if how == "retried" else 0, max_losses=3)])

    assert await ids(store) == ["b" if how == "retried" else "a"]  # otherwise its old position is before b's
    assert await ids(store) == []


async def test_a_dead_workers_slot_is_free_when_its_lease_expires(store: RedisStore) -> None:
    await submit(store, "a", "b", limits=ONE)
    await claim(store, 10, worker("dead"))
    assert await ids(store) == []

    await lapse(store, "a")

    assert await ids(store) == ["a"]
    assert (await structure(store)).holders["key:simulate ada"] == {"a"}


async def test_a_cancelled_job_leaves_the_queue(store: RedisStore) -> None:
    await submit(store, "a", "b", "c", limits=ONE)
    [a] = await claim(store, 10)

    assert await store.cancel(["b"]) == ["cancelled"]
    await store.finish([ending(a)])

    assert await ids(store) == ["c"]
    assert (await snapshot(store, "b")).message == ""


async def test_an_admitted_and_cancelled_job_passes_its_slot_on(store: RedisStore) -> None:
    await submit(store, "a", "b", "c", limits=ONE)
    [a] = await claim(store, 10)
    await store.finish([ending(a)])  # b is queued again, and no worker has claimed it yet

    await store.cancel(["b"])

    assert await ids(store) == ["c"]


async def test_a_job_that_waits_at_the_next_gate_frees_the_first(store: RedisStore) -> None:
    """Two gates each: ada's job passes the task's gate and waits at her own key; that must not block bob's."""
    task = Gate("task:simulate", n=2)
    for id, who in (("a1", "ada"), ("b1", "bob"), ("a2", "ada"), ("a3", "ada"), ("b2", "bob")):
        await submit(store, id, limits=(Gate(f"key:simulate {who}", n=1), task))
    running = {claimed.spec.id: claimed for claimed in await claim(store, 10)}
    assert list(running) == ["a1", "b1"]

    await store.finish([ending(running["b1"])])

    assert await ids(store) == ["b2"]


async def test_jobs_of_two_queues_share_the_limit_of_their_key(store: RedisStore) -> None:
    await submit(store, "a", queue="gpu", limits=ONE)
    await submit(store, "b", limits=ONE)
    [a] = await claim(store, 10, worker("w1", "gpu"))
    assert await ids(store) == []

    await store.finish([ending(a)])

    assert await ids(store) == ["b"]


async def test_a_queue_without_workers_does_not_block_others(store: RedisStore) -> None:
    """The slot is given to a job of a queue without workers; a heartbeat passes it on."""
    await submit(store, "a", limits=ONE)
    [a] = await claim(store, 10)
    await submit(store, "nobody", queue="gpu", limits=ONE)
    await submit(store, "b", limits=ONE)
    await store.finish([ending(a)])
    assert await ids(store) == []

    await _pass_pending(store, "key:simulate ada")
    await store.renew("w1", {}, {"queues": "default"})

    assert await ids(store) == ["b"]


async def _pass_pending(store: RedisStore, gate: str) -> None:
    """Simulate that admitted jobs have not started for a long time."""
    for id in await store.redis.zrange(f"{store.prefix}freed:{gate}", 0, -1):
        await store.redis.zadd(f"{store.prefix}freed:{gate}", {id: 1})
    await store.redis.zadd(f"{store.prefix}gates", {gate: 1}, xx=True)


# -- rates ------------------------------------------------------------------------------------------------------------


async def test_no_more_jobs_start_in_a_period_than_the_rate_allows(store: RedisStore) -> None:
    await submit(store, "a", "b", "c", limits=(Gate("task:simulate", count=2, period_ms=HOUR_MS),))

    started = await claim(store, 10)
    await store.finish([ending(one) for one in started])

    assert [one.spec.id for one in started] == ["a", "b"]
    claimed, wait_s = await store.claim(worker(), 10)
    assert claimed == []
    assert 3500 < wait_s <= 3601, "the worker learns when the next one may start"


async def test_the_next_job_starts_when_the_rate_allows_it(store: RedisStore) -> None:
    await submit(store, "a", "b", "c", limits=(Gate("task:simulate", count=1, period_ms=60),))
    order = []
    while len(order) < 3:
        claimed, _ = await store.claim(worker(), 10)
        assert len(claimed) <= 1
        order += [one.spec.id for one in claimed]
        await store.finish([ending(one) for one in claimed])

    assert order == ["a", "b", "c"]
    starts = [(await snapshot(store, id)).started_at for id in order]
    gaps = [(after - before).total_seconds() for before, after in pairwise(starts)]  # type: ignore[operator]
    assert min(gaps) >= 0.059


# -- rules ------------------------------------------------------------------------------------------------------------


async def test_a_queue_can_be_limited_while_it_runs(store: RedisStore) -> None:
    await store.renew("w1", {}, {"queues": "default"})
    await submit(store, "a", "b", "c", "d")
    running = await claim(store, 2)

    rule = await store.set_rule("queue:default", {"n": 2})

    assert (rule.n, rule.held) == (2, 2)
    assert await ids(store) == []
    assert "1 of 2 places of queue default; 1 job ahead" in await sentence(store, "d")
    await store.finish([ending(running[0])])
    assert await ids(store) == ["c"]


async def test_a_limit_below_the_running_jobs_starts_none(store: RedisStore) -> None:
    await store.renew("w1", {}, {"queues": "default"})
    await submit(store, "a", "b", "c", "d", limits=TWO)
    running = await claim(store, 10)

    assert (await store.set_rule("task:simulate", {"n": 1})).held == 2
    await store.finish([ending(running[0])])

    assert await ids(store) == []
    await store.finish([ending(running[1])])
    assert await ids(store) == ["c"]


async def test_a_higher_limit_admits_waiting_jobs_at_once(store: RedisStore) -> None:
    await store.renew("w1", {}, {"queues": "default"})
    await submit(store, "a", "b", "c", "d", limits=TWO)
    await claim(store, 10)

    await store.set_rule("task:simulate", {"n": 3})

    assert await ids(store) == ["c"]


async def test_an_expired_rule_blocks_no_job(store: RedisStore) -> None:
    await store.renew("w1", {}, {"queues": "default"})
    await store.set_rule("task:simulate", {"paused": {"by": "ada"}})
    await submit(store, "a", "b")
    await submit(store, "other", task="other")
    assert await ids(store) == ["other"]
    assert (await snapshot(store, "a")).message == "task simulate is paused"
    assert [(rule.gate, rule.pause and rule.pause.by) for rule in await store.rules()] == [("task:simulate", "ada")]

    await store.set_rule("task:simulate", None)

    assert await ids(store) == ["a", "b"]
    assert await store.rules() == []


# -- what it says -----------------------------------------------------------------------------------------------------


async def test_a_job_shows_which_limit_it_waits_for(store: RedisStore) -> None:
    await submit(store, "a", "b", "c", limits=ONE)
    await submit(store, "r1", "r2", task="call", limits=(Gate("task:call", count=1, period_ms=60_000),))
    await claim(store, 10)
    await claim(store, 10)

    assert (await snapshot(store, "b")).message == "waits for a place of simulate ada (1 at a time)"
    assert await sentence(store, "c") == "waits for the one place of simulate ada; 1 job ahead"
    assert (await snapshot(store, "r2")).message == "waits for its rate: 1/m for task call"
    assert (await sentence(store, "r2")).startswith("waits for its rate: 1/m of task call, next in ")
    assert await sentence(store, "a") == ""
    assert (await store.queues())["default"]["queued"] == 3
    assert (await store.queues())["default"]["scheduled"] == 0


# -- resources --------------------------------------------------------------------------------------------------------


async def test_a_worker_takes_only_jobs_that_fit_its_free_resources(store: RedisStore) -> None:
    await submit(store, "a", "b", "c", resources={"gpu": 1, "mem": 4})
    await submit(store, "plain")

    assert await ids(store, by=worker("w0")) == ["plain"]
    first = await claim(store, 10, has("w1", gpu=2, mem=8))
    assert [one.spec.id for one in first] == ["a", "b"]
    assert await ids(store, by=has("w1", gpu=2, mem=8)) == []
    await store.finish([ending(first[0])])

    assert await ids(store, by=has("w1", gpu=2, mem=8)) == ["c"]


async def test_many_jobs_that_fit_nowhere_block_no_job_behind_them(store: RedisStore) -> None:
    await submit(store, *(f"gpu{i}" for i in range(250)), resources={"gpu": 1})
    await submit(store, "plain")

    assert await ids(store) == ["plain"]
    assert "none has any" in await sentence(store, "gpu9", Supply())
    assert await sentence(store, "gpu9") == "waits for gpu=1: all in use; 9 jobs ahead"


async def test_a_job_with_resources_is_in_the_same_queue_as_others(store: RedisStore) -> None:
    await submit(store, "a")
    await submit(store, "g", resources={"gpu": 1})
    await submit(store, "b")

    assert await ids(store, 1, has(gpu=1)) == ["a"]
    assert await ids(store, 1, has(gpu=1)) == ["g"]
    assert await ids(store, 1, has(gpu=1)) == ["b"]


async def test_a_dead_workers_resources_do_not_count(store: RedisStore) -> None:
    await submit(store, "a", resources={"gpu": 1})
    await claim(store, 10, has("dead", gpu=1))

    await lapse(store, "a")

    assert await ids(store, by=has("w2", gpu=1)) == ["a"]


# -- weights ----------------------------------------------------------------------------------------------------------


async def test_queues_share_a_worker_by_their_weights(store: RedisStore) -> None:
    by = WorkerInfo(id="w1", queues=("fast", "slow"), weights={"fast": 3, "slow": 1})
    for queue in ("fast", "slow"):
        await submit(store, *(f"{queue}{i}" for i in range(90)), queue=queue)
    started: list[str] = []
    for free in (1, 2, 1, 4, 1, 1) * 8:
        started += await ids(store, free, by)

    share = sum(id.startswith("fast") for id in started) / len(started)

    assert len(started) == 80
    assert abs(share - 0.75) <= 0.02


async def test_an_empty_queue_gains_no_precedence(store: RedisStore) -> None:
    by = WorkerInfo(id="w1", queues=("fast", "slow"), weights={"fast": 1, "slow": 1})
    await submit(store, *(f"fast{i}" for i in range(60)), queue="fast")
    assert len(await ids(store, 40, by)) == 40

    await submit(store, *(f"slow{i}" for i in range(20)), queue="slow")

    started = await ids(store, 20, by)
    assert 9 <= sum(id.startswith("slow") for id in started) <= 11


# -- the hand-over ----------------------------------------------------------------------------------------------------


async def test_the_hand_over_respects_limits(store: RedisStore) -> None:
    async with inbox(store) as box:
        await store.renew("w1", {}, {"queues": "default"})
        await store.claim(worker(), 5)

        await submit(store, "a", "b", limits=ONE)
        a = await box.job()
        await store.finish([ending(a)])
        b = await box.job()

        assert [a.spec.id, b.spec.id] == ["a", "b"]
        assert (await structure(store)).holders["key:simulate ada"] == {"b"}


async def test_the_hand_over_respects_rules(store: RedisStore) -> None:
    async with inbox(store) as box:
        await store.renew("w1", {}, {"queues": "default"})
        await store.set_rule("queue:default", {"n": 1})
        assert await box.next() == b"W"
        await store.claim(worker(), 5)

        await submit(store, "a", "b")
        a = await box.job()

        assert (await snapshot(store, "b")).state is JobState.QUEUED
        await store.finish([ending(a)])
        assert await box.next() == b"W", "a slot of the queue is free"
        assert await ids(store) == ["b"]


async def test_a_job_with_resources_is_handed_to_a_worker_that_has_them(store: RedisStore) -> None:
    async with inbox(store, "w0"), inbox(store, "w1") as box:
        await store.claim(worker("w0"), 9)
        await store.claim(has("w1", gpu=1), 1)

        await submit(store, "a", "b", resources={"gpu": 1})

        assert (await box.job()).spec.id == "a"
        assert (await snapshot(store, "b")).message == "waits for gpu=1"


async def test_a_worker_is_woken_when_a_rate_lets_the_next_one_start(store: RedisStore) -> None:
    async with inbox(store) as box:
        await store.claim(worker(), 5)
        await submit(store, "a", "b", limits=(Gate("task:simulate", count=1, period_ms=HOUR_MS),))

        assert (await box.job()).spec.id == "a"
        assert await box.next() == b"W"
        _, wait_s = await store.claim(worker(), 4, received=1)

        assert wait_s <= 3601


async def test_slots_of_jobs_that_do_not_run_are_freed(store: RedisStore) -> None:
    await submit(store, "a", "b", limits=ONE)
    await claim(store, 10)
    await store.redis.zadd(f"{store.prefix}holders:key:simulate ada", {"gone": 1})
    assert await ids(store) == []
    await lapse(store, "a")

    assert await ids(store) == ["a"]


# -- code of one Python version ---------------------------------------------------------------------------------------


def of(python: str) -> WorkerInfo:
    return WorkerInfo(id=f"w{python}", python=python)


async def beat(store: RedisStore, by: WorkerInfo) -> None:
    await store.renew(by.id, {}, {"queues": "default", "python": by.python})


async def test_code_of_another_python_waits_and_blocks_no_job_behind_it(store: RedisStore) -> None:
    await submit(store, "code", python="3.11")
    await submit(store, "plain")

    assert await ids(store, by=of("3.12")) == ["plain"]

    assert (await snapshot(store, "code")).state is JobState.QUEUED
    assert await sentence(store, "code") == "waits for a worker with Python 3.11"
    [blocked] = await store.blocked(["default"])
    assert (blocked.count, blocked.waiting and blocked.waiting.sentence(None, 1)) == (
        1,
        "1 waits for a worker with Python 3.11",
    )


async def test_an_idle_worker_of_another_python_gets_no_code(store: RedisStore) -> None:
    other, own = of("3.12"), of("3.11")
    async with inbox(store, other.id) as box:
        assert await ids(store, by=other) == []
        await submit(store, "code", python="3.11")
        assert await sentence(store, "code") == "waits for a worker with Python 3.11"
        await submit(store, "plain")
        assert (await box.job()).spec.id == "plain"

    await beat(store, own)
    assert await ids(store, by=own) == ["code"]


async def test_code_stays_in_its_line_as_long_as_a_worker_with_its_python_lives(store: RedisStore) -> None:
    await beat(store, of("3.11"))
    await submit(store, "a", "b", python="3.11")

    assert await ids(store, by=of("3.12")) == []
    assert await sentence(store, "a") == ""
    assert await ids(store, by=of("3.11")) == ["a", "b"]


async def test_a_worker_that_runs_each_python_takes_all_code(store: RedisStore) -> None:
    store.runs_any_python = True
    await submit(store, "old", python="3.9")

    assert await ids(store, by=of("3.12")) == ["old"]
