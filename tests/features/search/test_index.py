"""The index returns the same jobs as the store, in the same order, also after changes and outages."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from jobkit.features.search import schema
from jobkit.features.search.database import IndexDatabase
from jobkit.features.search.index import Index
from jobkit.model import ErrorKind, InvalidParams, JobSnapshot, JobSpec, JobState
from jobkit.model.batch import BatchSpec
from jobkit.model.snapshot import JobError
from jobkit.store.activity import activity_of
from jobkit.store.finding import JobFinder
from jobkit.store.query import ORDERS, Candidate, Query, indexed
from jobkit.store.redis import RedisStore
from tests.store.support import claim, ending, job, numbers, submit, worker
from tests.support import until

QUERIES: list[dict[str, Any]] = [
    {"owner": "ada"},
    {"owner": ("ada", "cy", "none")},
    {"task": "train*"},
    {"task": "train", "queue": "gpu"},
    {"tag": "nightly"},
    {"tag": "n*", "owner": "bob"},
    {"worker": "gpu-1"},
    {"worker": "gpu-*", "states": ("failed",)},
    {"error": "KeyError"},
    {"error": "exception"},
    {"search": "adam"},
    {"search": ("adam", "lr=0.0")},
    {"search": "n=7"},
    {"search": "no column"},
    {"search": "ep"},
    {"search": "Größe Ä"},
    {"search": 'say "x"'},
    {"search": "nothing of the kind"},
    {"states": ("queued", "running"), "search": "adam"},
    {"newer_s": 3600, "owner": "ada"},
    {"older_s": 3600, "owner": "ada"},
    {"batch": "b0"},
    {"batch": ("", "third*")},
    {"since": -3600, "owner": "ada"},
    {"before": -3600},
    {"since": 1_000_000_000.0, "before": 4_000_000_000.0, "tag": "nightly"},
    {"since": 1_000_000_000.0, "states": ("failed",)},
    {"excluded": (("task", "train*"), ("owner", "ada"))},
    {"excluded": (("tag", "nightly"),), "states": ("failed",)},
    {"excluded": (("worker", "gpu-1"), ("error", "KeyError"), ("batch", "b0"))},
    {"flag": "unretried"},
    {"flag": ("retried", "asking")},
    {"took_min_s": 0},
    {"took_max_s": 3600, "owner": "bob"},
]


async def test_a_new_job_and_those_that_repeat_it_are_added_at_once(store: RedisStore, index: Index) -> None:
    """For example, a job that was taken out of the archive and run again within the same moment."""
    await index.whole()

    await submit(store, "old", owner="ada")
    await submit(store, "again", "third", owner="ada", retry_of="old")
    await until(lambda: index.size == 3, "the index to hear of the jobs")
    page = await index.page(Query(owner="ada"))

    assert {one.id for one in page.jobs} == {"old", "again", "third"}
    assert (index.is_whole, index.size) == (True, 3)


def test_of_a_job_that_is_added_twice_the_newer_state_is_kept() -> None:
    def state(seq: int) -> Candidate:
        return Candidate(7, JobSnapshot(JobSpec("a", "train"), seq, JobState.QUEUED if seq == 1 else JobState.RUNNING))

    for states in ([state(1), state(2)], [state(2), state(1)]):
        database = IndexDatabase()
        database.do(0, database.put, states).result()

        assert database.do(0, database.versions, 0, 100).result() == {"a": (7, 2)}
        assert (database.size, sum(database.counts["task"].values())) == (1, 1)
        database.close()


async def fill(store: RedisStore, count: int, start: int = 0) -> None:
    """Submit jobs in every state, of few users and tasks."""
    dice = random.Random(7 + start)
    jobs = []
    for n in range(start, start + count):
        params = {"n": n, "lr": dice.choice((0.003, 0.1)), "method": dice.choice(("adam", "sgd"))}
        spec: dict[str, Any] = {
            "task": dice.choice(("train", "train_more", "score")),
            "owner": dice.choice(("ada", "bob", "cy", "")),
            "tags": dice.choice(((), ("nightly",), ("nightly", "a"))),
            "title": dice.choice(("", "Größe Ä", 'say "x" \\ /y')),
        }
        if n % 7 < 4:
            spec |= {"batch": f"b{n % 7}", "batch_name": "third try" if n % 7 == 3 else ""}
        if n % 5 == 0:
            spec["queue"] = "gpu"
        jobs.append(job(f"j{n:04}", params=params, **spec))
    for place, one in enumerate(jobs):
        batch = BatchSpec(one.spec.batch, "train", 1000, name=one.spec.batch_name) if one.spec.batch else None
        await store.submit([one], "", batch, start + place)
    for claimed in await claim(store, count // 2, worker(f"gpu-{start % 3}.1.abc")):
        await store.progress([numbers(claimed, dice.randint(0, 9), 10, f"Epoch {dice.randint(0, 3)}")])
        match dice.choice(("succeeded", "failed", "running")):
            case "succeeded":
                await store.finish([ending(claimed, summary="a table")])
            case "failed":
                error = JobError(ErrorKind.EXCEPTION, dice.choice(("KeyError", "OSError")), "no column /x", "Traceback")
                await store.finish([ending(claimed, "failed", error=error)])
    await store.cancel([f"j{start + count - 1:04}"])


async def ids(finder: RedisStore | Index, query: Query) -> list[str]:
    """Return all ids of a query, page by page."""
    find = finder.page if isinstance(finder, Index) else finder.list
    found: list[str] = []
    while True:
        page = await find(query)
        assert len(page.jobs) <= query.limit
        found += [one.id for one in page.jobs]
        if not page.next_cursor:
            return found
        query = replace(query, cursor=page.next_cursor)


async def finds(index: Index, query: Query, expected: list[str]) -> None:
    """Wait until the index returns the expected ids: published changes are on their way."""
    found: list[list[str]] = []

    async def is_found() -> bool:
        found.append(await ids(index, query))
        return found[-1] == expected

    await until(is_found, f"{query} to find {expected}")


async def same(store: RedisStore, index: Index, query: Query) -> list[str]:
    """Return the ids that both store and index find."""
    found = await ids(index, query)
    assert found == await ids(store, replace(query, limit=1000)), query
    return found


@pytest.mark.parametrize("has_grams", [True, False], ids=["grams", "no grams"])
async def test_the_index_finds_the_same_jobs_as_the_store(
    store: RedisStore, index: Index, has_grams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_grams:
        monkeypatch.setattr(schema, "_GRAMS", "CREATE VIRTUAL TABLE grams USING no_such_module(text)")
    await fill(store, 60)

    for query in QUERIES:
        found = await same(store, index, Query(**query, limit=7))
        await same(store, index, Query(**query, limit=7, order="-took"))
        assert await index.count(Query(**query)) == len(found)

    assert index.is_whole
    assert index.size == 60


@pytest.mark.parametrize("fields", [("state", "flag"), ("tag",), ("error",), ("batch",), ("owner",), ("state",)])
async def test_the_index_counts_values_like_the_store(store: RedisStore, index: Index, fields: tuple[str, ...]) -> None:
    await fill(store, 60)
    await index.whole()

    for query in (Query(**given) for given in ({}, *QUERIES)):
        jobs = (await store.list(replace(query, limit=1000))).jobs
        expected = Counter(each for job in jobs for each in indexed(job, fields))
        found = await index.tally(query, fields, 60.0)
        assert found == expected, query


@pytest.mark.parametrize("order", [sign + name for name in ORDERS for sign in ("", "-")])
async def test_the_index_sorts_like_the_store(store: RedisStore, index: Index, order: str) -> None:
    await fill(store, 30)

    assert len(await same(store, index, Query(order=order, limit=4))) == 30
    for query in ({"search": "adam"}, {"owner": "ada"}, {"tag": "nightly"}, {"states": ("failed", "running")}):
        await same(store, index, Query(**query, order=order, limit=4))  # type: ignore[arg-type]


@pytest.mark.nightly
async def test_both_query_plans_for_many_rows_find_the_same(
    store: RedisStore, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few rows, the plan by the rarest filter would always be chosen."""
    monkeypatch.setattr("jobkit.features.search.plan.FEW", 3)
    monkeypatch.setattr("jobkit.features.search.database.FEW", 3)
    await fill(store, 60)
    await index.whole()
    await fill(store, 20, 60)  # these stand in front
    await finds(index, Query(task="*", limit=1000), await ids(store, Query(limit=1000)))
    await caught_up(store, index)

    for query in QUERIES:
        for order in ("", "submitted", "-took", "worker", "-progress"):
            await same(store, index, Query(**query, order=order, limit=7))


async def caught_up(store: RedisStore, index: Index) -> None:
    """Wait until the index has applied all earlier events."""
    await submit(store, "last-word", owner="last-word")
    await finds(index, Query(owner="last-word"), ["last-word"])


async def test_the_index_follows_every_change(store: RedisStore, index: Index) -> None:
    await fill(store, 20)
    await finds(index, Query(owner="new"), [])

    await submit(store, "x", owner="new", params={"text": "zebra"})
    await finds(index, Query(owner="new"), ["x"])
    await finds(index, Query(search="zebra"), ["x"])
    [last] = [one for one in await claim(store, 20) if one.spec.id == "x"]
    await finds(index, Query(owner="new", states=("running",)), ["x"])
    await store.finish([ending(last, summary="quagga")])
    await finds(index, Query(owner="new", states=("running",)), [])
    await finds(index, Query(search="quagga", order="-took"), ["x"])
    await store.delete(["x"])
    await finds(index, Query(owner="new"), [])
    await finds(index, Query(search="zebra"), [])
    await until(lambda: index.size == 20, "the job to leave")


async def test_a_job_whose_place_a_retry_has_taken_is_among_those_of_no_batch(store: RedisStore, index: Index) -> None:
    await store.submit([job("x", batch="b1"), job("y", batch="b1")], "", BatchSpec("b1", "simulate", 2))
    await store.cancel(["x"])
    await finds(index, Query(batch=("",)), [])

    await submit(store, "again", batch="b1", retry_of="x")

    await finds(index, Query(batch=("",)), ["x"])


async def test_an_id_that_is_used_again_is_the_new_job(store: RedisStore, index: Index) -> None:
    await submit(store, "x", owner="ada")
    await submit(store, "y", owner="ada")
    await store.cancel(["x"])
    await finds(index, Query(owner="ada"), ["y", "x"])

    await store.delete(["x"])
    await submit(store, "x", owner="ada")

    await finds(index, Query(owner="ada"), ["x", "y"])


async def test_expired_jobs_are_removed_from_page_and_index(store: RedisStore, index: Index) -> None:
    await submit(store, "a", "b", "c", owner="ada")
    await store.cancel(["b"])
    await finds(index, Query(owner="ada"), ["c", "b", "a"])

    await store.redis.pexpire(f"{store.prefix}job:b", 1)
    await until(lambda: _is_gone(store, "b"), "the record to expire")

    await finds(index, Query(owner="ada", limit=2), ["c", "a"])
    await until(lambda: index.size == 2, "the job to leave the index")
    await store.list(Query())  # and then its remains are deleted from the store


async def _is_gone(store: RedisStore, job_id: str) -> bool:
    return not await store.redis.exists(f"{store.prefix}job:{job_id}")


async def test_missed_changes_are_found_by_comparison(store: RedisStore, index: Index) -> None:
    await fill(store, 20)
    await index.whole()
    for stop in index._stops:  # as if the connection were cut
        stop()
    await fill(store, 10, 20)
    await store.cancel(["j0003", "j0029"])

    await index._sweep()

    for query in QUERIES:
        for order in ("", "submitted", "-took"):
            await same(store, index, Query(**query, order=order, limit=7))
    assert index.size == 30


async def test_a_wiped_store_is_read_again(store: RedisStore, index: Index) -> None:
    await submit(store, "a", owner="ada")
    assert await ids(index, Query(owner="ada")) == ["a"]

    async for key in store.redis.scan_iter(f"{store.prefix}*"):
        await store.redis.delete(key)
    await submit(store, "b", owner="ada")
    await index._catch_up()  # as after a cut connection

    await index.whole()
    await finds(index, Query(owner="ada"), ["b"])
    await until(lambda: index.size == 1, "the old job to be forgotten")


async def test_changes_during_the_filling_are_not_lost(
    store: RedisStore, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice that was read before the change may be on its way."""
    monkeypatch.setattr("jobkit.features.search.index._SLICE", 5)
    monkeypatch.setattr("jobkit.features.search.index._PATIENCE_S", 0.0)
    await fill(store, 40)
    queued = [one.id for one in (await store.list(Query(states=("queued",), limit=100))).jobs]
    read = JobFinder.candidates
    changed = asyncio.Event()

    async def candidates(self: JobFinder, job_ids: Any, *words: Any) -> Any:
        found = await read(self, job_ids, *words)
        if not changed.is_set() and queued[-1] in job_ids:
            changed.set()
            await store.cancel([queued[-1]])
            await submit(store, "late", owner="late")
        return found

    monkeypatch.setattr(JobFinder, "candidates", candidates)
    await index.page(Query(owner="ada"))
    await index.whole()

    assert changed.is_set()
    await finds(index, Query(owner="late"), ["late"])
    await caught_up(store, index)
    for query in QUERIES:
        await same(store, index, Query(**query, limit=50))
    assert queued[-1] in await ids(index, Query(states=("cancelled",), task="*"))


async def test_a_page_shows_its_progress_while_the_index_is_filled(
    store: RedisStore, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.features.search.index._SLICE", 5)
    monkeypatch.setattr("jobkit.features.search.index._PATIENCE_S", 0.0)
    await fill(store, 30)
    gate = asyncio.Event()
    put = IndexDatabase.put
    loop = asyncio.get_running_loop()

    def slowly(self: IndexDatabase, jobs: Any, gone: Any = (), *, is_fill: bool = False) -> None:
        if self.size >= 10:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        put(self, jobs, gone, is_fill=is_fill)

    monkeypatch.setattr(IndexDatabase, "put", slowly)
    index._start()
    await until(lambda: index.size == 10, "the first slices")
    gate_later = loop.call_later(0.2, gate.set)

    assert await index.count(Query(owner="ada")) is None
    page = await index.page(Query(task="*", limit=100))

    gate_later.cancel()
    gate.set()
    assert page.searched is not None
    assert [one.id for one in page.jobs][:10] == [f"j{29 - n:04}" for n in range(10)]
    await index.whole()
    assert (await index.page(Query(task="*"))).searched is None

    index._filled.clear()  # incomplete again: a search box still suggests the values so far
    assert sum((await index.tally(Query(), ("task",), 60.0) or {}).values()) == 30
    assert await index.tally(Query(owner="ada"), ("task",), 60.0) is None
    index._filled.set()


async def test_jobs_of_the_same_microsecond_are_all_found(store: RedisStore, index: Index) -> None:
    """Rows are numbered by the time of submit, which a restored job may share with another one."""
    await store.submit([job(f"j{n}", owner="ada") for n in range(3)])
    (us,) = await store.fields(("us",), ["j0"])
    assert us is not None
    for job_id in ("j1", "j2"):
        await store.redis.hset(f"{store.prefix}job:{job_id}", "us", us[0])
        for key in ("jobs", "state:queued"):
            await store.redis.zadd(f"{store.prefix}{key}", {job_id: int(us[0])})

    assert sorted(await ids(index, Query(owner="ada"))) == ["j0", "j1", "j2"]
    assert sorted(await ids(index, Query(search="ada"))) == ["j0", "j1", "j2"]


async def test_simple_queries_never_create_an_index(store: RedisStore, index: Index) -> None:
    await submit(store, "a", "b")

    assert [one.id for one in (await index.page(Query(states=("queued",), newer_s=60))).jobs] == ["b", "a"]
    assert await index.count(Query(states=("queued",))) == 2
    assert index._database is None


async def test_a_wrong_order_is_refused(index: Index) -> None:
    with pytest.raises(InvalidParams, match="order must be one of"):
        await index.page(Query(order="size"))


async def test_the_index_counts_activity_like_the_store(store: RedisStore, index: Index) -> None:
    await fill(store, 60)

    for query in ({}, *QUERIES):
        jobs = (await store.list(Query(**query, limit=1000))).jobs
        assert await index.activity(Query(**query), 5.0) == activity_of(jobs), query
    assert await index.activity(Query(owner="ada"), 0.0) in (None, await index.activity(Query(owner="ada"), 5.0))
