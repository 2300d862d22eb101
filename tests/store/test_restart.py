"""After a restart of Redis: no job is lost before its worker can renew the lease."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobkit.model import StoreUnavailable
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed
from tests.support import until

from .conftest import settings_for
from .server import Server, running_server
from .support import check_keys, check_laws, claim, ending, snapshot, started, submit, worker

server = pytest.fixture(running_server, name="server")


@pytest.fixture
async def store(server: Server) -> AsyncIterator[RedisStore]:
    store = RedisStore(settings_for(server.url, lease=0.8))
    yield store
    await store.close()


async def test_no_job_is_lost_by_an_outage_that_is_longer_than_its_lease(server: Server, store: RedisStore) -> None:
    held = await started(store, "a")
    other = await started(store, "nobody's")
    await until(lambda: is_older(store, held, other), "the attempts to be older than the next server may be")

    server.kill()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await store.ping()
    server.start()
    await until(lambda: lease_over(store, "a"), "the lease to end")
    early, wait_s = await store.claim(worker("w2"), 2)
    renewal = await store.renew("w1", {"a": held.token}, {})

    assert early == []
    assert 0 < wait_s < 4  # it gets the time of the next attempt instead of polling
    assert renewal.lost == ()
    await submit(store, "later")
    [later] = await claim(store, by=worker("w2"))

    async def recovered() -> bool:
        await store.renew("w1", {"a": held.token}, {})
        await store.renew("w2", {"later": later.token}, {})
        return (await snapshot(store, "nobody's")).losses == 1

    await until(recovered, "the job without renewals to be lost")
    assert (await snapshot(store, "a")).losses == 0
    assert await store.finish([ending(held), ending(later)]) == [1, 1]
    await check_laws(store)
    await check_keys(store)


async def is_older(store: RedisStore, *held: Claimed) -> bool:
    """Redis reports its age in whole seconds only; meanwhile the worker sends heartbeats."""
    await store.renew("w1", {claimed.spec.id: claimed.token for claimed in held}, {})
    seconds, _ = await store.redis.time()
    return seconds * 1000 > held[0].started_ms


async def lease_over(store: RedisStore, id: str) -> bool:
    seconds, micros = await store.redis.time()
    score = await store.redis.zscore(f"{store.prefix}leases", id)
    return score is not None and score < seconds * 1000 + micros / 1000


async def test_a_job_that_started_after_the_restart_is_recovered_by_its_lease(
    server: Server, store: RedisStore
) -> None:
    """A recent start of the server does not delay jobs that started after it."""
    await started(store, "a")

    [claimed] = await until(lambda: claim(store, by=worker("w2")), "the lease to end")

    assert (claimed.attempt, claimed.losses) == (2, 1)


async def test_a_server_without_the_library_gets_it_again(server: Server, store: RedisStore) -> None:
    await submit(store, "a")
    await store.redis.function_flush()

    answers, claimed, _ = await store.exchange([], [], (worker(), 1, 0))
    await store.redis.function_flush()

    assert (answers, [one.spec.id for one in claimed]) == ([], ["a"])
    assert await store.cancel(["a"]) == ["running"]


async def test_the_hub_comes_back_after_the_server(server: Server, store: RedisStore) -> None:
    hub = EventHub(store)
    statuses: list[bool] = []
    heard: list[str] = []
    hub.on_status(statuses.append)
    await hub.start()
    hub.listen(lambda event: heard.append(event.job_id))
    await hub.ready()

    server.kill()
    await until(lambda: not hub.is_live, "the hub to notice")
    server.start()
    await until(lambda: hub.is_live, "the hub to come back")
    await submit(store, "a")
    await until(lambda: heard, "a later event")

    assert statuses == [True, False, True]
    await hub.close()
