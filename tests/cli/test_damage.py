"""Damaged records and keys: every command goes on without them, and `jobkit doctor` names and removes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
import redis

from jobkit.store.redis import RedisStore
from tests.fuzz.test_damage import furnish
from tests.store.conftest import settings_for
from tests.store.server import Server

from .conftest import Terminal


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.stop()


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

        for command in ("jobs", "stats", "queues", "failed list", "export", "prune"):
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
