"""Long lists are walked in slices: no call moves more than some hundred jobs, and nothing that is left over is lost."""

from __future__ import annotations

import pytest

from jobkit.store import library, wire
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from jobkit.store.values import Ending, Submission
from tests.store.support import claim, ending, error_of, job, snapshot, started, submit, types, worker

#: Jobs that one call moves, and needs and running attempts that it looks at; here a tenth of the usual numbers or less.
STEPS, NEEDS, COUNTED = 10, 20, 20


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = dict(library.current.sources)
    for path, old, new in (
        ("lib/call", "STEPS_MOST = 100\n", f"STEPS_MOST = {STEPS}\n"),
        ("lib/followers", "NEEDS_MOST, NEEDS_BYTES = 500,", f"NEEDS_MOST, NEEDS_BYTES = {NEEDS},"),
        ("lib/limits", "COUNTED_MOST = 500 ", f"COUNTED_MOST = {COUNTED} "),
    ):
        assert old in sources[path]
        sources[path] = sources[path].replace(old, new)
    monkeypatch.setattr(library, "current", library.Library(sources))
    monkeypatch.setattr(wire, "_NEEDS_MOST", NEEDS)


async def followers(store: RedisStore, count: int, *needs: str, start: str = "f") -> list[str]:
    ids = [f"{start}{n:05}" for n in range(count)]
    await store.submit([job(id, needs=needs) for id in ids])
    return ids


async def finish_alone(store: RedisStore, ended: Ending) -> bool:
    """End an attempt as a worker that dies right after it; return True if followers are left over."""
    *_, left = await store.run("finish", wire.finish_args([ended]))
    return bool(left)


async def beat(store: RedisStore, name: str = "w9") -> bool:
    return (await store.renew(name, {}, {})).has_left


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
async def test_heartbeats_go_on_if_the_worker_that_ended_a_job_dies(store: RedisStore, outcome: str) -> None:
    root = await started(store, "root")
    ids = await followers(store, 3 * STEPS, "root")

    assert await finish_alone(store, ending(root, outcome, result=b"1"))

    states = [(await store.counts())["scheduled"]]
    while await beat(store):
        states.append((await store.counts())["scheduled"])
    assert states == [2 * STEPS, STEPS]
    assert (await store.counts())["queued" if outcome == "succeeded" else "failed"] >= 3 * STEPS
    assert not await store.redis.exists(f"{store.prefix}needed")
    if outcome == "succeeded":
        assert [each.spec.id for each in await claim(store, 100)] == ids


async def test_a_follower_that_is_left_over_neither_starts_nor_is_lost(store: RedisStore) -> None:
    root = await started(store, "root")
    ids = await followers(store, STEPS + 3, "root")

    assert await finish_alone(store, ending(root, "failed"))

    assert [(await snapshot(store, id)).state for id in ids[-3:]] == ["scheduled"] * 3
    assert await claim(store, 10) == []
    assert await store.claim_one(worker(), ids[-1]) == (None, False)
    assert await store.cancel([ids[-1]]) == ["cancelled"]
    assert await store.move([ids[-2]], priority=3) == [""]
    assert not await beat(store)
    assert [str((await snapshot(store, id)).state) for id in ids[-3:]] == ["failed", "failed", "cancelled"]


async def test_a_late_submit_does_not_wait_for_what_has_ended(store: RedisStore) -> None:
    root = await started(store, "root")
    await followers(store, STEPS + 1, "root")
    assert await finish_alone(store, ending(root, "failed"))

    await submit(store, "late", needs=("root",))

    assert (await snapshot(store, "late")).state == "failed"


async def test_followers_of_a_job_that_is_deleted_meanwhile_end(store: RedisStore) -> None:
    root = await started(store, "root")
    ids = await followers(store, 3 * STEPS, "root")
    assert await finish_alone(store, ending(root, "cancelled"))

    assert await store.delete(["root"]) == [True]

    while await beat(store):
        pass
    errors = [(await snapshot(store, id)).error for id in ids]
    assert ["cancelled" in str(error) for error in errors] == [True] * 2 * STEPS + [False] * STEPS
    assert "is not kept" in str(errors[-1])


async def test_a_long_chain_ends_in_order(store: RedisStore, hub: EventHub, heard: list) -> None:  # type: ignore[type-arg]
    root = await started(store, "j0")
    await store.submit([job(f"j{n}", needs=(f"j{n - 1}",)) for n in range(1, 100)])
    hub.listen(heard.append)
    await hub.ready()

    await store.finish([ending(root, "failed")])

    await hub.flush()
    assert [event.job_id for event in heard] == [f"j{n}" for n in range(100)]
    error = await error_of(store, "j99")
    assert "job j0" in error.message
    assert len(error.message) < 300


async def test_an_exchange_goes_on_with_what_an_earlier_one_has_left(store: RedisStore) -> None:
    root = await started(store, "root")
    await followers(store, 3 * STEPS, "root")
    slot = (worker(), 0, 0, (), 0)

    answers, _, wait_s = await store.exchange([], [ending(root, "failed")], slot)
    waits = [wait_s]
    while not waits[-1]:
        _, _, wait_s = await store.exchange([], [], slot)
        waits.append(wait_s)

    assert answers == [1]
    assert waits == [0.0, 0.0, float("inf")]
    assert (await store.counts())["scheduled"] == 0


async def test_followers_of_a_job_whose_end_was_not_seen_go_on(store: RedisStore) -> None:
    """Its record does not say that it has some."""
    root = await started(store, "root")
    await submit(store, "child", needs=("root",))
    await store.redis.hdel(f"{store.prefix}job:root", "after")
    after = await store.redis.zrange(f"{store.prefix}after:root", 0, -1)
    await store.finish([ending(root, result=b"1")])
    assert after == [b"child"]
    assert (await snapshot(store, "child")).state == "scheduled"

    await store.redis.zadd(f"{store.prefix}needed", {"root": 1}, xx=True)  # some seconds later
    await beat(store)

    assert types(await snapshot(store, "child")) == ["submitted", "queued"]


async def test_a_heartbeat_leaves_followers_of_a_job_that_runs_alone(store: RedisStore) -> None:
    await started(store, "root")
    await submit(store, "child", needs=("root",))
    await store.redis.zadd(f"{store.prefix}needed", {"root": 1}, xx=True)

    await beat(store)

    assert (await snapshot(store, "child")).state == "scheduled"
    assert await store.redis.zscore(f"{store.prefix}needed", "root") > 1


# -- a job that needs many ---------------------------------------------------------------------------------------------


async def submit_alone(store: RedisStore, submission: Submission) -> None:
    """Submit a job as a client that dies right after it."""
    await store.run("submit", ["", "", *wire.submit_args([submission])])


@pytest.mark.parametrize("dies", [False, True])
async def test_a_job_that_needs_many_starts_when_all_have_succeeded(store: RedisStore, dies: bool) -> None:
    await store.submit([job(f"n{n}") for n in range(50)])
    claimed = await claim(store, 50)
    await store.finish([ending(each) for each in claimed[:10]])
    total = job("sum", needs=tuple(each.spec.id for each in claimed))
    await (submit_alone(store, total) if dies else store.submit([total]))
    await store.finish([ending(each) for each in claimed[10:-1]])
    while await beat(store):
        pass
    assert (await snapshot(store, "sum")).state == "scheduled"
    assert await store.redis.hget(f"{store.prefix}job:sum", "waits") == b"1"

    await store.finish([ending(claimed[-1])])

    assert [each.spec.id for each in await claim(store)] == ["sum"]


async def test_a_job_that_needs_many_ends_if_one_has_failed(store: RedisStore) -> None:
    await store.submit([job(f"n{n}") for n in range(50)])
    claimed = await claim(store, 50)
    await store.finish([ending(claimed[45], "failed")])

    await store.submit([job("sum", needs=tuple(each.spec.id for each in claimed))])

    assert (await snapshot(store, "sum")).state == "failed"


async def test_a_cancelled_job_that_needed_many_is_not_taken_for_a_later_one(store: RedisStore) -> None:
    await store.submit([job(f"n{n}") for n in range(50)])
    claimed = await claim(store, 50)
    await store.submit([job("sum", needs=tuple(each.spec.id for each in claimed))])
    await store.cancel(["sum"])
    await store.delete(["sum"])
    await submit(store, "sum", needs=("n49",))  # the same id once more

    await store.finish([ending(each) for each in claimed[:-1]])
    assert (await snapshot(store, "sum")).state == "scheduled"
    await store.finish([ending(claimed[-1])])

    assert (await snapshot(store, "sum")).state == "queued"


async def test_a_rule_counts_all_running_attempts_also_if_its_client_dies(store: RedisStore) -> None:
    await store.submit([job(f"n{n}") for n in range(50)])
    await claim(store, 50)

    *_, held, left = await store.run("rule", ["task:simulate", b'{"n":50}'])
    assert (held, left) == (COUNTED, 1)
    while await beat(store):
        pass

    assert [rule.held for rule in await store.rules()] == [50]
