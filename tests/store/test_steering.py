"""Control of waiting jobs: pause and resume queues and tasks, move jobs to another queue or priority."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobkit.model import EventType, Gate, JobEvent, JobState
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from jobkit.store.values import CONTROL
from tests.support import until

from .support import claim, come_due, ending, job, lapse, snapshot, started, submit, types, worker
from .test_handover import inbox

ADA = {"paused": {"by": "ada"}}
RESUMED: dict[str, Any] = {"paused": None}


async def ids(store: RedisStore, free: int = 10, *queues: str) -> list[str]:
    return [claimed.spec.id for claimed in await claim(store, free, worker("w1", *queues))]


# -- pausing ----------------------------------------------------------------------------------------------------------


async def test_a_paused_queue_starts_no_job_until_it_is_resumed(store: RedisStore) -> None:
    await submit(store, "before")
    await store.set_rule("queue:default", ADA)
    await submit(store, "after")
    await submit(store, "elsewhere", queue="gpu")

    assert await ids(store, 10, "default", "gpu") == ["elsewhere"]
    assert (await store.queues())["default"]["queued"] == 2

    await store.set_rule("queue:default", RESUMED)
    assert await ids(store) == ["before", "after"]


async def test_running_jobs_of_a_paused_queue_continue(store: RedisStore) -> None:
    running = await started(store, "a")

    await store.set_rule("queue:default", ADA)

    await store.finish([ending(running)])
    assert (await snapshot(store, "a")).state is JobState.SUCCEEDED


async def test_jobs_of_a_paused_task_are_overtaken_and_keep_their_position(store: RedisStore) -> None:
    await store.set_rule("task:train", ADA)
    await store.submit([job("t1", task="train"), job("s1"), job("t2", task="train"), job("s2")])

    assert await ids(store) == ["s1", "s2"]
    assert await ids(store) == []
    assert (await snapshot(store, "t1")).state is JobState.QUEUED
    assert (await store.queues())["default"]["queued"] == 2

    await submit(store, "s3")
    await store.set_rule("task:train", RESUMED)
    assert await ids(store) == ["t1", "t2", "s3"]


async def test_a_job_names_the_user_who_paused_its_queue(store: RedisStore) -> None:
    await store.set_rule("task:train", ADA)
    await store.submit([job("t", task="train"), job("q", queue="gpu")])
    await ids(store)
    await store.set_rule("queue:gpu", ADA)

    sentences = [found.sentence() if found else "" for found in await store.waiting(["t", "q"])]

    assert sentences[0].startswith("task train is paused by ada since ")
    assert sentences[0].endswith(": `jobkit tasks resume train`")
    assert sentences[1].startswith("queue gpu is paused by ada since ")
    assert sentences[1].endswith(": `jobkit queues resume gpu`")


async def test_paused_queues_and_tasks_can_be_listed(store: RedisStore) -> None:
    await store.set_rule("queue:gpu", ADA)
    await store.set_rule("task:train", {"n": 2})

    [pause] = [rule.pause for rule in await store.rules() if rule.pause is not None]

    assert (pause.kind, pause.name, pause.by) == ("queue", "gpu", "ada")
    assert pause.at is not None


async def test_a_pause_leaves_a_limit_as_it_is(store: RedisStore) -> None:
    await store.set_rule("task:simulate", {"n": 1})
    await store.set_rule("task:simulate", ADA)
    await submit(store, "a", "b")
    assert await ids(store) == []

    await store.set_rule("task:simulate", RESUMED)

    assert await ids(store) == ["a"]


async def test_a_job_that_returns_to_a_paused_queue_waits(store: RedisStore) -> None:
    """Lost with its worker, released, or due by now."""
    await started(store, "lost")
    given = await started(store, "given")
    await submit(store, "later", delay_ms=60_000)
    await store.set_rule("queue:default", ADA)

    await lapse(store, "lost")
    await store.finish([ending(given, "released")])
    await come_due(store, "later")

    assert await ids(store) == []
    await store.set_rule("queue:default", RESUMED)
    assert sorted(await ids(store)) == ["given", "later", "lost"]


async def test_a_paused_job_can_be_cancelled(store: RedisStore) -> None:
    await store.set_rule("task:simulate", ADA)
    await submit(store, "a", "b")
    assert await ids(store) == []

    assert await store.cancel(["a"]) == ["cancelled"]

    await store.set_rule("task:simulate", RESUMED)
    assert await ids(store) == ["b"]


async def test_a_submit_is_not_handed_over_while_its_queue_is_paused(store: RedisStore) -> None:
    async with inbox(store) as box:
        await store.renew("w1", {}, {})
        await store.claim(worker(), 4)
        await store.set_rule("queue:default", ADA)
        assert await box.next() == b"W"

        await submit(store, "a")
        assert (await snapshot(store, "a")).state is JobState.QUEUED

        await store.set_rule("queue:default", RESUMED)
        assert await box.next() == b"W"
        assert await ids(store) == ["a"]


async def test_a_submit_is_not_handed_over_while_its_task_is_paused(store: RedisStore) -> None:
    async with inbox(store) as box:
        await store.renew("w1", {}, {})
        await store.set_rule("task:train", ADA)
        assert await box.next() == b"W"
        await store.claim(worker(), 4)

        await store.submit([job("t", task="train"), job("s")])
        assert (await box.job()).spec.id == "s"
        assert (await snapshot(store, "t")).message == "task train is paused"

        await store.set_rule("task:train", RESUMED)
        words = [await box.next(), await box.next()]
        assert any(b'"id":"t"' in word for word in words), words


async def test_a_pause_is_sent_to_listeners(store: RedisStore, hub: EventHub, heard: list[JobEvent]) -> None:
    hub.listen(heard.append, CONTROL)
    await hub.ready(CONTROL)

    await store.set_rule("queue:default", ADA)

    await until(lambda: heard, "news")


# -- moving -----------------------------------------------------------------------------------------------------------


async def test_a_job_can_be_moved_to_a_queue_of_any_name(store: RedisStore) -> None:
    await submit(store, "a")
    for queue in ('"', "a\\b", "},", "gpu"):
        assert await store.move(["a"], queue=queue) == [""]

        assert (await snapshot(store, "a")).spec.queue == queue


async def test_a_moved_job_keeps_its_time_of_submit(store: RedisStore) -> None:
    await submit(store, "a")
    await submit(store, "b", queue="gpu")

    assert await store.move(["a"], queue="gpu", reason="moved by ada") == [""]

    moved = await snapshot(store, "a")
    assert (moved.spec.queue, moved.state, types(moved)) == ("gpu", JobState.QUEUED, ["submitted", "moved"])
    assert moved.history[-1].data["reason"] == "moved by ada"
    assert await ids(store) == []
    assert await ids(store, 10, "gpu") == ["a", "b"]
    assert (await store.queues())["gpu"]["running"] == 2


async def test_a_worker_gets_a_moved_job_with_its_new_queue_and_other_fields_unchanged(store: RedisStore) -> None:
    tricky = {"moved": True, "queue": "x", "priority": 1, "empty": [], "object": {}}
    await submit(store, "a", params=tricky, tags=("t",))

    for queue, priority in (("gpu", 5), ("default", 0), ("gpu", -3)):
        await store.move(["a"], queue=queue, priority=priority)

    [claimed] = await claim(store, 1, worker("w1", "gpu"))
    assert (claimed.spec.queue, claimed.spec.priority) == ("gpu", -3)
    assert (claimed.spec.params, claimed.spec.tags) == (tricky, ("t",))
    assert (await snapshot(store, "a")).spec == claimed.spec


async def test_a_higher_priority_comes_first(store: RedisStore) -> None:
    await submit(store, "a", "b", "c")

    await store.move(["c"], priority=5)
    await store.move(["a"], priority=-5)

    assert (await snapshot(store, "c")).spec.priority == 5
    assert await ids(store) == ["c", "b", "a"]


async def test_a_priority_can_be_lowered_again(store: RedisStore) -> None:
    await submit(store, "a")
    await submit(store, "b", priority=5)

    await store.move(["b"], priority=0)

    assert (await snapshot(store, "b")).spec.priority == 0
    assert await ids(store) == ["a", "b"]


async def test_a_scheduled_job_comes_due_in_its_new_queue(store: RedisStore) -> None:
    await submit(store, "a", delay_ms=60_000)

    await store.move(["a"], queue="gpu", priority=3)
    assert (await snapshot(store, "a")).state is JobState.SCHEDULED
    await come_due(store, "a", "gpu")

    assert await ids(store) == []
    assert await ids(store, 10, "gpu") == ["a"]


async def test_a_job_that_waits_for_a_result_goes_to_its_new_queue(store: RedisStore) -> None:
    first = await started(store, "first")
    await store.submit([job("second", needs=("first",))])

    await store.move(["second"], queue="gpu")
    await store.finish([ending(first)])

    assert await ids(store, 10, "gpu") == ["second"]


async def test_a_job_held_back_by_a_limit_can_be_moved(store: RedisStore) -> None:
    one = (Gate("key:simulate ada", n=1),)
    await submit(store, "a", "b", limits=one)
    [a] = await claim(store, 10)

    await store.move(["b"], queue="gpu", priority=2)
    assert await ids(store, 10, "gpu") == []
    await store.finish([ending(a)])

    assert await ids(store, 10, "gpu") == ["b"]


async def test_a_job_of_a_paused_queue_runs_when_it_is_moved_away(store: RedisStore) -> None:
    await store.set_rule("queue:default", ADA)
    await submit(store, "a")

    await store.move(["a"], queue="gpu")

    assert await ids(store, 10, "default", "gpu") == ["a"]


async def test_running_and_ended_jobs_are_not_moved(store: RedisStore) -> None:
    running = await started(store, "runs")
    ended = await started(store, "ended")
    await store.finish([ending(ended)])

    assert await store.move(["runs", "ended", "nobody"], queue="gpu") == ["running", "succeeded", "unknown"]

    assert (await snapshot(store, "runs")).spec.queue == "default"
    await store.finish([ending(running)])


async def test_moving_to_the_same_queue_changes_nothing(store: RedisStore) -> None:
    await submit(store, "a", priority=2)

    assert await store.move(["a"], queue="default", priority=2) == [""]

    assert types(await snapshot(store, "a")) == ["submitted"]


async def test_a_moved_job_is_handed_over_to_an_idle_worker_at_once(store: RedisStore) -> None:
    async with inbox(store) as box:
        await store.claim(worker("w1", "gpu"), 4)
        await submit(store, "a")

        await store.move(["a"], queue="gpu")

        assert (await box.job()).spec.id == "a"


@pytest.mark.parametrize("outcome", ["retried", "released"])
async def test_a_moved_job_returns_to_its_new_queue(store: RedisStore, outcome: str) -> None:
    await submit(store, "a")
    await store.move(["a"], queue="gpu")
    [claimed] = await claim(store, 1, worker("w1", "gpu"))

    await store.finish([ending(claimed, outcome)])

    assert await ids(store, 10, "gpu") == ["a"]
    assert EventType.MOVED in [event.type for event in (await snapshot(store, "a")).history]


async def test_many_are_moved_at_once_in_their_order(store: RedisStore) -> None:
    names = [f"j{n:03}" for n in range(120)]
    await submit(store, *names)

    await asyncio.gather(*(store.move(names[i : i + 40], queue="gpu") for i in (80, 0, 40)))

    assert await ids(store, 200, "gpu") == names
