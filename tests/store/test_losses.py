"""Jobs whose workers die: losses are counted and reported, suspects run alone, and some jobs run at most once."""

from __future__ import annotations

import msgspec
import pytest

from jobkit.client.losses import lost_jobs
from jobkit.features.checkpoints.checkpoint_info import CheckpointInfo, checkpoint_name
from jobkit.model import ErrorKind, JobState
from jobkit.store.redis import RedisStore
from jobkit.store.values import FINISHED, Claimed, Kept
from tests.support import until

from .support import claim, ending, error_of, lapse, snapshot, started, submit, types, worker


async def sweep(store: RedisStore) -> None:
    """Notice that leases are over."""
    await store.claim(worker("sweeper", "nothing"), 0)


async def lose(store: RedisStore, *ids: str) -> None:
    """Let the leases of jobs expire, and notice it."""
    await lapse(store, *ids)
    await sweep(store)


async def take(store: RedisStore, by: str, free: int = 5, held: int = 0) -> list[Claimed]:
    return (await store.claim(worker(by), free, held=held))[0]


async def test_a_job_that_ends_as_lost_names_each_loss(store: RedisStore) -> None:
    await submit(store, "a")
    for n in (1, 2, 3):
        await claim(store, by=worker(f"w{n}"))
        await lose(store, "a")

    error = await error_of(store, "a")
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

    await store.redis.hset(f"{store.prefix}worker:alive", "process", b"damaged \xff")
    assert await store.report_dead(lambda process: process == "process of dead") == ["dead"]
    [again] = await claim(store, by=worker("next"))

    assert again.spec.id == "of dead"
    assert (await snapshot(store, "of alive")).losses == 0
    assert {found.id: found.is_alive for found in await store.workers()} == {"dead": False, "alive": True}
    assert await store.report_dead(lambda process: process == "process of dead") == []
    await store.redis.delete(f"{store.prefix}grace")


async def test_a_lost_worker_names_the_jobs_that_it_had_since_its_last_heartbeat(store: RedisStore) -> None:
    await store.renew("w1", {}, {"process": "p1"})
    for name in ("early", "late"):
        await submit(store, name)
        await claim(store, by=worker("w1"))
        if name == "early":
            await lose(store, name)
            await store.cancel(["early"])
            await store.renew("w1", {}, {"process": "p1"})  # it was only frozen
    await store.report_dead(lambda process: process == "p1")
    await sweep(store)

    [found] = await store.workers()
    assert (found.state, found.lost_jobs) == ("lost", {"late": 1})
    [[lost]] = (await lost_jobs(store, [found])).values()
    assert (lost.id, lost.sentence) == ("late", "waits to run again")
    await claim(store, by=worker("w2"))
    [[lost]] = (await lost_jobs(store, [found])).values()
    assert lost.sentence == "runs again on w2"


async def test_a_lost_worker_names_a_bounded_number_of_jobs(store: RedisStore) -> None:
    for n in range(25):
        await submit(store, f"j{n}")
    await store.claim(worker("w1"), 25)
    await store.renew("w1", {}, {"process": "p1"})
    await store.report_dead(bool)
    await sweep(store)

    [found] = await store.workers()
    assert len(found.lost_jobs) == 20
    assert len((await lost_jobs(store, [found]))["w1"]) == 8


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


async def test_only_the_loss_of_the_only_job_of_a_worker_counts(store: RedisStore) -> None:
    await submit(store, "a", "b")
    for turn in range(3):
        await claim(store, 5, by=worker(f"dead{turn}"))
        await lose(store, "a", "b")

    for id in ("a", "b"):
        found = await snapshot(store, id)
        assert (found.state, found.losses) == (JobState.QUEUED, 3)
        assert found.history[-1].data["reason"].endswith("while it ran attempt 3, with other jobs")
    await store.cancel(["b"])
    for turn in (3, 4, 5):
        assert (await snapshot(store, "a")).state is JobState.QUEUED
        await claim(store, by=worker(f"dead{turn}"))
        await lose(store, "a")
    error = await error_of(store, "a")
    assert error.message.startswith("its workers died 3 times while running it alone; last, worker dead5 died")


async def test_leases_of_a_dead_worker_that_end_one_after_the_other_are_one_loss(store: RedisStore) -> None:
    """Leases of jobs that have started since its last heartbeat end later."""
    await submit(store, "a", "b")
    for turn in range(3):
        await claim(store, 5, by=worker(f"dead{turn}"))
        for id in ("a", "b"):
            await lose(store, id)

    assert [(await snapshot(store, id)).state for id in ("a", "b")] == [JobState.QUEUED] * 2


async def test_an_attempt_that_its_worker_reports_lost_with_others_does_not_count(store: RedisStore) -> None:
    await submit(store, "a")
    for _ in range(5):
        [claimed] = await claim(store)
        await store.finish([ending(claimed, "lost", reason="death", max_losses=3, is_shared=True)])

    found = await snapshot(store, "a")
    assert (found.state, found.losses) == (JobState.QUEUED, 5)
    assert found.history[-1].data["reason"] == "death, with other jobs"


async def test_a_job_that_always_dies_with_others_ends_nevertheless(store: RedisStore) -> None:
    await submit(store, "a")
    for _ in range(12):
        [claimed] = await claim(store)
        await store.finish([ending(claimed, "lost", reason="death", max_losses=3, is_shared=True)])

    error = await error_of(store, "a")
    assert error.message == "its workers died 12 times while running it; last, death, with other jobs"


async def lose_after(store: RedisStore, id: str, text: str, *, done: float | None = None, n: int = 1) -> None:
    """Let a job write a checkpoint and lose its worker."""
    [claimed] = await claim(store, by=worker(f"w{await now_us(store)}"))
    if text or done is not None:
        info = CheckpointInfo(checkpoint_name(claimed.attempt, n), attempt=claimed.attempt, text=text, completed=done)
        facts = msgspec.json.encode(info)
        assert await store.keep([Kept.of_feature(id, claimed.token, "checkpoints", info.name, facts, b"x")]) == [True]
    await lose(store, id)


async def now_us(store: RedisStore) -> int:
    seconds, us = await store.redis.time()
    return int(seconds) * 1_000_000 + int(us)


async def test_a_job_whose_checkpoint_has_moved_on_has_all_its_losses_before_it_again(store: RedisStore) -> None:
    await submit(store, "a")
    for step in range(50):
        await lose_after(store, "a", f"epoch {step}")
    await lose_after(store, "a", "")
    await lose_after(store, "a", "epoch 49")

    error = await error_of(store, "a")
    assert error.message.startswith(
        "its workers died 3 times while running it, each time after its checkpoint at epoch 49; last, worker w"
    )
    assert (await snapshot(store, "a")).losses == 52


async def test_a_checkpoint_without_a_label_is_a_step_if_the_bar_has_moved(store: RedisStore) -> None:
    await submit(store, "a")
    for done in (1.0, 2.0, 3.0, 3.0):
        await lose_after(store, "a", "", done=done)
    assert (await snapshot(store, "a")).state is JobState.QUEUED
    await lose_after(store, "a", "", done=3.0)

    error = await error_of(store, "a")
    assert "3 times while running it, each time after the same checkpoint; last," in error.message


async def test_a_job_that_kills_its_worker_after_each_checkpoint_ends_some_time(store: RedisStore) -> None:
    await submit(store, "a")
    for step in range(120):
        assert (await snapshot(store, "a")).state is JobState.QUEUED
        await lose_after(store, "a", f"epoch {step}")

    error = await error_of(store, "a")
    assert error.message.startswith("its workers died 120 times while running it; last, worker w")


async def test_a_suspect_that_has_moved_on_runs_beside_others_again(store: RedisStore) -> None:
    await make_suspects(store, "a")
    await lose_after(store, "a", "epoch 1")
    await submit(store, "fresh")

    assert [one.spec.id for one in await take(store, "w1")] == ["a", "fresh"]


async def make_suspects(store: RedisStore, *ids: str) -> None:
    """Let so many workers die with all these jobs that each of them has to run alone."""
    await submit(store, *ids, "neighbour")
    for turn in range(3):
        await claim(store, 10, by=worker(f"dead{turn}"))
        await lose(store, *ids, "neighbour")
    await store.cancel(["neighbour"])


async def test_a_suspect_starts_in_an_empty_worker_which_takes_nothing_else(store: RedisStore) -> None:
    await make_suspects(store, "a", "b")
    await submit(store, "fresh1", "fresh2")

    [a] = await take(store, "w1")
    [b] = await take(store, "w2")
    assert (a.spec.id, b.spec.id) == ("a", "b")
    assert await take(store, "w1", held=1) == []
    assert [one.spec.id for one in await take(store, "w3")] == ["fresh1", "fresh2"]
    await submit(store, "fresh3")
    await store.finish([ending(a)])
    assert [one.spec.id for one in await take(store, "w1")] == ["fresh3"]


async def test_one_busy_worker_at_a_time_makes_room_for_a_suspect(store: RedisStore) -> None:
    await submit(store, "old1", "old2")
    old = [*await take(store, "w1", free=1), *await take(store, "w2", free=1)]
    await make_suspects(store, "a", "b")
    await submit(store, "fresh1")

    assert await take(store, "w1", held=1) == []
    assert [one.spec.id for one in await take(store, "w2", held=1)] == ["fresh1"]
    await submit(store, "fresh2")
    assert await take(store, "w1", held=1) == []
    await store.finish([ending(old[0])])
    assert [one.spec.id for one in await take(store, "w1")] == ["a"]
    assert await take(store, "w2", held=2) == []  # its turn


async def test_a_worker_goes_on_when_another_one_has_taken_the_suspect(store: RedisStore) -> None:
    await started(store, "old")
    await make_suspects(store, "a")
    await submit(store, "fresh")

    assert await take(store, "w1", held=1) == []
    assert [one.spec.id for one in await take(store, "w2")] == ["a"]
    assert [one.spec.id for one in await take(store, "w1", held=1)] == ["fresh"]


async def test_a_suspect_that_is_moved_to_a_queue_of_others_does_not_start_in_the_worker_that_makes_room(
    store: RedisStore,
) -> None:
    old = await started(store, "old")
    await make_suspects(store, "a")
    assert await take(store, "w1", held=1) == []

    await store.move(["a"], queue="gpu")
    await store.finish([ending(old)])
    await submit(store, "fresh")

    assert [one.spec.id for one in await take(store, "w1")] == ["fresh"]


async def test_no_room_is_made_for_a_suspect_whose_queue_was_paused(store: RedisStore) -> None:
    await started(store, "old")
    await make_suspects(store, "a")
    assert (await store.claim(worker("w1", "default", "other"), 5, held=1))[0] == []

    await store.set_rule("queue:default", {"paused": {"by": "ada"}})
    await submit(store, "fresh", queue="other")

    claimed, _ = await store.claim(worker("w1", "default", "other"), 5, held=1)
    assert [one.spec.id for one in claimed] == ["fresh"]


#: Milliseconds that a suspect may hold up others, `ALONE_MOST_MS` in lua/verbs/claim.lua.
ALONE_MOST_MS = 600_000


async def test_suspects_do_not_wait_for_ever_for_a_worker_that_is_never_empty(store: RedisStore) -> None:
    await started(store, "endless")
    await make_suspects(store, "a", "b")
    await submit(store, "fresh")
    assert await take(store, "w1", held=1) == []
    assert await take(store, "w2", held=1) != []  # while w1 makes room, others see both

    for id in ("a", "b"):
        await store.redis.hincrby(f"{store.prefix}job:{id}", "room", -ALONE_MOST_MS - 1)
    await submit(store, "last")

    claimed = await take(store, "w1", held=1)
    assert [one.spec.id for one in claimed] == ["a", "b", "last"]
    await lose(store, "a", "b")
    assert await take(store, "w3", held=1) == []  # makes room again


async def test_a_suspect_that_runs_for_long_does_not_keep_its_worker_to_itself(store: RedisStore) -> None:
    await make_suspects(store, "endless")
    await submit(store, "fresh")
    assert [one.spec.id for one in await take(store, "w1")] == ["endless"]
    assert await take(store, "w1", held=1) == []

    await store.redis.hincrby(f"{store.prefix}job:endless", "started", -ALONE_MOST_MS - 1)
    claimed = await take(store, "w1", held=1)
    await store.redis.hincrby(f"{store.prefix}job:endless", "started", ALONE_MOST_MS + 1)

    assert [one.spec.id for one in claimed] == ["fresh"]


async def test_another_worker_makes_room_once_the_first_one_has_left(store: RedisStore) -> None:
    await submit(store, "old1", "old2")
    await take(store, "w1", free=1)
    await take(store, "w2", free=1)
    await make_suspects(store, "a")
    assert await take(store, "w1", held=1) == []

    await store.leave("w1")
    await submit(store, "fresh")

    assert await take(store, "w2", held=1) == []


async def test_a_suspect_for_which_a_running_job_waits_starts_beside_it(store: RedisStore) -> None:
    await started(store, "waits")
    await make_suspects(store, "a")

    claimed, _ = await store.claim(worker("w1"), 1, awaited=["a"], lent=1, held=1)

    assert [one.spec.id for one in claimed] == ["a"]


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
    assert (await snapshot(store, "poison")).losses == 6


async def test_every_idle_worker_is_notified_of_a_suspect(store: RedisStore) -> None:
    """The worker with most free slots may run another suspect already."""
    heard: list[bytes] = []
    await submit(store, "a", "neighbour")
    for turn in range(2):
        await claim(store, 10, by=worker(f"dead{turn}"))
        await lose(store, "a", "neighbour")
    await claim(store, 10, by=worker("dead2"))
    async with store.redis.pubsub() as pubsub:
        for id in ("w1", "w2"):
            await pubsub.subscribe(store.channel("inbox", id))
            assert await claim(store, 5, by=worker(id)) == []
        await lose(store, "a", "neighbour")

        async def both() -> bool:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=0.01)
            if message and message["data"] == b"W":
                heard.append(message["channel"])
            return len(set(heard)) == 2

        await until(both, "both workers to be woken")


@pytest.mark.parametrize("how", ["draining", "left"])
async def test_a_worker_that_was_stopped_did_not_die(store: RedisStore, how: str) -> None:
    await submit(store, "a")
    for turn in range(4):
        await claim(store, by=worker(f"w{turn}"))
        if how == "left":
            await store.leave(f"w{turn}")
        else:
            await store.renew(f"w{turn}", {}, {"draining": 1})
        await lose(store, "a")

    found = await snapshot(store, "a")
    assert (found.state, found.losses) == (JobState.QUEUED, 4)
    assert found.history[-1].data["reason"] == "worker w3 was stopped, and did not give back attempt 4"


async def test_all_workers_learn_of_functions_that_one_has_barred(store: RedisStore) -> None:
    assert (await store.renew("w1", {}, {}, barred={"tasks:fetch@1"})).barred == {"tasks:fetch@1"}
    assert (await store.renew("w2", {}, {}, barred={"tasks:load@1"})).barred == {"tasks:fetch@1", "tasks:load@1"}
    assert (await store.renew("w1", {}, {})).barred == {"tasks:fetch@1", "tasks:load@1"}


@pytest.mark.parametrize("value", ["", "again", None, True])
def test_on_lost_has_two_values(value: object) -> None:
    import jobkit
    from jobkit.tasks.options import check_options

    with pytest.raises(jobkit.InvalidParams, match="on_lost must be one of retry, fail"):
        check_options({"on_lost": value})
