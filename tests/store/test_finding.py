"""Filters and orders of a page: the store returns the same jobs in the same order as plain Python."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from jobkit.model import ErrorKind, InvalidParams
from jobkit.model.plain import instant
from jobkit.model.snapshot import JobError
from jobkit.store.query import ORDERS, Candidate, Query, in_order, matches, sort_value, text_of
from jobkit.store.redis import RedisStore

from .support import claim, ending, numbers, submit, worker
from .test_looking import flat, ids, pages


@pytest.fixture
async def team(store: RedisStore) -> RedisStore:
    """Jobs of three users, run by two hosts."""
    await submit(
        store, "old", task="train", owner="ada", tags=("nightly", "a"), params={"lr": 0.003, "opt": {"name": "adam"}}
    )
    await submit(store, "bad", task="train_more", owner="bob", tags=("a",), params={"lr": 0.1, "seeds": [22, 23]})
    await submit(store, "gpu", task="score", queue="gpu", owner="ada", title="A=B")
    await submit(store, "new", task="train", owner="cy", key="k%1")
    [old] = await claim(store, 1, worker("gpu-1.4711.abc"))
    [bad] = await claim(store, 1, worker("gpu-10.1.abc"))
    await store.progress([numbers(old, 1, 2, "Epoch 1"), numbers(bad, 3, 4, "Epoch 9")])
    await store.finish([ending(old, summary="a table")])
    error = JobError(ErrorKind.TIMEOUT, "TimeoutError", "took too long")
    await store.finish([ending(bad, "failed", error=error)])
    return store


async def candidates(store: RedisStore) -> list[Candidate]:
    return [one for one in await store.finder.candidates(["old", "bad", "gpu", "new"]) if one]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"owner": "ada"}, ["gpu", "old"]),
        ({"owner": ("ada", "cy")}, ["new", "gpu", "old"]),
        ({"owner": "ad"}, []),
        ({"owner": "a*"}, ["gpu", "old"]),
        ({"tag": "a"}, ["bad", "old"]),
        ({"tag": "night*"}, ["old"]),
        ({"tag": "x"}, []),
        ({"task": "train*"}, ["new", "bad", "old"]),
        ({"task": ("train", "score")}, ["new", "gpu", "old"]),
        ({"task": "train", "owner": "cy"}, ["new"]),
        ({"task": "*"}, ["new", "gpu", "bad", "old"]),
        ({"task": "tr[a]in"}, []),
        ({"queue": "g*"}, ["gpu"]),
        ({"worker": "gpu-1"}, ["old"]),
        ({"worker": "gpu-10.1.abc"}, ["bad"]),
        ({"worker": "gpu-*"}, ["bad", "old"]),
        ({"worker": "gpu"}, []),
        ({"error": "TimeoutError"}, ["bad"]),
        ({"error": "timeout"}, ["bad"]),
        ({"error": "KeyError"}, []),
        ({"search": "lr=0.003"}, ["old"]),
        ({"search": "LR=0.1"}, ["bad"]),
        ({"search": "name=adam"}, ["old"]),
        ({"search": "opt"}, ["old"]),
        ({"search": "seeds"}, ["bad"]),
        ({"search": "23"}, ["bad"]),
        ({"search": "a=b"}, ["gpu"]),
        ({"search": "k%1"}, ["new"]),
        ({"search": ("epoch", "9")}, ["bad"]),
        ({"search": ("epoch", "table")}, ["old"]),
        ({"search": ("epoch", "nothing")}, []),
        ({"newer_s": 3600}, ["new", "gpu", "bad", "old"]),
        ({"older_s": 3600}, []),
        ({"older_s": 0}, ["new", "gpu", "bad", "old"]),
        ({"since": -3600}, ["new", "gpu", "bad", "old"]),
        ({"before": -3600}, []),
        ({"before": 4_000_000_000.0, "since": 1_000_000_000.0}, ["new", "gpu", "bad", "old"]),
        ({"since": 4_000_000_000.0}, []),
        ({"took_min_s": 0}, ["bad", "old"]),
        ({"took_min_s": 3600}, []),
        ({"took_max_s": 3600, "states": ("failed",)}, ["bad"]),
    ],
)
async def test_every_filter_finds_matching_jobs(team: RedisStore, query: dict[str, Any], found: list[str]) -> None:
    assert await ids(team, **query) == found
    jobs = await candidates(team)
    now = await team.now_ms()
    plain = [one for one in jobs if matches(one.job, Query(**query), now)]
    assert [one.job.id for one in in_order(plain, Query())] == found


@pytest.mark.parametrize("order", [sign + name for name in ORDERS for sign in ("", "-")])
async def test_pages_of_every_order_join_without_doubles_and_holes(team: RedisStore, order: str) -> None:
    jobs = await candidates(team)

    whole = await ids(team, order=order)

    assert whole == [one.job.id for one in in_order(jobs, Query(order=order))]
    values = [sort_value(one, order) for id in whole for one in jobs if one.job.id == id]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=order.startswith("-"))
    assert values[: len(known)] == known  # jobs without a value come last
    for limit in (1, 2, 3):
        assert flat(await pages(team, order=order, limit=limit)) == whole
    assert flat(await pages(team, order=order, limit=1, task="train*")) == [id for id in whole if id != "gpu"]


async def test_ages_bound_the_pages_that_follow_too(team: RedisStore) -> None:
    for order in ("", "submitted"):
        found = flat(await pages(team, newer_s=3600, older_s=0, order=order, limit=1))
        assert sorted(found) == ["bad", "gpu", "new", "old"]


async def test_an_invalid_order_or_cursor_is_refused(team: RedisStore) -> None:
    with pytest.raises(InvalidParams, match="order must be one of submitted, .* not 'size'"):
        await team.list(Query(order="size"))
    cursor = (await team.list(Query(order="-took", limit=1))).next_cursor
    for query in (Query(cursor=cursor), Query(cursor="x", order="took"), Query(cursor=cursor, order="took")):
        with pytest.raises(InvalidParams, match="cursor must be the next_cursor of a page of the same order"):
            await team.list(query)


async def test_a_candidate_is_the_snapshot_without_history(team: RedisStore) -> None:
    names = ["old", "bad", "gpu", "new"]

    found = await team.finder.candidates([*names, "none"])

    assert found[-1] is None
    assert await team.finder.candidates(["old", "bad", "gpu"], ["adam", "0.003"], ["ada"]) == [found[0], None, None]
    assert await team.finder.candidates(["old", "bad", "none"], (), ["Ada"]) == [None, None, None]
    for one, snapshot in zip(found, await team.snapshots(names), strict=False):
        assert one is not None
        assert snapshot is not None
        assert text_of(one.job) == text_of(snapshot)
        assert one.job == replace(snapshot, history=(), rev=0, usage={})
        assert one.job.submitted_at == instant(one.us // 1000)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1e-05, "1e-05"),
        (-2.5e-09, "-2.5e-09"),
        (1.5e-300, "1.5e-300"),
        (199.99999999999997, "200"),
        (0.1 + 0.2, "0.3"),
        (12345678901234567890, "12345678901234567168"),
        (1e20, "100000000000000000000"),
        (4999.0, "4999"),
        (-0.5, "-0.5"),
        (True, "true"),
        ('say "x" \\ /y', 'say "x" \\ /y'),
        ("Größe\tÄ", "größe\tÄ"),
    ],
)
async def test_a_value_is_found_by_the_form_that_users_see(store: RedisStore, value: Any, shown: str) -> None:
    await submit(store, "one", params={"value": value})
    await submit(store, "other", params={"value": "else"})

    assert await ids(store, search=f"value={shown}") == ["one"]
    assert await ids(store, search=f"value={shown}9") == []


async def test_versions_walk_all_jobs_newest_first(team: RedisStore) -> None:
    found, below = [], ""
    for _ in itertools.count():
        some, below = await team.finder.versions(below, 3)
        found += some
        if not below:
            break

    assert [id for id, _, _ in found] == ["new", "gpu", "bad", "old"]
    assert [seq for _, _, seq in found] == [1, 1, 3, 3]
    assert await team.finder.versions(str(found[-1][1]), 3) == ([], "")
    await team.redis.delete(f"{team.prefix}job:new")  # expired, but not yet pruned
    assert [id for id, _, _ in (await team.finder.versions("", 2))[0]] == ["gpu"]
    await team.redis.zrem(f"{team.prefix}jobs", "new")
    await team.redis.zrem(f"{team.prefix}state:queued", "new")
    await team.redis.zrem(f"{team.prefix}ready:default", "new")
    await team.redis.delete(f"{team.prefix}args:new")
