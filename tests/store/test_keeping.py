"""Retention of ended jobs: deleted by users or when their time is over, with everything they own."""

from __future__ import annotations

from jobkit.model import JobState, LogLine
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import AttemptNews
from tests.support import until

from .support import claim, ending, keys, lapse, numbers, snapshot, started, structure, submit


async def ended(store: RedisStore, id: str, ttl_ms: int) -> None:
    claimed = await started(store, id)
    await store.progress([numbers(claimed, 1), AttemptNews(id, claimed.token, lines=[LogLine("line")])])
    await store.finish([ending(claimed, result=b"42", preview=b"sealed", ttl_ms=ttl_ms)])


async def test_delete_removes_terminal_jobs_with_all_they_own(store: RedisStore) -> None:
    await ended(store, "a", 60_000)
    await submit(store, "waits")

    gone = await store.delete(["a", "waits", "no", "a"])

    assert gone == [True, False, False, False]
    assert await store.snapshots(["a"]) == [None]
    assert (await store.result("a"), await store.payload("a"), await store.preview("a")) == (None, None, None)
    assert [found.id for found in (await store.list(Query())).jobs] == ["waits"]
    assert (await store.counts())["succeeded"] == 0
    assert [key for key in await keys(store) if key.endswith(":a")] == []


async def test_delete_keeps_scheduled_and_running_jobs(store: RedisStore) -> None:
    await started(store, "runs")
    await submit(store, "later", delay_ms=60_000)

    assert await store.delete(["runs", "later"]) == [False, False]
    assert (await snapshot(store, "runs")).state is JobState.RUNNING


async def test_prune_deletes_only_expired_jobs(store: RedisStore) -> None:
    await ended(store, "over", 1)
    await ended(store, "kept", 60_000)
    await submit(store, "waits")

    pruned = await until(lambda: store.prune(), "something to prune")

    assert pruned == 1
    assert await store.prune() == 0
    assert await store.snapshots(["over"]) == [None]
    assert {found.id for found in (await store.list(Query())).jobs} == {"kept", "waits"}
    assert [key for key in await keys(store) if key.endswith(":over")] == []


async def test_prune_deletes_no_more_than_its_limit(store: RedisStore) -> None:
    for n in range(5):
        await ended(store, f"j{n}", 1)
    await until(lambda: all_gone(store, [f"j{n}" for n in range(5)]), "their time to be over")

    assert [await store.prune(3), await store.prune(3), await store.prune(3)] == [3, 2, 0]


async def all_gone(store: RedisStore, ids: list[str]) -> bool:
    return not any(await store.snapshots(ids))


async def test_an_expired_job_is_gone_before_a_prune(store: RedisStore) -> None:
    await ended(store, "a", 1)

    await until(lambda: all_gone(store, ["a"]), "its time to be over")

    assert (await store.result("a"), await store.payload("a"), await store.preview("a")) == (None, None, None)
    assert (await store.logs("a")).lines == ()
    assert await store.delete(["a"]) == [False]
    assert await store.cancel(["a"]) == [""]
    assert (await store.list(Query(search="a"))).jobs == ()
    assert (await structure(store)).jobs == set()  # the page that met it has deleted it
    assert await store.prune() == 0


async def test_a_job_that_no_worker_ended_is_kept_for_its_own_ttl(store: RedisStore) -> None:
    """Only ends by a worker used to apply the job's own `result_ttl`."""
    await submit(store, "short", result_ttl_s=0.0)
    await submit(store, "default")

    await store.cancel(["short", "default"])

    await until(lambda: all_gone(store, ["short"]), "its time to be over")
    assert (await snapshot(store, "default")).state is JobState.CANCELLED


async def test_a_lost_job_is_kept_for_its_own_ttl(store: RedisStore) -> None:
    await started(store, "a", result_ttl_s=0.0)
    for _ in range(3):
        await lapse(store, "a")
        await claim(store)

    await until(lambda: all_gone(store, ["a"]), "its time to be over")


async def test_a_live_job_has_no_time_limit(store: RedisStore) -> None:
    await submit(store, "a", result_ttl_s=0.0)
    claimed = (await claim(store))[0]

    assert await store.prune() == 0
    assert await store.finish([ending(claimed, ttl_ms=60_000)]) == [1]


async def test_of_too_many_ended_jobs_the_next_to_expire_are_deleted(store: RedisStore) -> None:
    for n, id in enumerate(("a", "b", "c", "d", "e")):
        await ended(store, id, ttl_ms=1_000_000 - 10_000 * n)
    await submit(store, "waits")

    assert await store.prune(keep=7) == 0
    assert await store.prune(limit=1, keep=3) == 1
    assert await store.prune(keep=3) == 1
    assert [found and found.id for found in await store.snapshots(["a", "b", "c", "d", "e"])] == [
        "a",
        "b",
        "c",
        None,
        None,
    ]
    assert await store.prune(keep=0) == 3
    assert (await snapshot(store, "waits")).state == "queued"


async def test_expired_jobs_are_deleted_first_and_counted(store: RedisStore) -> None:
    await ended(store, "over", ttl_ms=1)
    for id in ("a", "b"):
        await ended(store, id, ttl_ms=1_000_000)
    await until(lambda: all_gone(store, ["over"]), "the time to be over")

    assert await store.prune(keep=2) == 1
    assert await store.prune(keep=2) == 0
