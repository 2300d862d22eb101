"""A full, read-only, loading or frozen server is reported in one sentence, and accepted jobs can end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil
import pytest
import redis
from redis.exceptions import AuthorizationError, BusyLoadingError, NoPermissionError, ResponseError

import jobkit
from jobkit.embedded.server import answers
from jobkit.model import InvalidParams, StoreUnavailable
from jobkit.settings import Settings
from jobkit.store import connect, library
from jobkit.store import hub as event_hub
from jobkit.store.connect import explain, open_blocking, open_redis
from jobkit.store.hub import EventHub
from jobkit.store.library import RIGHTS
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.sending import DirectSubmit
from jobkit.store.values import ArtifactInfo, Kept
from tests.support import until, wait_until

from .conftest import settings_for
from .server import Server, running_server
from .support import (
    check_keys,
    check_laws,
    claim,
    ending,
    job,
    lapse,
    numbers,
    snapshot,
    started,
    submit,
    worker,
)

server = pytest.fixture(running_server, name="server")


@pytest.fixture
async def store(server: Server) -> AsyncIterator[RedisStore]:
    store = RedisStore(settings_for(server.url, lease=15.0, heartbeat=5.0))
    yield store
    await store.close()


# -- a full server ----------------------------------------------------------------------------------------------------


async def test_a_full_server_accepts_no_job_and_lets_accepted_jobs_end(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await submit(store, "b", "c", "d")
    await store.redis.config_set("maxmemory", 1)
    assert "has reached its memory limit" in str(await store.refused())

    with pytest.raises(StoreUnavailable, match=r"has reached its memory limit .* `jobkit prune --keep 1000`"):
        await submit(store, "e")

    assert await store.progress([numbers(claimed, 1, 2)]) == [True]
    info = ArtifactInfo("x", "text/plain", 1, 0)
    assert await store.keep([Kept("a", claimed.token, info, b"x")]) == [True]
    renewed = await store.renew("w1", {"a": claimed.token}, {})
    assert renewed.lost == ()
    assert await store.finish([ending(claimed, result=b"value")]) == [1]
    assert await store.result("a") == b"value"
    [other] = await claim(store)
    assert await store.finish([ending(other, "retried")]) == [1]
    assert await store.cancel(["c"]) == ["cancelled"]
    assert len((await store.list(Query())).jobs) == 4
    assert await store.delete(["a"]) == [True]
    await store.leave("w1")
    assert await snapshot(store, "d")

    await store.redis.config_set("maxmemory", 0)
    await submit(store, "e")
    assert await store.refused() is None
    await check_laws_of_kept(store)


async def test_a_token_can_be_revoked_on_a_full_server(store: RedisStore) -> None:
    await submit(store, "a")
    await store.redis.config_set("maxmemory", 1)

    await store.web.revoke("stolen", time.time() + 60)

    assert await store.web.is_revoked("stolen")


async def test_a_full_server_can_be_pruned(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.finish([ending(claimed, ttl_ms=1, folder="place/00/x")])
    await store.redis.config_set("maxmemory", 1)
    await asyncio.sleep(0.01)  # the retention of the job

    assert await store.prune() == 1


async def check_laws_of_kept(store: RedisStore) -> None:
    await check_keys(store)
    await check_laws(store)


# -- a full disk ------------------------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_changes_in_one_sentence_until_it_has_space(
    server: Server, store: RedisStore
) -> None:
    claimed = await started(store, "a")
    server.fill_disk()
    await until(lambda: _refuses(store), "the server to have tried to write")

    for change in (
        submit(store, "c"),
        store.claim(worker(), 1),
        store.progress([numbers(claimed, 1, 2)]),
        store.finish([ending(claimed, result=b"value")]),
        store.cancel(["a"]),
        store.renew("w1", {"a": claimed.token}, {}),
    ):
        with pytest.raises(StoreUnavailable, match="cannot write to its disk and refuses changes: free space, see"):
            await change
    assert "cannot write to its disk" in str(await store.refused())
    assert (await snapshot(store, "a")).state == "running"  # looking is possible
    hub = EventHub(store)
    await hub.start()  # also for new clients
    await hub.close()
    assert answers(str(server.socket))

    server.free_disk()
    await until(lambda: _takes(store), "the server to try again")
    assert await store.finish([ending(claimed, result=b"value")]) == [1]
    assert await store.refused() is None
    await check_laws_of_kept(store)


async def test_too_few_replicas_are_named(store: RedisStore) -> None:
    await started(store, "a")
    await store.redis.config_set("min-replicas-to-write", 1)

    assert "has too few replicas in reach" in str(await store.refused())
    with pytest.raises(StoreUnavailable, match="has too few replicas in reach and refuses changes"):
        await submit(store, "b")


async def _takes(store: RedisStore) -> bool:
    try:
        await submit(store, job().spec.id)
    except StoreUnavailable:
        return False
    return True


async def _refuses(store: RedisStore) -> bool:
    return not await _takes(store)


# -- silence of all workers -------------------------------------------------------------------------------------------


async def sleep_for(store: RedisStore, seconds: float, *ids: str) -> None:
    """Simulate a sleep of the machine: the clock continues, and no worker sends heartbeats or renewals."""
    for name, _ in await store.redis.zrange(f"{store.prefix}workers", 0, -1, withscores=True):
        await store.redis.zincrby(f"{store.prefix}workers", -1000 * seconds, name)
    await lapse(store, *ids)


@pytest.mark.parametrize("silence_s", [11, 17, 3600])  # longer than a lease minus one heartbeat
async def test_after_a_silence_of_all_workers_live_ones_renew_first(store: RedisStore, silence_s: float) -> None:
    held = await started(store, "a")
    await store.renew("w1", {"a": held.token}, {})
    await sleep_for(store, silence_s, "a")

    early, wait_s = await store.claim(worker("w2"), 1)
    renewed = await store.renew("w1", {"a": held.token}, {})

    assert early == []
    assert 7 < wait_s <= 8.5
    assert renewed.lost == ()
    assert await store.finish([ending(held)]) == [1]
    await check_laws(store)
    await check_keys(store)


async def test_after_a_silence_jobs_of_dead_workers_run_again_later(store: RedisStore) -> None:
    held = await started(store, "a")
    await store.renew("w1", {"a": held.token}, {})
    await sleep_for(store, 3600, "a")

    assert (await store.renew("w2", {}, {})).lost == ()
    assert await claim(store, by=worker("w2")) == []
    assert await store.redis.delete(f"{store.prefix}grace") == 1  # the time is over
    [again] = await claim(store, by=worker("w2"))

    assert (again.spec.id, again.losses) == ("a", 1)


async def test_without_a_silence_an_expired_lease_is_recovered_at_once(store: RedisStore) -> None:
    held = await started(store, "a")
    await store.renew("w1", {"a": held.token}, {})
    await store.renew("w2", {}, {})
    await sleep_for(store, 5, "a")

    [again] = await claim(store, by=worker("w2"))

    assert again.losses == 1


# -- one sentence for each --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "sentence", "is_refusal"),
    [
        (
            ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
            "cannot write to its disk",
            False,
        ),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots, but"), "cannot write to its disk", False),
        (BusyLoadingError("Redis is loading the dataset in memory"), "is still loading its data", False),
        (ResponseError("READONLY You can't write against a read only replica."), "is a read-only replica", False),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), "too few replicas", False),
        (ResponseError("MASTERDOWN Link with MASTER is down"), "has lost its primary", False),
        (ResponseError("BUSY Redis is busy running a script."), "is busy with a function or script", False),
        (ResponseError("MOVED 3999 127.0.0.1:6381"), "runs in cluster mode, which cannot", True),
        (ResponseError("CROSSSLOT Keys in request don't hash to the same slot"), "runs in cluster mode", True),
        (AuthorizationError("NOAUTH Authentication required."), "refused the login", True),
        (NoPermissionError("this user has no permissions to run the 'fcall' command"), "let this user run FCALL", True),
        (NoPermissionError("User u has no permissions to run the 'function|load' command"), "run FUNCTION LOAD", True),
        (NoPermissionError("No permissions to access a key"), "use the keys jk:default:*: it needs the rights", True),
        (NoPermissionError("No permissions to access a channel"), "use the channels jk:default:*", True),
        (
            ResponseError("ERR ACL failure in script: User u has no permissions to run the 'hset' command"),
            "does not let this user run HSET",
            True,
        ),
        (ResponseError("OLDSERVER 7.0.15"), "is too old (7.0.15): use Redis or Valkey 7.2 or newer", True),
        (
            ResponseError("unknown command 'FCALL', with args"),
            "(it has no functions): use Redis",
            True,
        ),
        (redis.TimeoutError("Timeout reading from socket"), "does not answer", False),
        (ConnectionRefusedError(111, "Connection refused"), "does not answer", False),
        (redis.ConnectionError("Error -2 connecting to redis.svc.cluster.local:6379."), "does not answer", False),
    ],
)
def test_each_error_is_one_sentence_without_the_password(error: Exception, sentence: str, is_refusal: bool) -> None:
    told = explain(error, Settings(url="redis://u:canary@host:6379/0"))

    assert sentence in str(told)
    assert "canary" not in str(told)
    assert "redis://u:***@host:6379/0" in str(told)
    assert "\n" not in str(told)
    assert told.is_refusal is is_refusal


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"redis.REDIS_VERSION_NUM": "0x0007000f", "redis.REDIS_VERSION": "'7.0.15'"}, r"is too old \(7\.0\.15\)"),
    ],
)
async def test_a_server_before_7_2_is_refused_by_every_verb(
    store: RedisStore, told: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = library.current.sources["lib/call"]
    for known, value in told.items():
        source = source.replace(known, value)
    monkeypatch.setattr(library, "current", library.Library(library.current.sources | {"lib/call": source}))

    with pytest.raises(StoreUnavailable, match=sentence):
        await submit(store, "a")
    with pytest.raises(StoreUnavailable, match=sentence):
        await store.finder.candidates(["a"])


async def test_a_replica_is_named(store: RedisStore) -> None:
    await started(store, "a")
    await store.redis.replicaof("127.0.0.1", "1")
    await store.redis.config_set("replica-serve-stale-data", "yes")

    with pytest.raises(StoreUnavailable, match="is a read-only replica: point JOBKIT_URL at the primary"):
        await submit(store, "b")
    assert "is a read-only replica" in str(await store.refused())
    assert (await store.list(Query())).jobs[0].id == "a"  # reading is possible
    await store.redis.replicaof("NO", "ONE")


@pytest.mark.parametrize("right", ["fcall", "function"])
async def test_a_missing_right_is_named(store: RedisStore, right: str) -> None:
    await store.redis.execute_command("ACL", "SETUSER", "default", f"-{right}")

    with pytest.raises(StoreUnavailable, match="does not let this user run F") as told:
        await submit(store, "a")
    assert told.value.is_refusal


def test_a_server_in_cluster_mode_is_refused_at_connect() -> None:
    with Server("", "--cluster-enabled", "yes") as server:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)  # each key would be this server's
            wait_until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        with pytest.raises(StoreUnavailable, match="runs in cluster mode, which cannot change several keys") as told:
            jobkit.connect(server.url, secret="s")
    assert told.value.is_refusal


async def test_a_user_without_channels_is_refused_at_connect(store: RedisStore, server: Server) -> None:
    await store.redis.execute_command("ACL", "SETUSER", "silent", "on", "nopass", "~jk:*", "+@all")

    with pytest.raises(StoreUnavailable, match=r"use the channels jk:default:\*"):
        await asyncio.to_thread(jobkit.connect, f"redis://silent:x@127.0.0.1:{server.listen()}", secret="s")


@pytest.mark.parametrize(
    ("rights", "lacks"),
    [
        (RIGHTS, []),
        (f"{RIGHTS} -hset -publish", ["the command HSET", "the command PUBLISH"]),
        (f"{RIGHTS} -function", ["the command FUNCTION LOAD"]),
        (f"{RIGHTS} resetchannels", ["the channels jk:{namespace}:*"]),
    ],
)
async def test_missing_rights_are_named(store: RedisStore, server: Server, rights: str, lacks: list[str]) -> None:
    await store.refused()  # the library is loaded
    user = f"u{len(rights)}"
    await store.redis.execute_command("ACL", "SETUSER", user, "on", "nopass", *rights.split())
    url = f"redis://{user}:x@127.0.0.1:{server.listen()}"
    other = RedisStore(settings_for(url, namespace=store.settings.namespace))

    assert await other.lacks() == [lack.format(namespace=store.settings.namespace) for lack in lacks]
    await other.close()


# -- a server that does not speak -------------------------------------------------------------------------------------


def test_a_frozen_server_does_not_block_a_submit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "REPLY_TIMEOUT_S", 0.5)
    direct = DirectSubmit(settings_for(server.url), "client")
    assert direct.submit(job("a")).created_ms
    frozen = psutil.Process(server.pid)

    frozen.suspend()
    with pytest.raises(StoreUnavailable, match=r"does not answer \(Timeout"):
        direct.submit(job("b"))
    frozen.resume()

    assert not direct.submit(job("b")).created_ms  # the call was on its way, and is stored once
    direct.close()


async def test_a_frozen_server_is_told_to_listeners_until_it_answers(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "_PING_S", 0.2)
    store = RedisStore(settings_for(server.url))
    hub, told = EventHub(store), list[bool]()
    await hub.start()
    hub.on_status(told.append)
    hub.listen(lambda _: None, "a")
    frozen = psutil.Process(server.pid)

    frozen.suspend()
    await until(lambda: not hub.is_live, "the silence")
    assert told[-1] is False
    frozen.resume()
    await until(lambda: hub.is_live, "the answer")
    assert told[-1] is True

    await hub.close()
    await store.close()


@pytest.mark.parametrize("url", ["redis://localhost:1", "redis+sentinel://localhost:1/mymaster"])
def test_every_version_of_redis_py_awaits_replies_without_a_limit_and_gets_nothing_else(url: str) -> None:
    client = open_redis(Settings.load(url=url))

    connection: Any = client.connection_pool.make_connection()
    assert connection.socket_timeout is None
    assert connection.protocol == 2


@pytest.mark.parametrize("opens", [open_redis, open_blocking])
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://u:secret@host:6390/abc", "the database must be a whole number, .*, not 'abc'"),
        ("redis://host/0/1", "the database must be a whole number, .*, not '0/1'"),
        ("redis+sentinel://host/mymaster/abc", "the database must be a whole number, .*, not 'abc'"),
        ("redis://host/0?foo=1", "redis:// has no option 'foo'"),
        ("rediss://host/0?foo=1", "rediss:// has no option 'foo'"),
        ("redis+sentinel://host/mymaster?foo=1", r"redis\+sentinel:// has no option 'foo'"),
        ("redis://host/0?socket_timeout=abc", "Invalid value for 'socket_timeout'"),
    ],
)
def test_an_url_that_redis_py_would_misread_is_refused(opens: Callable[[Settings], Any], url: str, why: str) -> None:
    with pytest.raises(InvalidParams, match=f"^url .* is not understood: {why}") as caught:
        opens(Settings(url=url))
    assert "secret" not in str(caught.value)


def test_a_tcp_connection_is_given_up_when_its_other_end_is_gone(server: Server) -> None:
    import socket

    client = open_blocking(Settings(url=f"redis://127.0.0.1:{server.listen()}"))
    connection = client.connection_pool.get_connection()
    connection.connect()
    try:
        assert connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
        assert connection._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    finally:
        client.close()


async def test_a_closed_store_opens_no_further_connection(redis_url: str) -> None:
    """No code would close it: a late caller gets an error."""
    store = RedisStore(settings_for(redis_url))
    await store.counts()
    await store.close()

    for verb in (store.counts, lambda: store.web.is_revoked("a")):
        with pytest.raises(StoreUnavailable, match="was closed: connect again"):
            await verb()
    assert not any(connection.is_connected for connection in store.redis.connection_pool._available_connections)


async def test_calls_that_connect_while_their_store_is_closed_leave_no_connection(redis_url: str) -> None:
    store = RedisStore(settings_for(redis_url))
    reads = [asyncio.ensure_future(call()) for call in (store.counts, lambda: store.ask("EXISTS", "x")) for _ in "abc"]
    await asyncio.sleep(0)

    await store.close()
    await asyncio.wait(reads)

    pool: Any = store.redis.connection_pool
    connections = [*pool._available_connections, *pool._in_use_connections]
    assert connections
    assert not any(connection.is_connected for connection in connections)
    store.open()
    await store.counts()
    assert any(connection.is_connected for connection in pool._available_connections)
    await store.close()
