"""Damaged records and keys: every command goes on without them, and `jobkit doctor` names and removes them."""

from __future__ import annotations

import asyncio
import json

import pytest
import redis

from jobkit.features.failures.store import FailureStore
from jobkit.features.schedules.store import ScheduleStore
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import DAMAGED
from tests.fuzz.test_damage import FAILURE, furnish
from tests.store.conftest import settings_for
from tests.store.server import Server, running_server
from tests.store.support import claim, ending, submit, worker

from .conftest import Terminal

server = pytest.fixture(running_server, name="server")


def test_commands_go_on_and_doctor_counts_names_and_removes(terminal: Terminal, server: Server) -> None:
    settings = settings_for(server.url)

    async def fill() -> None:
        store = RedisStore(settings)
        await furnish(store)
        await store.close()

    asyncio.run(fill())
    place = {"JOBKIT_URL": server.url, "JOBKIT_NAMESPACE": settings.namespace}
    prefix = f"jk:{settings.namespace}:"
    with redis.Redis.from_url(server.url) as client:
        for index in ("state:queued", "expiry", "workers"):
            client.delete(f"{prefix}{index}")
            client.set(f"{prefix}{index}", "a text")
        client.delete(f"{prefix}job:failed")
        client.lpush(f"{prefix}job:failed", "x")
        client.hset(f"{prefix}job:done", "spec", "{")
        client.hset(f"{prefix}job:waiting", "state", "asleep")
        client.hdel(f"{prefix}job:later", "spec")
        client.hset(f"{prefix}rules", "task:simulate", "[]")
        client.zadd(f"{prefix}jobs", {b"\xff\xfe": 9e15, "nobody": 9e15})
        client.zadd(f"{prefix}state:running", {"nobody": 1})

        for command in ("jobs", "stats", "queues", "failures", "export", "prune"):
            done = terminal.run(*command.split(), **place)
            assert (done.returncode, "refused a command" in done.stderr) == (0, False), (command, done.stderr)
        shown = {job["id"] for job in json.loads(terminal.ok("jobs", "--json", **place))}
        assert shown >= {"running", "good", "held"}
        assert not shown & {"done", "failed", "waiting", "later", "nobody"}
        told = terminal.run("doctor", **place)
        records = next(line for line in told.stdout.splitlines() if " records " in line)
        assert records.startswith("warn  records")
        for name in (
            "job:failed (its type is list)",
            "state:queued (its type is string)",
            "job:done (",
            "job:waiting (",
        ):
            assert name in records
        assert "`jobkit doctor --remove-damaged` deletes them" in records
        assert client.zscore(f"{prefix}jobs", b"\xff\xfe") is client.zscore(f"{prefix}state:running", "nobody") is None

        assert " removed: " in terminal.run("doctor", "--remove-damaged", **place).stdout
        assert "none is known to be damaged" in terminal.run("doctor", **place).stdout
        assert client.exists(f"{prefix}job:done", f"{prefix}args:done", f"{prefix}damaged:state:queued") == 0
        assert client.zscore(f"{prefix}jobs", "done") is None
        assert client.hget(f"{prefix}job:good", "state") == b"queued"


def test_what_was_repaired_is_not_removed(terminal: Terminal, server: Server) -> None:
    settings = settings_for(server.url)
    place = {"JOBKIT_URL": server.url, "JOBKIT_NAMESPACE": settings.namespace}
    prefix = f"jk:{settings.namespace}:"

    async def fill() -> str:
        store = RedisStore(settings)
        await furnish(store)
        good = await store.redis.hgetall(f"{prefix}schedule:nightly")
        await store.redis.hset(f"{prefix}schedule:nightly", "spec", "{")
        [group] = await store.part(FailureStore).groups()
        await store.redis.hset(f"{prefix}group:{group.id}", "count", "x")
        assert [found.name for found in await store.part(ScheduleStore).snapshots()] == ["second"]
        await submit(store, "another", queue="other")
        await store.finish([ending((await claim(store, by=worker("w2", "other")))[0], "failed", error=FAILURE)])
        await store.redis.hset(f"{prefix}schedule:nightly", mapping=good)
        await store.close()
        return group.id

    group = f"group:{asyncio.run(fill())}"
    with redis.Redis.from_url(server.url) as client:
        client.hset(f"{prefix}job:done", "spec", "{")
        noted = set(client.hkeys(f"{prefix}damaged"))
        assert noted >= {b"schedule:nightly", f"{group}\ncount".encode()}

        assert "2 damaged records or keys removed: " in terminal.run("doctor", "--remove-damaged", **place).stdout

        assert client.exists(f"{prefix}schedule:nightly") == 1
        assert client.hget(f"{prefix}{group}", "count") == b"1"
        assert client.exists(f"{prefix}job:done") == 0


def test_doctor_names_jobs_that_no_verb_can_use(terminal: Terminal, server: Server) -> None:
    settings = settings_for(server.url)
    place = {"JOBKIT_URL": server.url, "JOBKIT_NAMESPACE": settings.namespace}

    asyncio.run(stop_two(settings))

    told = terminal.run("doctor", "--remove-damaged", **place).stdout
    assert "1 damaged record or key removed: job:without (it lacks a state" in told
    assert "1 may be stuck: job:running (a verb failed: " in told
    assert "1 may be stuck: job:running (" in terminal.run("doctor", **place).stdout


async def stop_two(settings: Settings) -> None:
    """Leave a running job whose outcome no verb could store, and one without its time of submit."""
    store = RedisStore(settings)
    await submit(store, "running")
    [claimed] = await claim(store)
    assert (await store.run("finish", ["running", claimed.token, "succeeded", "{", "", "", ""]))[0] == DAMAGED
    await submit(store, "without")
    await store.redis.hdel(f"{store.prefix}job:without", "us")
    assert await claim(store) == []
    await store.close()
