"""Jobs that need results of others: released, or ended with a reason, in the step that ends the needed job."""

from __future__ import annotations

from jobkit.model import JobState
from jobkit.store import wire
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from tests.store.support import claim, come_due, ending, job, snapshot, started, submit, types, worker


async def state(store: RedisStore, id: str) -> str:
    return str((await snapshot(store, id)).state)


async def reason(store: RedisStore, id: str) -> str:
    found = await snapshot(store, id)
    assert found.state is JobState.FAILED
    assert found.error is not None
    assert found.error.kind == "dependency"
    return found.error.message


async def test_a_job_waits_for_what_it_needs_and_is_queued_in_the_step_that_ends_it(store: RedisStore) -> None:
    parent = await started(store, "parent")
    await submit(store, "child", needs=("parent",))
    assert await state(store, "child") == "scheduled"
    assert await claim(store) == []

    await store.finish([ending(parent, result=b"value")])

    found = await snapshot(store, "child")
    assert (found.state, types(found)) == ("queued", ["submitted", "queued"])
    assert [claimed.spec.id for claimed in await claim(store)] == ["child"]


async def test_jobs_that_ended_before_the_submit_count(store: RedisStore) -> None:
    await store.finish([ending(await started(store, "good"), result=b"value")])
    await store.finish([ending(await started(store, "bad"), "failed")])

    await submit(store, "runs", needs=("good",))
    await submit(store, "ends", needs=("good", "bad"))
    await submit(store, "lost", needs=("never",))

    assert await state(store, "runs") == "queued"
    assert await reason(store, "ends") == "job bad (simulate), whose result it needs, failed"
    assert "job never, whose result it needs, is not kept" in await reason(store, "lost")
    assert types(await snapshot(store, "lost")) == ["submitted", "failed"]


async def test_fan_in_waits_for_all_and_fan_out_keeps_its_order(store: RedisStore) -> None:
    one, two = await started(store, "one"), await started(store, "two")
    await submit(store, "sum", needs=("one", "two"))
    await submit(store, "c", "a", "b", needs=("two",))

    await store.finish([ending(one, result=b"1")])
    assert await state(store, "sum") == "scheduled"
    await store.finish([ending(two, result=b"2")])

    assert [claimed.spec.id for claimed in await claim(store, 9)] == ["sum", "c", "a", "b"]


async def test_a_failure_ends_everything_downstream_and_names_its_origin(store: RedisStore) -> None:
    root = await started(store, "root")
    await store.submit([job("b", needs=("root",)), job("c", needs=("b",)), job("d", needs=("c", "root"))])

    await store.finish([ending(root, "failed")])

    assert await reason(store, "b") == "job root (simulate), whose result it needs, failed"
    assert await reason(store, "c") == (
        "job b (simulate), whose result it needs, cannot run: job root (simulate), whose result it needs, failed"
    )
    assert "job root" in await reason(store, "d")


async def test_a_hundred_followers_end_in_the_step_that_ends_the_job(store: RedisStore) -> None:
    root = await started(store, "root")
    await store.submit([job(f"f{n}", needs=("root",)) for n in range(100)])

    assert await store.run("finish", wire.finish_args([ending(root, "failed")])) == [1, 0]

    assert (await store.counts())["failed"] == 101


async def test_a_chain_of_a_thousand_ends(store: RedisStore) -> None:
    root = await started(store, "j0")
    await store.submit([job(f"j{n}", needs=(f"j{n - 1}",)) for n in range(1, 1000)])

    await store.finish([ending(root, "failed")])

    assert (await store.counts())["failed"] == 1000
    assert "job j0" in await reason(store, "j999")
    assert len(await reason(store, "j999")) < 300


async def test_a_cancel_flows_downstream(store: RedisStore) -> None:
    await started(store, "root")
    await submit(store, "b", needs=("root",))
    await submit(store, "c", needs=("b",))

    assert await store.cancel(["b"], "enough") == ["cancelled"]

    assert await reason(store, "c") == "job b (simulate), whose result it needs, was cancelled"
    assert await state(store, "root") == "running"


async def test_a_retried_released_or_lost_parent_keeps_the_child_waiting(store: RedisStore) -> None:
    parent = await started(store, "parent", retries=1)
    await submit(store, "child", needs=("parent",))

    await store.finish([ending(parent, "retried")])
    assert await state(store, "child") == "scheduled"
    [again] = await claim(store)
    await store.finish([ending(again, "released")])
    assert await state(store, "child") == "scheduled"
    [last] = await claim(store)
    await store.finish([ending(last, result=b"value")])

    assert await state(store, "child") == "queued"


async def test_a_cancelled_child_is_not_released_later_even_under_the_same_id(store: RedisStore) -> None:
    parent = await started(store, "parent")
    await submit(store, "child", needs=("parent",))
    await store.cancel(["child"])
    await store.delete(["child"])
    await submit(store, "child", needs=("parent", "other"))  # the other job that it needs was never submitted

    await store.finish([ending(parent, result=b"value")])

    assert "job other" in await reason(store, "child")
    assert await claim(store) == []


async def test_a_delay_applies_in_addition_to_the_needs(store: RedisStore) -> None:
    parent = await started(store, "parent")
    await submit(store, "child", needs=("parent",), delay_ms=60_000)

    await store.finish([ending(parent, result=b"value")])

    assert await state(store, "child") == "scheduled"
    assert await claim(store) == []
    await come_due(store, "child")
    assert [claimed.spec.id for claimed in await claim(store)] == ["child"]


async def test_an_idle_worker_is_handed_the_child_at_once(store: RedisStore) -> None:
    pubsub = store.redis.pubsub()
    await pubsub.subscribe(store.channel("inbox", "w2"))
    parent = await started(store, "parent")
    await submit(store, "child", needs=("parent",))
    await claim(store, 1, worker("w2"))

    await store.finish([ending(parent, result=b"value")])

    assert await state(store, "child") == "running"
    await pubsub.aclose()


async def test_the_submitter_hears_of_a_child_that_ends_at_its_submit(store: RedisStore) -> None:
    hub = EventHub(store)
    await hub.start()
    heard: list[str] = []
    hub.listen_own(lambda event: heard.append(str(event.type)))

    await submit(store, "child", needs=("never",), client=hub.client_id)

    await hub.flush()
    assert heard == ["failed"]
    await hub.close()
