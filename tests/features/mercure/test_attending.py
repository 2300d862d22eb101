"""Subscribers of HTTP's hub: listed until they leave or are no longer renewed."""

from __future__ import annotations

from jobkit.features.mercure.store import HubStore
from jobkit.store.redis import RedisStore
from tests.store.support import keys
from tests.support import until


async def test_subscribers_are_there_until_they_leave(store: RedisStore) -> None:
    assert await store.part(HubStore).attend({"a": b"1", "b": b"2"}, 60) == {}
    assert await store.part(HubStore).attending() == {"a": b"1", "b": b"2"}

    assert await store.part(HubStore).depart(["a", "nobody"]) == [True, False]
    assert await store.part(HubStore).attending() == {"b": b"2"}
    assert await store.part(HubStore).depart(["a"]) == [False]  # so that only one server tells of it
    assert await store.part(HubStore).depart([]) == []


async def test_a_subscriber_without_renewal_has_left_which_is_reported_once(store: RedisStore) -> None:
    await store.part(HubStore).attend({"dead": b"1"}, 0.05)
    await store.part(HubStore).attend({"alive": b"2"}, 60)

    async def is_alone() -> bool:
        return await store.part(HubStore).attending() == {"alive": b"2"}

    await until(is_alone, what="the time to be over")
    assert await store.part(HubStore).attend({"alive": b"3"}, 60) == {"dead": b"1"}
    assert await store.part(HubStore).attend({}, 60) == {}
    assert await store.part(HubStore).attending() == {"alive": b"3"}


async def test_without_any_server_subscribers_expire(store: RedisStore) -> None:
    await store.part(HubStore).attend({"a": b"1"}, 60)

    for key in await keys(store):
        if "subs" in key:
            assert 0 < await store.redis.pttl(key) <= 240_000
