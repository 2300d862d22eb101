"""Large parts of calls: kept for their jobs, dropped with the last one, and never for ever without one."""

from __future__ import annotations

from msgspec.structs import replace

from jobkit.codec import Blob
from jobkit.model.spec import Once
from jobkit.store.redis import RedisStore
from jobkit.store.values import Submission

from .support import job, keys

A, B = Blob.of(b"a"), Blob.of(b"b")


def with_parts(submission: Submission, *blobs: Blob) -> Submission:
    return replace(submission, blobs=blobs)


async def upload(store: RedisStore, *blobs: Blob, folder: str = "") -> None:
    for blob in blobs:
        await store.blobs.put(blob.name, f"f{folder} 1 /shared".encode() if folder else b"r" + blob.content)


async def has(store: RedisStore, blob: Blob) -> bool:
    return not await store.blobs.missing([blob.name])


async def test_a_content_is_stored_once_and_found_by_its_name(store: RedisStore) -> None:
    assert await store.blobs.missing([A.name, B.name]) == [A.name, B.name]

    assert await store.blobs.put(A.name, b"ra")
    assert not await store.blobs.put(A.name, b"rother")

    assert await store.blobs.missing([A.name, B.name]) == [B.name]
    assert await store.blobs.read([A.name, B.name]) == [b"ra", None]


async def test_an_upload_without_a_submit_expires(store: RedisStore) -> None:
    await upload(store, A)

    assert 0 < await store.redis.pttl(f"{store.prefix}blob:{A.name}") <= 3_600_000


async def test_a_content_lives_as_long_as_the_last_job_that_uses_it(store: RedisStore) -> None:
    await upload(store, A, B)
    await store.submit([with_parts(job("j1"), A, B), with_parts(job("j2"), A)])
    assert await store.redis.pttl(f"{store.prefix}blob:{A.name}") == -1

    await store.cancel(["j1", "j2"])
    await store.delete(["j1"])
    assert (await has(store, A), await has(store, B)) == (True, False)

    await store.delete(["j2"])
    assert not [key for key in await keys(store) if "blob" in key or "uses" in key]


async def test_a_content_goes_with_a_job_whose_keys_have_expired(store: RedisStore) -> None:
    await upload(store, A)
    await store.submit([with_parts(job("j1"), A)])
    await store.cancel(["j1"])
    await store.redis.delete(f"{store.prefix}job:j1", f"{store.prefix}args:j1")
    await store.redis.zadd(f"{store.prefix}expiry", {"j1": 1})

    await store.prune()

    assert not await has(store, A)


async def test_a_new_job_keeps_the_content_of_an_expired_one_of_its_id(store: RedisStore) -> None:
    await upload(store, A, B)
    await store.submit([with_parts(job("j1"), A, B)])
    await store.cancel(["j1"])
    await store.redis.delete(f"{store.prefix}job:j1", f"{store.prefix}args:j1")

    [reply] = await store.submit([with_parts(job("j1"), A)])

    assert reply.created_ms
    assert (await has(store, A), await has(store, B)) == (True, False)


async def test_a_submit_is_refused_as_a_whole_if_a_content_is_not_there(store: RedisStore) -> None:
    await upload(store, A)

    [reply] = await store.submit([with_parts(job("j1"), A, B)])

    assert reply.lacks == B.name
    assert await store.snapshots(["j1"]) == [None]
    assert await store.redis.pttl(f"{store.prefix}blob:{A.name}") > 0


async def test_the_folder_of_a_dropped_content_is_orphaned(store: RedisStore) -> None:
    await upload(store, A, folder="base/blobs/x")
    assert await store.blobs.folders([A.name, B.name]) == ["base/blobs/x", ""]
    await store.submit([with_parts(job("j1"), A)])
    await store.cancel(["j1"])

    await store.delete(["j1"])

    assert await store.orphaned() == ["base/blobs/x"]
    await store.cleaned_up(["base/blobs/x"])


async def test_replaced_arguments_leave_their_content(store: RedisStore) -> None:
    await upload(store, A, B)
    once = Once("k", "debounce", 60_000)
    await store.submit([with_parts(job("j1", once=once, delay_ms=60_000), A)])

    await store.submit([with_parts(job("j1", once=once, delay_ms=60_000), B)])

    assert (await has(store, A), await has(store, B)) == (False, True)
