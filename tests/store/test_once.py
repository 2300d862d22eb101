"""Deduplication: a second submit returns the first job, replaces it, or gets its result."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobkit.model import JobState, Once
from jobkit.store.redis import RedisStore
from jobkit.store.values import Submission, SubmitReply
from tests.support import until

from .support import claim, come_due, ending, job, snapshot, started, submit, types

HOUR_MS = 3_600_000


async def ask(store: RedisStore, id: str, **spec: Any) -> SubmitReply:
    """Submit one job."""
    [reply] = await store.submit([job(id, **spec)])
    return reply


def is_new(reply: SubmitReply) -> bool:
    return reply.created_ms > 0


def unique(scope: str = "active", ms: int = 0) -> Once:
    return Once("f00d", scope, ms)


# -- unique -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["queued", "active", "time"])
async def test_a_second_submit_returns_the_waiting_job(store: RedisStore, scope: str) -> None:
    assert is_new(await ask(store, "a", once=unique(scope, HOUR_MS)))

    assert await ask(store, "b", once=unique(scope, HOUR_MS)) == SubmitReply("a")

    assert await store.snapshots(["b"]) == [None]
    assert await ask(store, "a", once=unique(scope, HOUR_MS)) == SubmitReply("a"), "a repeated submit finds itself"
    assert is_new(await ask(store, "c", once=Once("other", scope, HOUR_MS)))


@pytest.mark.parametrize(("scope", "is_same"), [("queued", False), ("active", True), ("time", True)])
async def test_while_a_job_runs_only_some_scopes_apply(store: RedisStore, scope: str, is_same: bool) -> None:
    await ask(store, "a", once=unique(scope, HOUR_MS))
    await claim(store)

    assert (await ask(store, "b", once=unique(scope, HOUR_MS)) == SubmitReply("a")) == is_same


@pytest.mark.parametrize(("scope", "is_same"), [("queued", False), ("active", False), ("time", True)])
async def test_after_the_end_of_a_job_only_its_period_applies(store: RedisStore, scope: str, is_same: bool) -> None:
    await ask(store, "a", once=unique(scope, HOUR_MS))
    [a] = await claim(store)
    await store.finish([ending(a)])

    assert (await ask(store, "b", once=unique(scope, HOUR_MS)) == SubmitReply("a")) == is_same


async def test_the_period_of_uniqueness_ends(store: RedisStore) -> None:
    await ask(store, "a", once=unique("time", 1))
    for n in range(1000):
        if (reply := await ask(store, f"b{n}", once=unique("time", 1))).job_id != "a":
            break

    assert is_new(reply)


async def test_a_cancelled_waiting_job_is_no_duplicate(store: RedisStore) -> None:
    await ask(store, "a", once=unique())
    await store.cancel(["a"])

    assert is_new(await ask(store, "b", once=unique()))
    assert await ask(store, "c", once=unique()) == SubmitReply("b")


@pytest.mark.parametrize("scope", ["active", "time"])
async def test_a_manual_retry_is_never_deduplicated(store: RedisStore, scope: str) -> None:
    await ask(store, "a", once=unique(scope, HOUR_MS))
    [a] = await claim(store)
    await store.finish([ending(a, "failed")])

    assert is_new(await ask(store, "b", retry_of="a", once=unique(scope, HOUR_MS)))

    assert await ask(store, "c", retry_of="a", once=unique(scope, HOUR_MS)) == SubmitReply("b"), "but it runs again"


async def test_a_released_attempt_still_counts_as_a_duplicate(store: RedisStore) -> None:
    await ask(store, "a", once=unique())
    [a] = await claim(store)
    await store.finish([ending(a, "retried", delay_ms=HOUR_MS)])

    assert await ask(store, "b", once=unique()) == SubmitReply("a")


# -- debounce ---------------------------------------------------------------------------------------------------------


def last(ms: int = HOUR_MS) -> dict[str, Any]:
    return {"once": Once("bead", "debounce", ms), "delay_ms": ms}


async def test_the_last_submit_replaces_the_waiting_job(store: RedisStore) -> None:
    await ask(store, "a", params={"n": 1}, **last())
    due = (await snapshot(store, "a")).due_at
    assert await ask(store, "b", params={"n": 2}, **last(2 * HOUR_MS)) == SubmitReply("", reseal_for="a")

    spec = job("a", params={"n": 2, "list": []}, **last(2 * HOUR_MS)).spec
    assert await store.submit([Submission(spec, b"new")]) == [SubmitReply("a")]

    found = await snapshot(store, "a")
    assert (found.spec, found.state, types(found)) == (spec, "scheduled", ["submitted", "submitted"])
    assert found.due_at > due  # type: ignore[operator]
    assert await store.payload("a") == b"new"
    await come_due(store, "a")
    [claimed] = await claim(store)
    assert (claimed.spec, claimed.payload) == (spec, b"new")


async def test_the_job_that_replaces_another_one_waits_for_what_it_needs(store: RedisStore) -> None:
    needed = await started(store, "needed")
    await ask(store, "a", **last(1))
    assert await ask(store, "a", needs=("needed",), **last(1)) == SubmitReply("a")
    await asyncio.sleep(0.01)

    assert await claim(store) == []
    await store.finish([ending(needed)])

    assert [one.spec.id for one in await claim(store)] == ["a"]


async def test_a_started_job_is_not_replaced(store: RedisStore) -> None:
    await ask(store, "a", **last())
    await come_due(store, "a")
    [a] = await claim(store)

    assert await ask(store, "a", **last()) == SubmitReply("", reseal_for=""), "another id is due: this job has started"
    assert is_new(await ask(store, "b", **last()))
    await store.finish([ending(a)])
    assert await ask(store, "c", **last()) == SubmitReply("", reseal_for="b")


# -- cache ------------------------------------------------------------------------------------------------------------

KEPT: dict[str, Any] = {"cache_key": "cafe", "cache_ms": HOUR_MS}


async def made(store: RedisStore, id: str = "a", **fields: Any) -> None:
    await submit(store, id, **KEPT)
    [claimed] = await claim(store)
    await store.finish([ending(claimed, **({"result": b"42", "preview": b"sealed", "summary": "42"} | fields))])


async def test_the_same_work_gets_the_cached_result_at_once(store: RedisStore) -> None:
    await made(store)

    assert await ask(store, "b", delay_ms=HOUR_MS, needs=("gone",), **KEPT) == SubmitReply("b")

    found = await snapshot(store, "b")
    assert (found.state, found.cached_from, found.summary, found.attempt) == ("succeeded", "a", "42", 0)
    assert types(found) == ["submitted", "succeeded"]
    assert (await store.result("b"), await store.preview("b")) == (b"42", b"sealed")
    assert await claim(store) == []


async def test_a_fresh_job_runs_and_its_result_is_cached(store: RedisStore) -> None:
    await made(store)

    assert is_new(await ask(store, "b", is_fresh=True, **KEPT))
    [b] = await claim(store)
    await store.finish([ending(b, result=b"43")])

    await ask(store, "c", **KEPT)
    assert (await snapshot(store, "c")).cached_from == "b"


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
async def test_only_successes_are_cached(store: RedisStore, outcome: str) -> None:
    await made(store, outcome=outcome)

    assert is_new(await ask(store, "b", **KEPT))


async def test_a_job_with_a_cached_result_is_not_a_source_of_the_cache(store: RedisStore) -> None:
    await made(store)
    await ask(store, "b", **KEPT)
    await ask(store, "c", **KEPT)
    assert (await snapshot(store, "c")).cached_from == "a"

    await store.delete(["a"])

    assert await store.result("c") is None
    assert is_new(await ask(store, "d", **KEPT)), "the result is deleted with its job"


async def test_a_result_is_cached_no_longer_than_its_job_is_kept(store: RedisStore) -> None:
    await made(store, ttl_ms=300)
    await ask(store, "b", **KEPT)
    assert (await snapshot(store, "b")).state is JobState.SUCCEEDED

    async def is_gone() -> bool:
        return await store.snapshots(["a", "b"]) == [None, None]

    await until(is_gone, "both to be forgotten")
