"""Jobs whose workers die: losses are counted and reported, suspects run separately, and some jobs run at most once."""

from __future__ import annotations

import pytest

from jobkit.model import ErrorKind, JobState
from jobkit.store.redis import RedisStore
from jobkit.store.values import FINISHED
from tests.support import until

from .support import claim, ending, lapse, snapshot, started, submit, types, worker


async def lose(store: RedisStore, *ids: str, times: int = 1) -> None:
    """Let workers die with these jobs, one worker for each job; afterwards the jobs are queued again."""
    for turn in range(times):
        for n in range(len(ids)):
            await claim(store, by=worker(f"dead{turn}.{n}"))
        await lapse(store, *ids)
        await store.claim(worker("sweeper", "nothing"), 0)


async def test_a_job_that_ends_as_lost_names_each_loss(store: RedisStore) -> None:
    await submit(store, "a")
    for n in (1, 2, 3):
        await claim(store, by=worker(f"w{n}"))
        await lapse(store, "a")
    await store.claim(worker("sweeper", "nothing"), 0)

    error = (await snapshot(store, "a")).error
    assert error is not None
    assert error.kind is ErrorKind.LOST
    assert error.message == (
        "its workers died 3 times while running it; last, worker w3 died or lost contact while it ran attempt 3"
    )
    assert error.traceback.split("\n") == [
        f"worker w{n} died or lost contact while it ran attempt {n}" for n in (1, 2, 3)
    ]


async def test_an_attempt_that_its_worker_reports_lost_counts_as_a_loss(store: RedisStore) -> None:
    claimed = await started(store, "a")
    for n in (1, 2, 3):
        answers = await store.finish([ending(claimed, "lost", reason=f"death {n}", max_losses=3)])
        assert answers == [FINISHED]
        assert await store.finish([ending(claimed, "lost", reason=f"death {n}", max_losses=3)]) != [FINISHED]
        if n < 3:
            assert (await snapshot(store, "a")).losses == n
            [claimed] = await claim(store)

    found = await snapshot(store, "a")
    assert (found.state, found.losses, found.releases, found.attempt) == (JobState.FAILED, 3, 0, 3)
    assert found.error is not None
    assert found.error.message.endswith("last, death 3")


async def test_jobs_of_workers_that_are_known_to_be_dead_run_again_at_once_and_others_keep_their_leases(
    store: RedisStore,
) -> None:
    for name in ("dead", "alive"):
        await submit(store, f"of {name}")
        await claim(store, by=worker(name))
        await store.renew(name, {}, {"process": f"process of {name}"})
    await lapse(store, "of alive")
    await store.redis.set(f"{store.prefix}grace", 2**50, px=20_000)  # its worker gets time to renew

    assert await store.report_dead(lambda process: process == "process of dead") == ["dead"]
    [again] = await claim(store, by=worker("next"))

    assert again.spec.id == "of dead"
    assert (await snapshot(store, "of alive")).losses == 0
    assert {found.id: found.is_alive for found in await store.workers()} == {"dead": False, "alive": True}
    assert await store.report_dead(lambda process: process == "process of dead") == []


async def test_with_on_lost_fail_a_dead_worker_ends_the_job(store: RedisStore) -> None:
    await started(store, "a", on_lost="fail")
    await lapse(store, "a")
    await store.claim(worker("w2"), 1)

    found = await snapshot(store, "a")
    assert (found.state, found.attempt, types(found)[-1]) == (JobState.FAILED, 1, "failed")
    assert found.error is not None
    assert found.error.kind is ErrorKind.LOST
    assert "it is not run again, since it was submitted with on_lost='fail'" in found.error.message


async def test_with_on_lost_fail_a_started_job_is_not_released_either(store: RedisStore) -> None:
    claimed = await started(store, "a", on_lost="fail", params={"on_lost": "retry"})

    await store.finish([ending(claimed, "released", reason="worker w1 was stopped")])

    found = await snapshot(store, "a")
    assert found.state is JobState.FAILED
    assert found.error is not None
    assert found.error.message.startswith("worker w1 was stopped; it is not run again")


async def test_a_job_of_which_nothing_has_run_is_released_also_with_on_lost_fail(store: RedisStore) -> None:
    claimed = await started(store, "a", on_lost="fail")

    await store.finish([ending(claimed, "released", reason="no memory", is_unstarted=True)])

    found = await snapshot(store, "a")
    assert (found.state, found.losses, found.releases) == (JobState.QUEUED, 0, 1)


async def test_an_argument_of_that_name_is_not_an_option(store: RedisStore) -> None:
    await started(store, "a", params={"on_lost": "fail", "result_ttl_s": 1})
    await lapse(store, "a")
    await store.claim(worker("w2", "nothing"), 0)

    assert (await snapshot(store, "a")).state is JobState.QUEUED


async def test_two_suspects_never_share_a_worker_and_other_jobs_overtake_them(store: RedisStore) -> None:
    await submit(store, "a", "b", "c")
    await lose(store, "a", "b", "c", times=2)
    await submit(store, "fresh1", "fresh2")

    first = await claim(store, 5, by=worker("w1"))
    second = await claim(store, 5, by=worker("w2"))
    third = await claim(store, 5, by=worker("w1"))

    assert [one.spec.id for one in first] == ["a", "fresh1", "fresh2"]
    assert [one.spec.id for one in second] == ["b"]
    assert third == []
    await store.finish([ending(first[0])])
    assert [one.spec.id for one in await claim(store, 5, by=worker("w1"))] == ["c"]


async def test_a_poison_job_does_not_fail_its_neighbours(store: RedisStore) -> None:
    """Workers die one after the other with all their jobs, while the poison job is among them."""
    ids = ["n1", "n2", "poison", "n3"]
    await submit(store, *ids)
    for turn in range(20):
        claimed = await claim(store, 10, by=worker(f"w{turn}"))
        if not claimed:
            break
        if any(one.spec.id == "poison" for one in claimed):
            await lapse(store, *(one.spec.id for one in claimed))
        else:
            await store.finish([ending(one) for one in claimed])

    assert [(await snapshot(store, id)).state for id in ids] == ["succeeded", "succeeded", "failed", "succeeded"]


async def test_every_idle_worker_is_notified_of_a_suspect(store: RedisStore) -> None:
    """The worker with most free slots may run another suspect already."""
    heard: list[bytes] = []
    async with store.redis.pubsub() as pubsub:
        for id in ("w1", "w2"):
            await pubsub.subscribe(store.channel("inbox", id))
        await submit(store, "a")
        await lose(store, "a", times=1)
        await claim(store, by=worker("dead"))
        for id in ("w1", "w2"):
            assert await claim(store, 5, by=worker(id)) == []
        await lapse(store, "a")
        await store.claim(worker("sweeper", "nothing"), 0)

        async def both() -> bool:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=0.01)
            if message and message["data"] == b"W":
                heard.append(message["channel"])
            return len(set(heard)) == 2

        await until(both, "both workers to be woken")


@pytest.mark.parametrize("value", ["", "again", None, True])
def test_on_lost_has_two_values(value: object) -> None:
    import jobkit
    from jobkit.tasks.options import check_options

    with pytest.raises(jobkit.InvalidParams, match="on_lost must be one of retry, fail"):
        check_options({"on_lost": value})
