"""Redis address of arq's settings, and notification of the worker about changed keys."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from arq.connections import ArqRedis, RedisSettings, create_pool
from redis.asyncio.sentinel import Sentinel

from jobkit.features.arq.bridge import KeyWatch, queue_of, redis_settings, url_of, url_of_pool
from jobkit.model import InvalidParams
from jobkit.settings import Settings
from jobkit.store.connect import open_blocking
from jobkit.store.redis import RedisStore
from jobkit.worker import Worker
from tests.store.server import Server
from tests.support import ROOT, until

from .conftest import Make, serving
from .test_documented import answer, enqueued

PLACES = {
    "redis://localhost:6379/0": RedisSettings(),
    "redis://:p%40ss%2F@db.example:6380/3": RedisSettings("db.example", 6380, password="p@ss/", database=3),
    "redis://me:secret@[::1]:6379/0": RedisSettings("::1", username="me", password="secret"),
    "unix://:secret@/run/redis/r.sock?db=2": RedisSettings(
        unix_socket_path="/run/redis/r.sock", password="secret", database=2
    ),
    "rediss://db.example:6379/0?ssl_cert_reqs=required&ssl_ca_certs=%2Fetc%2Fca.pem&ssl_check_hostname=False": (
        RedisSettings("db.example", ssl=True, ssl_ca_certs="/etc/ca.pem")
    ),
    "redis+sentinel://:secret@a:1,b:2/mymaster/1": RedisSettings(
        [("a", 1), ("b", 2)], sentinel=True, password="secret", database=1
    ),
}


@pytest.mark.parametrize("url", PLACES)
def test_arqs_settings_become_a_url(url: str) -> None:
    assert url_of(PLACES[url]) == url
    with open_blocking(Settings(url=url)) as client:  # redis-py understands it; nothing is sent
        options = client.connection_pool.connection_kwargs
    assert options.get("password") == PLACES[url].password
    assert options.get("db") == PLACES[url].database


@pytest.mark.parametrize("url", [url for url in PLACES if "sentinel" not in url])
def test_a_url_becomes_arqs_settings(url: str) -> None:
    assert url_of(redis_settings(url)) == url


def test_contradictory_settings_are_refused() -> None:
    with pytest.raises(InvalidParams, match="needs a list of"):
        url_of(RedisSettings("a", sentinel=True))
    with pytest.raises(InvalidParams, match="needs sentinel=True"):
        url_of(RedisSettings([("a", 1)]))


async def test_the_url_of_a_pool_is_known() -> None:
    tcp = ArqRedis(host="db.example", port=6380, password="p@ss/", db=3, encoding="utf8")
    tls = ArqRedis(host="db.example", ssl=True, ssl_ca_certs="/etc/ca.pem", ssl_check_hostname=True)
    master = Sentinel([("a", 1), ("b", 2)]).master_for("mymaster", redis_class=ArqRedis, password="secret", db=1)

    assert url_of_pool(tcp) == "redis://:p%40ss%2F@db.example:6380/3"
    assert url_of_pool(tls).startswith("rediss://db.example:6379/0?")
    assert "ssl_ca_certs=%2Fetc%2Fca.pem" in url_of_pool(tls)
    assert "ssl_check_hostname=True" in url_of_pool(tls)
    assert url_of_pool(master) == "redis+sentinel://:secret@a:1,b:2/mymaster/1"


def test_queue_names_are_converted_to_valid_ones() -> None:
    assert queue_of("arq:queue") == "arq:queue"
    odd, other = queue_of("a,b"), queue_of("a;b")
    assert odd.startswith("a-b-")
    assert odd != other


@pytest.mark.parametrize("protocol", [2, 3])
async def test_changes_of_a_key_are_notified_also_after_a_cut(
    arq_redis: ArqRedis, settings: Settings, protocol: int
) -> None:
    store = RedisStore(replace(settings, url=f"{settings.url}?protocol={protocol}"))
    watch = KeyWatch(store.redis, ["arq:queue", "other"])
    listening = asyncio.create_task(watch.run())
    await until(lambda: watch.changed.is_set(), "the watch to connect")

    for cut in (False, True, False):
        if cut:
            await arq_redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: watch.changed.is_set(), "the watch to reconnect")
        await watch.arm()
        assert not watch.changed.is_set()
        await arq_redis.zadd("other", {"a": time.time()})
        await until(lambda: watch.changed.is_set(), "the notification")

    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await arq_redis.delete("other")
    await store.close()


async def test_without_notifications_the_queue_is_polled(
    arq_redis: ArqRedis, server: Server, settings: Settings, worker: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "jobkit.worker")
    rights = ("on", ">secret", "~*", "&*", "+@all", "-client|tracking")
    await arq_redis.execute_command("ACL", "SETUSER", "limited", *rights)
    place = RedisSettings(unix_socket_path=str(server.socket), username="limited", password="secret")
    one = worker([answer], redis_settings=place, burst=False)
    async with serving(one):
        job = await enqueued(arq_redis, "answer")

        assert await job.result(60, poll_delay=0.02) == 42
        assert "arq's queue is polled" in caplog.text
    await arq_redis.execute_command("ACL", "DELUSER", "limited")


async def test_the_documented_redis_rights_are_enough(
    arq_redis: ArqRedis, server: Server, worker: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "jobkit.worker")
    rights = "~jk:* ~arq:* &jk:* &__redis__:invalidate +@all -@admin -@dangerous +info"
    assert rights in (ROOT / "docs" / "from-arq.md").read_text("utf-8")
    await arq_redis.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", *rights.split())
    place = RedisSettings(unix_socket_path=str(server.socket), username="limited", password="secret")
    one = worker([answer], redis_settings=place, burst=False, poll_delay=60)
    async with serving(one):
        job = await enqueued(arq_redis, "answer")

        assert await job.result(60, poll_delay=0.02) == 42
        assert caplog.text == ""
    await arq_redis.execute_command("ACL", "DELUSER", "limited")


async def test_a_pool_works_instead_of_settings(where: RedisSettings, arq_redis: ArqRedis) -> None:
    pool = await create_pool(where)
    one = Worker([answer], redis_pool=pool, burst=True, handle_signals=False)
    job = await enqueued(arq_redis, "answer")

    await one.main()

    assert await job.result() == 42
    await one.close()
