"""The hub: listeners get every event of a job in order, also after a cut connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobkit.model import EventsExpired, JobEvent, LogLine
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from jobkit.store.values import INLINE_RESULT_BYTES, AttemptNews
from tests.support import until

from .support import claim, come_due, ending, lapse, numbers, snapshot, started, submit

Heard = list[JobEvent]


def told(heard: Heard) -> list[str]:
    return [str(event.type) for event in heard]


async def test_a_listener_of_a_job_hears_every_event_and_its_log(
    store: RedisStore, hub: EventHub, heard: Heard
) -> None:
    hub.listen(heard.append, "a")
    await hub.ready("a")

    claimed = await started(store, "a")
    await submit(store, "other")
    await store.progress([numbers(claimed, 1, 2, "half"), AttemptNews("a", claimed.token, lines=[LogLine("hello")])])
    await store.cancel(["a"])
    await store.finish([ending(claimed, "cancelled")])
    await store.delete(["a"])

    await until(lambda: "deleted" in told(heard), "the last event")
    assert told(heard) == [
        "submitted",
        "started",
        "progressed",
        "logged",
        "cancel_requested",
        "cancelled",
        "deleted",
    ]
    assert {event.job_id for event in heard} == {"a"}
    assert [event.seq for event in heard] == [1, 2, 2, 2, 3, 4, 5]
    assert dict(heard[2].data) == {"rev": 1, "completed": 1, "total": 2, "message": "half"}
    assert heard[3].data["first"] == 1
    assert [LogLine.from_wire(wire).text for wire in heard[3].data["lines"]] == ["hello"]


async def test_a_listener_gets_the_same_events_as_the_record(store: RedisStore, hub: EventHub, heard: Heard) -> None:
    hub.listen(heard.append, "a")
    await hub.ready("a")
    first = await started(store, "a", delay_ms=0, retries=1)
    await lapse(store, "a")
    [second] = await claim(store)
    await store.finish([ending(second, "retried", delay_ms=60_000)])
    await come_due(store, "a")
    [third] = await claim(store)
    await store.finish([ending(third, usage={}, summary="s", result=b"x")])

    await until(lambda: "succeeded" in told(heard), "the last event")
    assert tuple(heard) == (await snapshot(store, "a")).history
    assert first.attempt == 1


@pytest.mark.parametrize(("job_id", "first"), [("0123456789abcdef", "started"), ("k123456789abcdef", "submitted")])
async def test_an_id_that_no_subscriber_can_know_is_published_from_the_call_after_its_submit_on(
    store: RedisStore, hub: EventHub, heard: Heard, job_id: str, first: str
) -> None:
    hub.listen(heard.append, job_id)
    await hub.ready(job_id)

    await started(store, job_id)

    await until(lambda: "started" in told(heard), "the start")
    assert told(heard)[0] == first


async def test_a_listener_of_all_jobs_hears_all_but_log_lines(store: RedisStore, hub: EventHub, heard: Heard) -> None:
    hub.listen(heard.append)
    await hub.ready()

    claimed = await started(store, "a")
    await store.progress([numbers(claimed, 1), AttemptNews("a", claimed.token, lines=[LogLine("hello")])])
    await submit(store, "b")
    await store.finish([ending(claimed, result=b"x", ttl_ms=1)])
    await until(lambda: store.prune(), "the job to expire")

    await until(lambda: "deleted" in told(heard), "the last event")
    assert [(event.job_id, str(event.type)) for event in heard] == [
        ("a", "submitted"),
        ("a", "started"),
        ("a", "progressed"),
        ("b", "submitted"),
        ("a", "succeeded"),
        ("a", "deleted"),
    ]
    assert not any(event.result for event in heard)


async def test_the_submitter_hears_its_jobs_and_gets_a_small_result_with_the_end(
    store: RedisStore, hub: EventHub, heard: Heard
) -> None:
    hub.listen_own(heard.append)
    await submit(store, "mine", client=hub.client_id)
    await submit(store, "theirs", client="somebody")
    mine, theirs = await claim(store, 2)
    await store.progress([AttemptNews("mine", mine.token, lines=[LogLine("not for everybody")]), numbers(mine, 1)])
    result = bytes(range(256)) * 4

    await store.finish([ending(theirs, result=b"no"), ending(mine, result=result)])

    await until(lambda: "succeeded" in told(heard), "the last event")
    assert told(heard) == ["started", "progressed", "succeeded"], "the reply to the submit had the first one"
    assert {event.job_id for event in heard} == {"mine"}
    assert [event.result for event in heard] == [b"", b"", result]


async def test_a_large_result_is_not_sent_with_the_end(store: RedisStore, hub: EventHub, heard: Heard) -> None:
    hub.listen_own(heard.append)
    await submit(store, "a", "b", client=hub.client_id)
    a, b = await claim(store, 2)

    largest = b"x" * INLINE_RESULT_BYTES
    await store.finish([ending(a, result=largest), ending(b, result=largest + b"x")])

    await until(lambda: told(heard).count("succeeded") == 2, "the last event")
    assert [event.result for event in heard[-2:]] == [largest, b""]
    assert await store.result("b") == largest + b"x"


async def test_an_error_is_told_with_its_traceback(store: RedisStore, hub: EventHub, heard: Heard) -> None:
    from .test_attempts import BOOM

    hub.listen(heard.append, "a")
    await hub.ready("a")

    await store.finish([ending(await started(store, "a"), "failed", error=BOOM)])

    await until(lambda: "failed" in told(heard), "the last event")
    assert heard[-1].data["error"] == BOOM.to_wire()


async def test_a_removed_listener_gets_no_more_events(store: RedisStore, hub: EventHub, heard: Heard) -> None:
    other: Heard = []
    stop = hub.listen(heard.append, "a")
    hub.listen(other.append, "a")
    stop_own = hub.listen_own(heard.append)
    await hub.ready("a")

    stop()
    stop()
    stop_own()
    await submit(store, "a", client=hub.client_id)

    await until(lambda: other, "the other listener to hear it")
    assert heard == []


async def test_a_listener_that_raises_does_not_affect_others(
    store: RedisStore, hub: EventHub, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: JobEvent) -> None:
        raise RuntimeError("broken listener")

    hub.listen(broken, "a")
    hub.listen(heard.append, "a")
    await hub.ready("a")

    await submit(store, "a")
    await store.cancel(["a"])

    await until(lambda: len(heard) == 2, "both events")
    assert "a listener of job events raised" in caplog.text


async def test_a_hub_is_live_from_start_to_close(store: RedisStore) -> None:
    hub = EventHub(store)
    statuses: list[bool] = []
    hub.on_status(statuses.append)

    await hub.start()
    live = hub.is_live
    await hub.close()

    assert (live, hub.is_live, statuses[0]) == (True, False, True)


# -- Redis ------------------------------------------------------------------------------------------------------------


async def test_a_cut_connection_comes_back_and_says_so(store: RedisStore, heard: Heard) -> None:
    hub = EventHub(store)
    statuses: list[bool] = []
    hub.on_status(statuses.append)
    await hub.start()
    hub.listen(heard.append, "a")
    hub.listen_own(heard.append)
    await hub.ready("a")

    try:
        for cut in (1, 2):
            await store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda cut=cut: statuses.count(False) == cut and hub.is_live, "the hub to come back")
        await hub.ready("a")
        await submit(store, "a", client=hub.client_id)
        await claim(store)
        await until(lambda: sorted(told(heard)) == ["started", "started", "submitted"], "events on both channels")
    finally:
        await hub.close()

    assert statuses == [True, False, True, False, True]


async def test_a_listener_that_begins_while_the_hub_reconnects_does_not_make_it_deaf(
    store: RedisStore, hub: EventHub, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.listen(heard.append)
    await hub.ready()
    pool, opens, asked = store.redis.connection_pool, asyncio.Event(), asyncio.Event()
    get_connection = pool.get_connection

    async def slowly(*args: Any, **options: Any) -> Any:
        asked.set()
        await opens.wait()
        return await get_connection(*args, **options)

    with monkeypatch.context() as patch:
        await store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        patch.setattr(pool, "get_connection", slowly)
        await asyncio.wait_for(asked.wait(), 30)
        hub.listen(heard.append, "a")  # a page is opened, say
        await asyncio.sleep(0)
        opens.set()
        await until(lambda: hub.is_live, "the hub to come back")
    await hub.ready("a")
    await submit(store, "a")
    await claim(store)

    await until(lambda: told(heard).count("started") == 2, "the event on both channels")


async def test_a_message_that_is_not_an_event_is_skipped(
    store: RedisStore, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    hub = EventHub(store)
    await hub.start()
    hub.listen(heard.append)
    await hub.ready()

    try:
        for message in (b"", b"\xff\xfe", b"[1]", b'{"id": "a"}', b'{"id":"a","seq":1,"type":"of tomorrow","at":1}'):
            await store.redis.publish(store.channel("all"), message)
        await submit(store, "a")
        await until(lambda: heard, "the event")
    finally:
        await hub.close()

    assert told(heard) == ["submitted"]
    assert caplog.text.count("is not an event of jobkit") == 5


# -- memory -----------------------------------------------------------------------------------------------------------


async def test_a_reader_that_was_away_too_long_gets_an_error_instead_of_a_part(store: RedisStore) -> None:
    await submit(store, "a", "b", "c")
    first, second, third = await store.events()
    await trim(store, keep=2)

    assert [event.id for event in await store.events(second.id)] == [third.id]
    assert [event.id for event in await store.events("0-0")] == [second.id, third.id]
    with pytest.raises(EventsExpired, match="are no longer kept") as told:
        await store.events(first.id)
    assert told.value.oldest == second.id
    await store.cancel(["a", "b", "c"])
    await store.delete(["a", "b", "c"])  # the invariants need every event of a stored job


async def test_an_id_before_the_first_event_of_all_misses_nothing(store: RedisStore) -> None:
    await submit(store, "a")

    assert len(await store.events("1-0")) == 1


async def trim(store: RedisStore, keep: int) -> None:
    await store.redis.xtrim(f"{store.prefix}events", maxlen=keep, approximate=False)


async def test_events_that_a_record_implies_read_as_they_were_published(
    store: RedisStore, hub: EventHub, heard: Heard
) -> None:
    """The submit, the start and the successful end of an only attempt are not stored as events."""
    hub.listen(heard.append)
    await hub.ready()

    await store.finish([ending(await started(store, "once"), summary="1", usage={"cpu_s": 0.5})])
    await store.finish([ending(await started(store, "twice"), "released", reason="drained")])
    [again] = await claim(store)
    await store.finish([ending(again, summary="2")])
    await hub.flush()

    for id in ("once", "twice"):
        published = [event for event in heard if event.job_id == id]
        assert list((await snapshot(store, id)).history) == published
    stored = await store.redis.hkeys(f"{store.prefix}job:once")
    assert not [name for name in stored if name[:1] == b"e"]
