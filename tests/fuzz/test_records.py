"""Damaged records: an unreadable one hides no other, blocks no worker, and ends once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jobkit
from jobkit.attempts import assignment, ending, read_preview, refused
from jobkit.codec import MSGPACK, Codec, Subject
from jobkit.model import JobSpec, SignatureError
from jobkit.settings import Settings
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed
from jobkit.store.wire import read_claimed
from jobkit.tasks.info import TaskInfo
from tests.store.conftest import settings_for
from tests.store.support import submit, worker
from tests.support import examples
from tests.worker import jobs
from tests.worker.conftest import Bench, own_bench

__all__ = ["own_bench"]

FIELDS = ["spec", "state", "seq", "queue", "us", "p", "error", "usage", "attempt", "started", "e1", "losses", "worker",
          "token", "retried", "result_ttl_s", "finished", "summary", "rev", "cancel"]  # fmt: skip
texts = st.one_of(
    st.sampled_from(
        ["", "null", "[]", "{}", "1e999", "-1", "NaN", '{"id":1}', "running", "queued", "[" * 2000, "\x00"]
    ),
    st.text(max_size=20),
).map(str.encode)
damaged = st.one_of(texts, st.binary(max_size=30))


def run(coroutine: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await coroutine

    return asyncio.run(main())


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), damaged, min_size=1, max_size=4),
    entry=damaged,
    log=st.dictionaries(st.sampled_from([b"f", b"c", b"l", b"b"]), damaged, min_size=1),
)
def test_a_damaged_record_hides_no_other_and_blocks_no_worker(
    url: str, fields: dict[str, bytes], entry: bytes, log: dict[bytes, bytes]
) -> None:
    async def act() -> None:
        store = RedisStore(settings_for(url))
        key = store.prefix
        try:
            await submit(store, "bad", "good")
            await store.redis.hset(f"{key}job:bad", mapping=fields)  # type: ignore[misc, arg-type]
            await store.redis.set(f"{key}preview:bad", entry)
            await store.redis.xadd(f"{key}events", {b"e": entry})
            await store.redis.xadd(f"{key}log:bad", log)  # type: ignore[arg-type]
            await store.redis.hset(f"{key}tasks", "bad", entry)  # type: ignore[misc, arg-type]
            await store.redis.hset(f"{key}worker:bad", mapping={"slots": entry, "beat": entry})  # type: ignore[misc, arg-type]
            await store.redis.zadd(f"{key}workers", {"bad": 1, b"\xff": 2})
            await store.redis.sadd(f"{key}queues", b"\xff\xfe")  # type: ignore[misc]
            await looks_at_everything(store)
            claimed, _ = await store.claim(worker("w1"), 5)
            assert "good" in [one.spec.id for one in claimed]
            await store.finish([ended(one, store.settings) for one in claimed])
            [good] = await store.snapshots(["good"])
            assert good is not None
            assert good.is_terminal
            await store.renew("w1", {"bad": "w1:1"}, {})
            await store.cancel(["bad", "good"])
            await store.delete(["bad", "good"])
        finally:
            await store.redis.flushall()
            await store.close()

    run(act())


async def looks_at_everything(store: RedisStore) -> None:
    for query in (
        Query(),
        Query(search="a"),
        Query(task="simulate"),
        Query(queue="default"),
        Query(states=("queued",)),
    ):
        assert "good" in [snapshot.id for snapshot in (await store.list(query)).jobs] or query.search
    await store.snapshots(["bad", "good", "none"])
    for look in (store.workers, store.queues, store.tasks, store.counts, store.events):
        await look()
    await store.logs("bad")
    await read_preview(store, "bad", Codec())
    for name, sealed in (await store.tasks()).items():
        with contextlib.suppress(SignatureError):
            TaskInfo.from_sealed(name, sealed, Codec())


def ended(claimed: Claimed, settings: Settings) -> Any:
    """End the job as a worker does: without sealed arguments it is rejected."""
    codec = Codec([b"key"])
    with pytest.raises(SignatureError) as caught:
        assignment(claimed, codec, settings)
    return ending(claimed, refused(caught.value), codec, settings)


@given(st.binary(max_size=300))
def test_a_message_to_a_worker_is_decoded_as_a_claim_or_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="not a claim"):
        read_claimed(message)


def test_a_claim_with_an_unreadable_spec_still_names_its_job() -> None:
    head = b'{"token":"w:1","id":"a","attempt":1,"retried":0,"losses":0,"started":1,"us":2,"spec":{"id":"a"}}\npayload'

    claimed = read_claimed(head)

    assert (claimed.spec.id, claimed.token, claimed.attempt, claimed.payload) == ("a", "w:1", 1, b"")
    assert claimed.problem.startswith("the record of job a cannot be read")


def test_an_unsigned_call_that_cannot_be_read_is_refused() -> None:
    payload = Codec().seal(MSGPACK, b"no call", Subject("args", "a", "simulate"))

    with pytest.raises(SignatureError, match="its call cannot be read"):
        assignment(Claimed(JobSpec("a", "simulate"), "w1:1", 1, payload=payload), Codec(), Settings())


async def test_a_key_of_another_type_blocks_no_worker(store: RedisStore) -> None:
    await submit(store, "bad", "good")
    await store.redis.delete(f"{store.prefix}job:bad")
    await store.redis.set(f"{store.prefix}job:bad", "a text")
    await store.redis.zadd(f"{store.prefix}ready:default", {b"\xff\xfe": 1, "never": 2})

    await store.snapshots(["bad"])
    claimed, _ = await store.claim(worker("w1"), 5)

    assert [one.spec.id for one in claimed] == ["good"]


def test_a_worker_ends_a_job_it_cannot_read_once_and_lives(own_bench: Bench) -> None:
    bench = own_bench
    bad = bench.kit.submit(jobs.count_up, 1)
    prefix = f"jk:{bench.kit.settings.namespace}:"
    with redis.Redis.from_url(bench.server.url) as client:
        client.hset(f"{prefix}job:{bad.id}", "spec", "no JSON")
        worker = bench.worker()
        for noise in (b"", b"J", b"J{}", b"C\xff", b"W", b"\x00" * 100):
            client.publish(f"{prefix}inbox:{bench.kit.workers()[0].id}", noise)

        assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
        assert client.hget(f"{prefix}job:{bad.id}", "state") == b"failed"
        assert b"cannot be read" in client.hget(f"{prefix}job:{bad.id}", "error")
    assert len(bench.kit.jobs()) == 1
    assert worker.poll() is None
    assert "Traceback" not in bench.said()
    assert bench.said().count("rejected") == 1


def test_damaged_json_never_becomes_a_traceback_for_the_submitter(own_bench: Bench) -> None:
    job = own_bench.kit.submit(jobs.count_up, 1)
    with redis.Redis.from_url(own_bench.server.url) as client:
        client.hset(f"jk:{own_bench.kit.settings.namespace}:job:{job.id}", "spec", "{")

    with pytest.raises(jobkit.JobNotFound):
        own_bench.kit.get(job.id)
