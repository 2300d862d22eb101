"""Batches in the store: counted with each change of a job, whole after retries, gone with their jobs."""

from __future__ import annotations

from typing import Any

import pytest

from jobkit.features.batches.store import BatchStore
from jobkit.features.moving.dump import read_dumps, restore
from jobkit.model import JobEvent, JobState
from jobkit.model.batch import BatchInfo, BatchSpec, subscription
from jobkit.model.spec import Once
from jobkit.store import wire
from jobkit.store.grammar import parse
from jobkit.store.hub import EventHub
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import Submission
from tests.store.support import claim, ending, job, keys, lapse, short_lease, worker
from tests.support import until


def part(*ids: str, batch: str = "b1", **spec: Any) -> list[Submission]:
    return [job(id, batch=batch, **spec) for id in ids]


async def submit(store: RedisStore, *ids: str, place: int = 0, size: int = 0, **spec: Any) -> None:
    batch = BatchSpec(spec.get("batch", "b1"), "simulate", size or len(ids), name="first try")
    await store.submit(part(*ids, **spec), "", batch, place)


async def info(store: RedisStore, batch: str = "b1") -> BatchInfo:
    [found] = await store.part(BatchStore).infos([batch])
    assert found is not None
    return found


async def members(store: RedisStore, batch: str = "b1") -> list[str]:
    return [job_id for job_id, _ in await store.part(BatchStore).members(batch)]


async def test_a_batch_counts_its_jobs_through_every_change_of_state(store: RedisStore) -> None:
    await submit(store, "a", "b", "c", "d")
    assert (await info(store)).counts == {"queued": 4}
    assert (await info(store)).state == JobState.QUEUED

    first, second, third = await claim(store, free=3)
    assert (await info(store)).counts == {"queued": 1, "running": 3}
    assert (await info(store)).started_at is not None
    await store.finish([ending(first), ending(second, "failed"), ending(third, "released")])
    found = await info(store)
    assert (found.counts, found.state, found.ended_at) == (
        {"queued": 2, "succeeded": 1, "failed": 1},
        JobState.RUNNING,
        None,
    )
    assert found.progress == 0.5

    assert await store.cancel(["c", "d"]) == ["cancelled", "cancelled"]
    found = await info(store)
    assert found.counts == {"succeeded": 1, "failed": 1, "cancelled": 2}
    assert (found.open, found.progress, found.state) == (0, 1.0, JobState.FAILED)
    assert found.ended_at is not None
    assert [batch.id for batch in await store.part(BatchStore).newest()] == ["b1"]


@short_lease
async def test_a_lost_job_is_counted_as_queued_again(store: RedisStore) -> None:
    await submit(store, "a", "b")
    await claim(store, free=2)
    await lapse(store, "a", "b")

    assert len(await claim(store, free=1, by=worker("w2"))) == 1
    assert (await info(store)).counts == {"queued": 1, "running": 1}


async def test_a_batch_comes_in_parts_and_each_job_once(store: RedisStore) -> None:
    await submit(store, "a", "b", size=4)
    assert (await info(store)).came == 2
    await submit(store, "a", "b", size=4)  # its reply was lost
    await submit(store, "c", "d", size=4, place=2)

    found = await info(store)
    assert (found.came, found.made, found.counts) == (4, 4, {"queued": 4})
    assert await store.part(BatchStore).members("b1") == [("a", 0), ("b", 1), ("c", 2), ("d", 3)]


async def test_a_part_that_never_came_keeps_the_batch_from_being_whole(store: RedisStore) -> None:
    await submit(store, "a", size=4)
    await store.cancel(["a"])

    found = await info(store)
    assert (found.spec.size, found.came, found.open, found.progress) == (4, 1, 0, 0.25)


async def test_a_retried_job_takes_the_place_of_the_failed_one(store: RedisStore) -> None:
    await submit(store, "a", "b", "c")
    for claimed in await claim(store, free=3):
        await store.finish([ending(claimed, "failed" if claimed.spec.id == "b" else "succeeded")])

    await store.submit([job("again", batch="b1", retry_of="b")])

    found = await info(store)
    assert (found.made, found.counts, found.ended_at) == (3, {"succeeded": 2, "queued": 1}, None)
    assert await members(store) == ["a", "again", "c"]
    [claimed] = await claim(store)
    await store.finish([ending(claimed)])
    assert (await info(store)).counts == {"succeeded": 3}
    assert await store.delete(["b"]) == [True]  # which is of no batch any more
    assert (await info(store)).deleted == 0


async def test_a_retry_outlives_the_batch_of_its_job(store: RedisStore) -> None:
    await submit(store, "a")
    await store.cancel(["a"])
    await store.delete(["a"])

    await store.submit([job("again", batch="b1", retry_of="a")])

    assert await store.part(BatchStore).infos(["b1"]) == [None]
    await store.cancel(["again"])


async def ended_uncounted(store: RedisStore, count: int) -> None:
    """As if damaged data had hidden the ends."""
    key = f"{store.prefix}batch:b1"
    await store.redis.hincrby(key, "succeeded", -count)
    await store.redis.hincrby(key, "running", count)
    await store.redis.hdel(key, "ended")
    for each in (key, f"{store.prefix}batch-jobs:b1"):
        await store.redis.persist(each)
    await looked_at(store)


async def looked_at(store: RedisStore) -> None:
    """Have the heartbeats of a worker look at the batch now."""
    await store.redis.zadd(f"{store.prefix}batches-open", {"b1": 0})
    while (await store.renew("w1", {}, {})).has_left:
        pass


@pytest.mark.parametrize("count", [3, 250])
async def test_jobs_that_have_ended_uncounted_are_counted_again(store: RedisStore, count: int) -> None:
    await submit(store, *(f"j{n}" for n in range(count)))
    for claimed in await claim(store, free=count):
        await store.finish([ending(claimed)])

    await ended_uncounted(store, count - 1)

    found = await info(store)
    assert (found.counts, found.state, found.ended_at is None) == ({"succeeded": count}, JobState.SUCCEEDED, False)
    assert await store.redis.pttl(f"{store.prefix}batch:b1") > 0
    assert not await store.redis.exists(f"{store.prefix}batches-open")


async def test_a_batch_with_an_open_job_or_a_further_one_keeps_its_numbers(store: RedisStore) -> None:
    ids = [f"j{n}" for n in range(150)]
    await submit(store, *ids)
    for claimed in await claim(store, free=149):
        await store.finish([ending(claimed, "failed" if claimed.spec.id == "j0" else "succeeded")])
    await looked_at(store)
    assert (await info(store)).counts == {"queued": 1, "succeeded": 148, "failed": 1}
    [last] = await claim(store)
    await store.finish([ending(last)])
    await store.redis.zadd(f"{store.prefix}batches-open", {"b1": 0})
    assert (await store.renew("w1", {}, {})).has_left

    await store.submit(part("again", retry_of="j0"))
    while (await store.renew("w1", {}, {})).has_left:
        pass

    assert (await info(store)).counts == {"queued": 1, "succeeded": 149}


async def test_a_batch_is_deleted_with_the_last_of_its_jobs(store: RedisStore) -> None:
    await submit(store, "a", "b")
    await store.cancel(["a", "b"])

    await store.delete(["a"])
    found = await info(store)
    assert (found.deleted, found.counts) == (1, {"cancelled": 2})
    assert await members(store) == ["b"]
    await store.delete(["b"])

    assert await store.part(BatchStore).newest() == []
    assert not [key for key in await keys(store) if "batch" in key]


async def test_a_batch_expires_with_its_jobs(store: RedisStore) -> None:
    await submit(store, "a", "b")
    [first, second] = await claim(store, free=2)
    await store.finish([ending(first, ttl_ms=60_000)])
    assert await store.redis.pttl(f"{store.prefix}batch:b1") == -1
    await store.finish([ending(second, ttl_ms=60_000)])
    assert 0 < await store.redis.pttl(f"{store.prefix}batch:b1") <= 60_000

    for kind in ("batch", "batch-jobs"):  # its time is over
        await store.redis.delete(f"{store.prefix}{kind}:b1")
    assert await store.part(BatchStore).newest() == []
    await submit(store, "z", batch="b2")
    await store.renew("w1", {}, {})
    assert await store.redis.zrange(f"{store.prefix}batches", 0, -1) == [b"b2"]


async def test_a_batch_of_cached_results_expires_with_its_jobs(store: RedisStore) -> None:
    await store.submit([job("source", cache_key="k", cache_ms=60_000)])
    await store.finish([ending((await claim(store))[0], result=b"sealed", ttl_ms=60_000)])
    await submit(store, "a", "b", cache_key="k", cache_ms=60_000)

    assert (await info(store)).counts == {"succeeded": 2}
    assert 0 < await store.redis.pttl(f"{store.prefix}batch:b1") <= 60_000


async def test_a_batch_without_jobs_goes_with_the_next_heartbeat(store: RedisStore) -> None:
    """The last of its jobs was deleted while the others had expired."""
    await submit(store, "a", "b")
    [first, second] = await claim(store, free=2)
    await store.finish([ending(first, ttl_ms=1), ending(second, ttl_ms=60_000)])
    await until(store.prune, "the time of the first one to be over")
    await store.delete(["b"])

    await store.renew("w1", {}, {})

    assert not [key for key in await keys(store) if "batch" in key]


async def test_a_batch_that_counts_open_jobs_goes_with_its_jobs(store: RedisStore) -> None:
    await submit(store, "a")
    await store.redis.hincrby(f"{store.prefix}batch:b1", "queued", 1)  # an older version has ended it
    await store.finish([ending((await claim(store))[0], ttl_ms=1)])
    await until(store.prune, "its time to be over")

    await looked_at(store)

    assert not [key for key in await keys(store) if "batch" in key]


async def test_a_batch_shares_the_jobs_of_others_that_do_the_same_work(store: RedisStore) -> None:
    same = Once("5f0c", "active")
    await store.submit([job("theirs", once=same)])

    batch = BatchSpec("b1", "simulate", 2)
    await store.submit([*part("a", once=same), *part("b")], "", batch)
    assert await members(store) == ["theirs", "b"]
    assert ((await info(store)).came, (await info(store)).made) == (2, 1)
    await store.submit(part("c", batch="b2", once=same), "", BatchSpec("b2", "simulate", 1))
    assert await store.part(BatchStore).infos(["b2"]) == [None]  # it has made nothing

    await store.cancel(["b", "theirs"])
    await store.delete(["b"])
    assert await store.part(BatchStore).infos(["b1"]) == [None]


async def test_a_job_that_was_given_to_a_worker_at_its_submit_counts_as_running(store: RedisStore) -> None:

    async with store.redis.pubsub() as inbox:
        await inbox.subscribe(store.channel("inbox", "w1"))
        await claim(store, free=1)
        await submit(store, "a", "b")
        assert (await info(store)).counts == {"queued": 1, "running": 1}


@pytest.mark.parametrize("name", ["first try", "other"])
async def test_batches_are_listed_newest_first_by_name_and_owner(store: RedisStore, name: str) -> None:
    for n in range(3):
        await store.submit(part(f"j{n}", batch=f"b{n}"), "", BatchSpec(f"b{n}", "f", 1, name=name, owner=f"o{n % 2}"))

    assert [batch.id for batch in await store.part(BatchStore).newest()] == ["b2", "b1", "b0"]
    assert [batch.id for batch in await store.part(BatchStore).newest(2)] == ["b2", "b1"]
    assert [batch.id for batch in await store.part(BatchStore).newest(owner="o0")] == ["b2", "b0"]
    assert await store.part(BatchStore).newest(owner="o2") == []
    assert len(await store.part(BatchStore).newest(name="first try")) == (3 if name == "first try" else 0)
    newest = await info(store, "b2")
    assert [batch.id for batch in await store.part(BatchStore).newest(below_us=newest.last_us)] == ["b1", "b0"]


async def test_a_batch_is_stopped_when_enough_of_its_jobs_have_failed(store: RedisStore) -> None:
    batch = BatchSpec("b1", "simulate", 300, rule="stops when 2 jobs have failed", stop="failed 2")
    await store.submit(part(*(f"j{n:03}" for n in range(150))), "", batch)
    first, second, third = await claim(store, free=3)

    await store.finish([ending(first, "failed"), ending(second)])
    assert not (await info(store)).is_stopped
    await store.finish([ending(third, "failed")])
    while await store.run("settle", [store.ttl_ms]):
        pass

    found = await info(store)
    assert (found.is_stopped, found.stopped_by, found.rule) == (True, third.spec.id, batch.rule)
    assert found.counts == {"failed": 2, "succeeded": 1, "cancelled": 147}
    [last] = await store.snapshots(["j149"])
    assert last is not None
    assert last.history[-1].data["reason"] == f"stop_when held for job {third.spec.id}"
    await store.submit(part("late"), "", batch, 150)  # which the submitter had still to send
    assert (await info(store)).counts["cancelled"] == 148
    await store.submit([job("again", batch="b1", retry_of=first.spec.id)])  # a user wants it all the same
    assert (await info(store)).counts["queued"] == 1
    await store.cancel(["again"])


async def test_a_later_rule_counts_what_has_ended_before(store: RedisStore) -> None:
    await store.submit([job("theirs", once=(same := Once("5f0c", "active")))])
    await store.submit([*part("a", "b"), *part("c", once=same)], "", BatchSpec("b1", "simulate", 3))
    await store.finish([ending(await only(store, "a"))])

    assert await store.part(BatchStore).set_rule("b1", "stops when a job has succeeded", "succeeded 1")

    assert (await info(store)).counts == {"succeeded": 1, "cancelled": 1}
    [shared] = await store.snapshots(["theirs"])
    assert shared is not None
    assert shared.state == JobState.QUEUED  # it belongs to another submit
    assert not await store.part(BatchStore).set_rule("unknown", "", "failed 1")
    assert not await store.part(BatchStore).stop("unknown", "a")
    await store.cancel(["theirs"])


async def only(store: RedisStore, job_id: str) -> Any:
    claimed, _ = await store.claim_one(worker(), job_id)
    return claimed


async def test_a_page_has_one_row_for_each_batch(store: RedisStore) -> None:
    await store.submit([job("oldest")])
    await submit(store, *(f"a{n:03}" for n in range(450)), batch="big")
    await store.submit([job("between")])
    await submit(store, "b1", "b2", batch="small")
    await store.submit([job("newest")])

    rows, cursor = await store.part(BatchStore).folded(50)
    assert [row if isinstance(row, str) else row.id for row in rows] == ["newest", "small", "between", "big", "oldest"]
    assert cursor == ""

    rows, cursor = await store.part(BatchStore).folded(2)
    assert [row if isinstance(row, str) else row.id for row in rows] == ["newest", "small"]
    rows, cursor = await store.part(BatchStore).folded(2, int(cursor))
    assert [row if isinstance(row, str) else row.id for row in rows] == ["between", "big"]
    rows, cursor = await store.part(BatchStore).folded(2, int(cursor))
    assert [row if isinstance(row, str) else row.id for row in rows] == ["oldest"]


async def test_another_rule_ends_the_stop_of_an_earlier_one(store: RedisStore) -> None:
    batch = BatchSpec("b1", "simulate", 250, rule="stops when 1 job has failed", stop="failed 1")
    for place in (0, 125):
        await store.submit(part(*(f"j{place + n:03}" for n in range(125))), "", batch, place)
    [first] = await claim(store)
    await store.run("finish", wire.finish_args([ending(first, "failed")]))
    assert (await info(store)).counts["queued"] > 0  # the next heartbeat goes on

    await store.run("batch_rule", ["b1", "stops when 2 jobs have failed", "failed 2"])
    left = (await info(store)).counts["queued"]
    while await store.run("settle", [store.ttl_ms]):
        pass

    assert (await info(store)).counts["queued"] == left
    assert await store.part(BatchStore).stop("b1", "")


async def test_an_imported_job_is_of_no_batch_any_more(store: RedisStore) -> None:
    await submit(store, "a", "b")
    await store.cancel(["a", "b"])
    for _ in range(2):
        [dump] = await read_dumps(store, ["a"])
        await store.delete(["a"])
        assert dump is not None
        assert await restore(store, [dump]) == [True]
    await store.delete(["a"])

    assert ((await info(store)).deleted, await members(store)) == (1, ["b"])


async def test_a_batch_with_a_wrong_number_of_open_jobs_goes_with_its_jobs(store: RedisStore) -> None:
    await submit(store, "a")
    await store.redis.hset(f"{store.prefix}batch:b1", "running", 1)  # it was not counted
    [claimed] = await claim(store)
    await store.finish([ending(claimed, ttl_ms=1)])
    assert await store.redis.pttl(f"{store.prefix}batch:b1") == -1
    await submit(store, "y", batch="b2")
    assert (await info(store)).open == 1
    await until(store.prune, "its time to be over")

    await store.renew("w1", {}, {})

    assert [batch.id for batch in await store.part(BatchStore).newest()] == ["b2"]
    assert not await store.redis.exists(f"{store.prefix}batch:b1", f"{store.prefix}batch-jobs:b1")


async def test_a_batch_that_shares_a_job_does_not_hide_another_between_its_jobs(store: RedisStore) -> None:
    same = Once("5f0c", "active")
    await store.submit([job("theirs", once=same)])
    batch = BatchSpec("b1", "simulate", 501)
    await store.submit([*part("shared", once=same), *part(*(f"a{n:03}" for n in range(100)))], "", batch)
    await store.submit([job("between")])
    await store.submit(part(*(f"b{n:03}" for n in range(400))), "", batch, 101)

    rows, _ = await store.part(BatchStore).folded(50)

    assert [row if isinstance(row, str) else row.id for row in rows] == ["b1", "between", "theirs"]


async def commands(store: RedisStore) -> int:
    found = await store.redis.info("commandstats")
    return sum(one["calls"] for name, one in found.items() if name != "cmdstat_info")


@pytest.mark.parametrize(("at_once", "most"), [(1, 7), (4, 3)])
async def test_a_job_of_a_batch_costs_few_commands_more_than_one_alone(
    store: RedisStore, at_once: int, most: int
) -> None:
    """Submit in parts, claim, finish and delete."""
    took = []
    for batch in (None, BatchSpec("b1", "simulate", 100)):
        before = await commands(store)
        ids = [f"{'b' if batch else 'a'}{n:03}" for n in range(100)]
        await store.submit([job(id, batch=batch.id if batch else "") for id in ids], "", batch)
        for _ in range(0, 100, at_once):
            await store.finish([ending(one) for one in await claim(store, at_once)])
        await store.delete(ids)
        took.append(await commands(store) - before)

    assert (took[1] - took[0]) / 100 < most


async def test_events_of_a_batch_reach_its_subscribers_in_their_order(store: RedisStore, hub: EventHub) -> None:
    heard: list[JobEvent] = []
    hub.listen(heard.append, subscription("b1"))
    await hub.ready(subscription("b1"))
    await submit(store, "a", "b")
    await store.finish([ending(one) for one in await claim(store, 2)])
    await hub.flush()

    told = [(event.job_id, str(event.type)) for event in heard if event.job_id != subscription("b1")]
    assert told == [("a", "started"), ("b", "started"), ("a", "succeeded"), ("b", "succeeded")]


async def test_a_rule_names_the_job_that_made_it_hold_among_many_that_ended_together(store: RedisStore) -> None:
    batch = BatchSpec("b1", "simulate", 4, rule="stops when 2 jobs have failed", stop="failed 2")
    await store.submit(part("a", "b", "c", "d"), "", batch)
    claimed = await claim(store, free=3)

    await store.finish([ending(one, "failed") for one in claimed])

    found = await info(store)
    assert (found.stopped_by, found.counts) == ("b", {"failed": 3, "cancelled": 1})


async def test_a_stop_misses_no_job_when_others_leave_meanwhile(store: RedisStore) -> None:
    ids = [f"j{n:03}" for n in range(250)]
    await submit(store, *ids)
    await store.cancel(ids[:60])
    await store.run("batch_rule", ["b1", ""])
    await store.run("settle", [store.ttl_ms])

    await store.delete(ids[:60])  # the others move up
    while await store.run("settle", [store.ttl_ms]):
        pass

    assert (await info(store)).counts == {"cancelled": 250}


async def test_a_page_passes_over_a_large_batch_whatever_came_in_between(store: RedisStore) -> None:
    await store.submit([job("oldest")])
    ids = [f"a{n:04}" for n in range(1200)]
    for place in range(0, 1200, 200):
        batch = BatchSpec("big", "simulate", 1200)
        await store.submit(part(*ids[place : place + 200], batch="big"), "", batch, place)
        if place in (400, 800):
            await store.submit([job(f"between-{place}")])
    await store.cancel([ids[7]])
    await store.submit([job("again", batch="big", retry_of=ids[7])])
    await store.submit([job("newest")])

    before = await commands(store)
    rows, cursor = await store.part(BatchStore).folded(50)

    assert await commands(store) - before < 800
    expected = ["newest", "big", "between-800", "between-400", ids[7], "oldest"]
    assert [row if isinstance(row, str) else row.id for row in rows] == expected
    assert cursor == ""
    pages: list[str] = []
    below = 0
    while True:
        rows, cursor = await store.part(BatchStore).folded(2, below)
        pages += [row if isinstance(row, str) else row.id for row in rows]
        if not cursor:
            break
        below = int(cursor)
    assert pages == expected


async def test_a_batch_whose_index_was_lost_has_one_row_as_well(store: RedisStore) -> None:
    await store.submit([job("oldest")])
    await submit(store, *(f"a{n:03}" for n in range(150)), batch="big")
    await store.submit([job("newest")])
    await store.redis.delete(f"{store.prefix}batched")

    rows, cursor = await store.part(BatchStore).folded(50)

    assert [row if isinstance(row, str) else row.id for row in rows] == ["newest", "big", "oldest"]
    assert cursor == ""


async def test_jobs_are_found_by_the_id_or_the_name_of_their_batch(store: RedisStore) -> None:
    await submit(store, "a", "b", batch_name="first try")
    await submit(store, "c", batch="b2")
    await store.submit([job("alone")])

    async def found(text: str) -> list[str]:
        return [one.id for one in (await store.list(parse(text))).jobs]

    assert await found("batch:b1") == ["b", "a"]
    assert await found('batch:"first try"') == ["b", "a"]
    assert await found("batch:first*,b2") == ["c", "b", "a"]
    assert await found("batch:*") == ["c", "b", "a"]
    assert await found("batch:other") == []
    assert [one.id for one in (await store.list(Query(batch=("",)))).jobs] == ["alone"]


async def test_jobs_that_have_left_their_batch_are_found_among_those_of_none(store: RedisStore) -> None:
    await submit(store, "a", "b", batch_name="first try")
    await store.cancel(["a", "b"])
    await store.submit([job("again", batch="b1", batch_name="first try", retry_of="a")])
    dumps = [dump for dump in await read_dumps(store, ["b"]) if dump]
    await store.delete(["b"])
    await restore(store, dumps)

    assert {one.id for one in (await store.list(Query(batch=("",)))).jobs} == {"a", "b"}
    assert {one.id for one in (await store.list(parse('batch:"first try"'))).jobs} == {"a", "b", "again"}
    await store.delete(["b"])


async def test_a_job_with_a_cached_result_that_is_sent_alone_is_counted_by_its_batch(store: RedisStore) -> None:
    await store.submit([job("source", cache_key="k", cache_ms=60_000)])
    await store.finish([ending((await claim(store))[0], result=b"sealed")])
    await submit(store, "a", size=2)

    await store.submit([job("b", batch="b1", cache_key="k", cache_ms=60_000)])

    assert (await info(store)).counts == {"queued": 1, "succeeded": 1}
    assert await members(store) == ["a", "b"]
