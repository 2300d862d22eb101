"""Groups of failed jobs: their key, contents, verdicts and deletion."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobkit.features.failures.group import FailureGroup, GroupState, shared
from jobkit.features.failures.store import FailureStore
from jobkit.model import ErrorKind, EventType, JobEvent
from jobkit.model.snapshot import JobError
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from jobkit.store.values import CONTROL
from tests.store.support import claim, ending, job, keys, lapse, snapshot, started, submit
from tests.support import until


def error(message: str = "'f1'", type: str = "KeyError", where: str = "train.py:28 in fit", **more: Any) -> JobError:
    return JobError(**{"kind": ErrorKind.EXCEPTION, "type": type, "message": message, "where": where} | more)


async def fails(store: RedisStore, id: str, how: JobError | None = None, ttl_ms: int = 60_000, **spec: Any) -> None:
    claimed = await started(store, id, **spec)
    await store.finish([ending(claimed, "failed", error=how or error(), ttl_ms=ttl_ms)])


async def only(store: RedisStore) -> FailureGroup:
    [group] = await store.part(FailureStore).groups()
    return group


async def ids_of(store: RedisStore, group: str, **which: Any) -> list[str]:
    return (await store.part(FailureStore).jobs(group, **which))[0]


async def test_the_same_error_at_the_same_place_is_one_group(store: RedisStore) -> None:
    await fails(store, "a", error("'f1'"))
    await fails(store, "b", error("'recall'"))

    group = await only(store)

    assert (group.task, group.kind, group.type) == ("simulate", ErrorKind.EXCEPTION, "KeyError")
    assert (group.where, group.message, group.title) == ("train.py:28 in fit", "'recall'", "KeyError: 'recall'")
    assert (group.count, group.jobs, group.waiting, group.sample) == (2, 2, 2, "b")
    assert group.state is GroupState.OPEN
    assert group.first_seen <= group.last_seen <= datetime.now(UTC) + timedelta(seconds=5)
    assert sum(group.hours) == 2
    assert await ids_of(store, group.id) == ["b", "a"]
    assert await store.part(FailureStore).groups_of(["a", "b", "no"]) == [group.id, group.id, ""]


@pytest.mark.parametrize(
    "other",
    [
        error(type="ValueError"),
        error(where="train.py:29 in fit"),
        error(kind=ErrorKind.CRASH),
    ],
    ids=["type", "place", "kind"],
)
async def test_another_type_place_or_kind_is_another_group(store: RedisStore, other: JobError) -> None:
    await fails(store, "a")
    await fails(store, "b", other)

    assert {group.sample for group in await store.part(FailureStore).groups()} == {"a", "b"}


async def test_another_task_is_another_group(store: RedisStore) -> None:
    await fails(store, "a")
    await fails(store, "b", task="train")

    assert [group.task for group in await store.part(FailureStore).groups()] == ["train", "simulate"]
    assert [group.sample for group in await store.part(FailureStore).groups(task="simulate")] == ["a"]


async def test_timeouts_of_a_task_are_one_group_at_any_line(store: RedisStore) -> None:
    for id, line in (("a", 3), ("b", 4)):
        await fails(store, id, error(kind=ErrorKind.TIMEOUT, type="timeout", where=f"train.py:{line} in fit"))

    assert ((await only(store)).where, (await only(store)).count) == ("", 2)


async def test_jobs_that_no_worker_ended_are_in_groups_too(store: RedisStore) -> None:
    """Jobs that were lost with their workers, or that needed a failed job."""
    await submit(store, "first")
    await store.submit([job("second", needs=("first",))])
    for _ in range(3):
        await claim(store)
        await lapse(store, "first")

    await claim(store)

    groups = {str(group.kind): group for group in await store.part(FailureStore).groups()}
    assert (groups["lost"].sample, groups["dependency"].sample) == ("first", "second")


async def test_an_automatically_retried_job_is_not_a_failure(store: RedisStore) -> None:
    claimed = await started(store, "a")

    await store.finish([ending(claimed, "retried", error=error())])

    assert await store.part(FailureStore).groups() == []


async def test_members_are_deleted_with_their_jobs_and_an_open_group_with_the_last(store: RedisStore) -> None:
    await fails(store, "a")
    await fails(store, "b")

    await store.delete(["a"])
    assert ((await only(store)).count, (await only(store)).jobs) == (2, 1)

    await store.delete(["b"])
    assert await store.part(FailureStore).groups() == []
    left = {key.removeprefix(store.prefix).partition(":")[0] for key in await keys(store)}
    assert left.isdisjoint({"group", "groups", "failed", "again"})


async def test_members_are_deleted_when_their_jobs_expire(store: RedisStore) -> None:
    await fails(store, "a", ttl_ms=1)

    await until(lambda: store.prune(), "its time to be over")

    assert await store.part(FailureStore).groups() == []


async def test_an_id_that_is_used_again_is_in_the_group_of_its_last_failure(store: RedisStore) -> None:
    await fails(store, "a", ttl_ms=1)
    await until(lambda: is_gone(store, "a"), "its time to be over")

    await fails(store, "a", error(type="ValueError"))

    assert [(group.type, group.jobs) for group in await store.part(FailureStore).groups()] == [("ValueError", 1)]


async def is_gone(store: RedisStore, id: str) -> bool:
    return await store.snapshots([id]) == [None]


async def test_a_muted_group_still_counts_and_stays_muted(store: RedisStore) -> None:
    await fails(store, "a")
    assert await store.part(FailureStore).judge([(await only(store)).id, "nobody"], "muted", "ada") == [True, False]

    await fails(store, "b")

    group = await only(store)
    assert (group.state, group.changed_by, group.count) == (GroupState.MUTED, "ada", 2)
    assert group.changed_at is not None
    assert await store.part(FailureStore).groups(["open", "regressed"]) == []


async def test_a_resolved_group_that_fails_again_has_regressed(store: RedisStore) -> None:
    await fails(store, "a")
    await store.part(FailureStore).judge([(await only(store)).id], "resolved", "ada")
    assert (await only(store)).state is GroupState.RESOLVED

    await fails(store, "b")

    group = await only(store)
    assert (group.state, group.changed_by) == (GroupState.REGRESSED, "")
    assert group.state.needs_a_look


@pytest.mark.parametrize("verdict", ["muted", "resolved"])
async def test_a_verdict_on_a_group_outlives_its_jobs(store: RedisStore, verdict: str) -> None:
    await fails(store, "a")
    await store.part(FailureStore).judge([(await only(store)).id], verdict)
    await store.delete(["a"])
    assert ((await only(store)).state, (await only(store)).jobs) == (verdict, 0)

    await fails(store, "b")

    assert ((await only(store)).count, (await only(store)).jobs) == (2, 1)
    assert (await only(store)).state == ("muted" if verdict == "muted" else "regressed")


async def test_a_group_without_jobs_is_deleted_when_it_is_reopened(store: RedisStore) -> None:
    await fails(store, "a")
    await store.part(FailureStore).judge([(await only(store)).id], "muted")
    await store.delete(["a"])

    await store.part(FailureStore).judge([(await only(store)).id], "open")

    assert await store.part(FailureStore).groups() == []


async def test_dropping_forgets_only_groups_without_jobs(store: RedisStore) -> None:
    await fails(store, "a")
    group = (await only(store)).id
    await store.part(FailureStore).judge([group], "muted")

    await store.part(FailureStore).judge([group], "dropped")
    assert (await only(store)).state is GroupState.MUTED

    await store.delete(["a"])
    await store.part(FailureStore).judge([group], "dropped")
    assert await store.part(FailureStore).groups() == []
    assert await store.part(FailureStore).group(group) is None


async def test_a_job_that_repeats_a_failed_one_is_counted_and_so_is_its_success(store: RedisStore) -> None:
    await fails(store, "a")
    await fails(store, "b")
    group = (await only(store)).id

    claimed = await started(store, "again", retry_of="a")
    assert ((await only(store)).repeated, (await only(store)).waiting, (await only(store)).healed) == (1, 1, 0)
    assert await ids_of(store, group, is_repeated=False) == ["b"]
    assert await ids_of(store, group, is_repeated=True) == ["a"]
    await store.finish([ending(claimed)])

    assert ((await only(store)).repeated, (await only(store)).healed) == (1, 1)

    await store.finish([ending(await started(store, "once more", retry_of="a"))])
    assert ((await only(store)).repeated, (await only(store)).healed) == (1, 1)

    await store.delete(["a"])
    assert ((await only(store)).repeated, (await only(store)).healed) == (0, 0)


async def test_a_repeat_that_fails_too_is_a_job_of_the_group(store: RedisStore) -> None:
    await fails(store, "a")

    await fails(store, "again", retry_of="a")

    assert ((await only(store)).jobs, (await only(store)).waiting, (await only(store)).healed) == (2, 1, 0)


async def test_jobs_of_a_group_come_in_pages_from_either_end(store: RedisStore) -> None:
    names = [f"j{n}" for n in range(7)]
    await submit(store, *names)
    claimed = await claim(store, 7)
    await store.finish([ending(one, "failed", error=error()) for one in claimed])
    group = (await only(store)).id

    for oldest_first, expected in ((True, names), (False, names[::-1])):
        found, cursor = await store.part(FailureStore).jobs(group, limit=3, oldest_first=oldest_first)
        while cursor:
            more, cursor = await store.part(FailureStore).jobs(group, before=cursor, limit=3, oldest_first=oldest_first)
            found += more
        assert found == expected


async def test_groups_are_listed_by_last_failure_up_to_the_limit(store: RedisStore) -> None:
    for n in range(4):
        await fails(store, f"j{n}", error(where=f"f.py:{n} in f"))
    await fails(store, "again", error(where="f.py:1 in f"))

    assert [group.where[5] for group in await store.part(FailureStore).groups()] == ["1", "3", "2", "0"]
    assert [group.where[5] for group in await store.part(FailureStore).groups(limit=2)] == ["1", "3"]


async def test_a_verdict_is_sent_to_listeners(store: RedisStore, hub: EventHub, heard: list[JobEvent]) -> None:
    hub.listen(heard.append, CONTROL)
    await hub.ready(CONTROL)
    await fails(store, "a")

    await store.part(FailureStore).judge([(await only(store)).id], "muted")

    await until(lambda: [e.type for e in heard] == [EventType.LOGGED], "news")


async def test_hours_are_a_ring(store: RedisStore) -> None:
    """Numbers of yesterday in the ring are ignored."""
    await fails(store, "a")
    group = await only(store)
    hour = int(group.last_seen.timestamp() // 3600)

    await store.redis.hset(  # type: ignore[misc]
        f"{store.prefix}group:{group.id}",
        mapping={f"h{(hour - 1) % 24}": f"{hour - 1}:7", f"h{(hour - 2) % 24}": f"{hour - 26}:9", f"h{hour % 24}": "x"},
    )

    assert (await only(store)).hours[-3:] in ((0, 7, 0), (7, 0, 0))
    await fails(store, "b")
    assert (await only(store)).hours[-1] == 1


async def test_many_concurrent_failures_are_all_counted(store: RedisStore) -> None:
    await submit(store, *(f"j{n}" for n in range(60)))
    claimed = await claim(store, 60)

    await asyncio.gather(*(store.finish([ending(one, "failed", error=error())]) for one in claimed))

    assert ((await only(store)).count, (await only(store)).jobs) == (60, 60)


async def test_an_error_without_details_still_has_a_group(store: RedisStore) -> None:
    claimed = await started(store, "a")

    await store.finish([ending(claimed, "failed")])

    assert (await snapshot(store, "a")).error is None
    assert ((await only(store)).title, (await only(store)).kind) == ("", ErrorKind.EXCEPTION)


def test_common_arguments_are_equal_in_every_call() -> None:
    calls = [{"n": 1, "m": "a", "x": True}, {"n": 1, "m": "b", "x": 1}, {"n": 1, "m": "a", "extra": None}]

    assert shared(calls) == ({"n": 1}, ["m", "x", "extra"])
    assert shared([]) == ({}, [])
