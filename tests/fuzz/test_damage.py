"""Damaged keys: whatever stands in a key of the store, every reader and every verb goes on, and `doctor` knows."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobkit.attempts import read_preview
from jobkit.codec import Codec
from jobkit.features.failures.store import FailureStore
from jobkit.features.mercure.store import HubStore
from jobkit.features.moving.dump import read_dumps, restore
from jobkit.features.schedules.firing import decide, firing
from jobkit.features.schedules.store import ScheduleStore
from jobkit.model import Gate, JobError, LogLine, Once, StoreUnavailable
from jobkit.model.person import AuditEntry
from jobkit.store.damage import damaged, discard
from jobkit.store.leader import hold
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import ALREADY, FINISHED, ArtifactInfo, AttemptNews, Kept, WorkerInfo
from tests.features.schedules.test_store import CODEC, put, spec
from tests.store.support import claim, ending, submit, worker
from tests.support import by_default

HOUR_MS = 3_600_000
ABLE = WorkerInfo(id="w1", resources={"gpu": 2}, weights={"default": 2.0})
FAILURE = JobError("exception", "ValueError", "no", "Traceback", "tasks.py:3")


async def furnish(store: RedisStore) -> None:
    """Fill a namespace with something of every kind."""
    await submit(
        store, "done", "failed", "retried", once=Once("beef", "time", HOUR_MS), cache_key="cafe", cache_ms=HOUR_MS
    )
    done = (await claim(store))[0]
    news = AttemptNews("done", done.token, True, 1.0, 2.0, "half", [LogLine("a line", 1)], 3.0)
    await store.progress([news])
    await store.keep([Kept("done", done.token, ArtifactInfo("plot.png", "image/png", 3, 1), b"sealed", "folder/done")])
    await store.finish([ending(done, result=b"sealed", preview=b"sealed", summary="2", folder="folder/done")])
    await submit(store, "failed", "gone", "again", once=Once("f00d", "active"))
    for failed in await claim(store, 2):
        await store.finish([ending(failed, "failed", error=FAILURE)])
    await submit(store, "repeat", retry_of="failed")
    await store.finish([ending((await claim(store))[0])])
    await store.delete(["gone"])
    await store.cancel(["again"])
    await submit(
        store, "running", limits=(Gate("task:simulate", n=5, count=50, period_ms=60_000),), resources={"gpu": 1}
    )
    await store.claim(ABLE, 1)
    await submit(store, "parked", "parked2", limits=(Gate("key:one", n=1),))
    await store.claim(worker("w0"), 1)
    await submit(store, "held", queue="paused")
    await store.set_rule("queue:paused", {"paused": {"by": "ada"}})
    await store.set_rule("task:simulate", {"n": 100})
    await submit(store, "later", delay_ms=HOUR_MS)
    await submit(store, "follower", needs=("running",))
    await submit(store, "waiting", "good", client="c1")
    await store.renew("w1", {"running": "w1:1"}, {"host": "here", "slots": 4, "queues": "default"})
    await store.claim(worker("w2", "other"), 2)
    await put(store, spec())
    await put(store, spec("second"), HOUR_MS)
    [due] = (await store.part(ScheduleStore).due())[0]
    await store.part(ScheduleStore).fire(firing(due, decide(due), CODEC))
    await store.audit_log.note(entry())
    await store.part(HubStore).publish(b'{"topics":["a"],"data":"x"}')
    await store.part(HubStore).publish(b'{"topics":["b"],"data":"y"}', is_presence=True)
    await store.part(HubStore).attend({"s1": b"{}"}, 60)
    await store.web.revoke("token", 2e9)
    await store.publish_tasks({"simulate": b"sealed"})
    await store.publish_took({"simulate": 2.5})
    await hold(store, "teller", "me", 60)
    await store.mark("told", "1-0")
    await store.place()


def entry() -> AuditEntry:
    return AuditEntry.of("ada", "operate", "page", "cancel", "job", ("done",), "done", "cancelled")


async def use_everything(store: RedisStore) -> dict[str, str]:
    """Call every reader and every verb; return what has failed, with the reason."""
    failures: dict[str, str] = {}

    async def trying(name: str, act: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await act()
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
            return None

    async def transfer() -> None:
        dumps = [dump for dump in await read_dumps(store, ["done", "failed", "running"]) if dump]
        await restore(store, [dump for dump in dumps if dump.snapshot.is_terminal])

    async def schedule() -> None:
        for due in (await store.part(ScheduleStore).due())[0]:
            await store.part(ScheduleStore).fire(firing(due, decide(due), CODEC))
        for found in await store.part(ScheduleStore).snapshots():
            await store.part(ScheduleStore).pause(found.name)
            await store.part(ScheduleStore).resume(found.name, found.rev, found.now_ms + HOUR_MS)
        await put(store, spec("third"), HOUR_MS)
        await store.part(ScheduleStore).payload("nightly")
        await store.part(ScheduleStore).remove("second")

    async def failure_groups() -> None:
        for group in await store.part(FailureStore).groups():
            await store.part(FailureStore).jobs(group.id)
            await store.part(FailureStore).judge([group.id], "muted")
        await store.part(FailureStore).groups_of(["failed", "done"])

    async def http() -> None:
        await store.part(HubStore).publish(b'{"topics":["a"],"data":"z"}')
        await store.part(HubStore).publish(b'{"topics":["a"],"data":"z"}', is_presence=True)
        await store.part(HubStore).updates()
        await store.part(HubStore).attend({"s2": b"{}"}, 60)
        await store.part(HubStore).attending()
        await store.web.is_revoked("token")
        await store.web.revoke("other", 2e9)
        await store.part(HubStore).depart(["s1"])

    async def audit() -> None:
        for _ in range(3):
            await store.audit_log.note(entry())
        await store.audit_log.entries()

    async def work() -> None:
        claimed, _ = await store.claim(worker("w5"), 20)
        await store.progress(
            [AttemptNews(one.spec.id, one.token, True, 1, 2, "x", [LogLine("y", 1)]) for one in claimed]
        )
        info = ArtifactInfo("a", "text/plain", 1, 1)
        await store.keep([Kept(one.spec.id, one.token, info, b"z", "folder/x") for one in claimed])
        await store.renew("w5", {one.spec.id: one.token for one in claimed}, {"host": "there"})
        await store.finish([ending(one) for one in claimed])

    async def submits() -> None:
        await submit(store, "n1", "n2", once=Once("f00d", "active"))
        await submit(store, "n3", cache_key="cafe", cache_ms=HOUR_MS)
        await submit(store, "n4", needs=("running", "done"))
        await submit(store, "n5", retry_of="failed", limits=(Gate("task:simulate", n=1),), resources={"gpu": 1})
        await submit(store, "n6", queue="paused")

    queries = {
        "newest": Query(), "text": Query(search="sim"), "task": Query(task="simulate"),
        "oldest": Query(order="submitted"),
        "states": Query(states=("queued", "running", "scheduled", "failed", "succeeded", "cancelled")),
    }  # fmt: skip
    acts: dict[str, Callable[[], Awaitable[Any]]] = {
        **{f"list {name}": lambda query=query: store.list(query) for name, query in queries.items()},
        **{f"{name} of {id}": lambda name=name, id=id: getattr(store, name)(id) for id in ("done", "running", "held")
           for name in ("result", "preview", "payload", "logs", "artifacts", "folder", "followers")},
        **{name: getattr(store, name) for name in ("counts", "queues", "workers", "events", "last_event_id", "place",
                                                   "orphaned", "rules", "tasks", "took", "refused")},
        "versions": lambda: store.finder.versions("", 100),
        "snapshots": lambda: store.snapshots(["done", "running", "held", "none"]),
        "waiting": lambda: store.waiting(["parked2", "held", "waiting"]),
        "artifact": lambda: store.artifact("done", "plot.png"),
        "show preview": lambda: read_preview(store, "done", Codec()),
        "owned": lambda: store.owned([("done", 1), ("running", 2)]),
        "handed": lambda: store.handed("w1"),
        "hold": lambda: hold(store, "teller", "me", 60),
        "marked": lambda: store.marked("told"),
        "transfer": transfer, "schedules": schedule, "failures": failure_groups, "http": http, "audit": audit,
        "submit": submits, "work": work,
        "claim by weight": lambda: store.claim(ABLE, 2, -1),
        "rule": lambda: store.set_rule("task:simulate", {"n": 50}),
        "move": lambda: store.move(["held", "later"], queue="default"),
        "stop": lambda: store.stop_workers(["w1", "w2"], "drain"),
        "claim one": lambda: store.claim_one(worker("w6"), "waiting"),
        "cancel": lambda: store.cancel(["running", "parked2", "later", "none"]),
        "renew": lambda: store.renew("w1", {"running": "w1:1"}, {"host": "here"}),
        "delete": lambda: store.delete(["done", "failed"]),
        "prune": lambda: store.prune(100, keep=1),
        "leave": lambda: store.leave("w2"),
    }  # fmt: skip
    for name, act in acts.items():
        await trying(name, act)
    return failures


STRANGE = b'{"n":"x","gates":3,"once":1,"cache":[],"use":"y"}'
TYPES = ["string", "list", "set", "hash", "zset", "stream"]


async def spoil(store: RedisStore, key: bytes, how: str, noise: random.Random) -> None:
    """Put something else into a key: a value of another type, or junk of its own type."""
    kind = (await store.redis.type(key)).decode()
    if how == "another type":
        kind = TYPES[(TYPES.index(kind) + 1 + noise.randrange(5)) % 6]
        await store.redis.delete(key)
    junk = [b"", b"\xff\xfe", b"{", b"null", b"[]", STRANGE, b"-1", b"1e999", b"nan", b"a b",
            noise.randbytes(20)]  # fmt: skip
    pipe: Any = store.redis.pipeline(transaction=False)
    if kind == "string":
        pipe.set(key, noise.choice(junk), keepttl=True)
    elif kind == "list":
        pipe.rpush(key, *junk)
        pipe.lset(key, 0, noise.choice(junk))
    elif kind == "set":
        pipe.sadd(key, *junk)
    elif kind == "hash":
        for field in await store.redis.hkeys(key) if how != "another type" else ():
            if noise.random() < 0.5:
                pipe.hset(key, field, noise.choice(junk))
        pipe.hset(key, mapping={one: noise.choice(junk) for one in junk})
    elif kind == "zset":
        pipe.zadd(key, {one: noise.choice([0, 1, -1e300, 1e300, float("inf"), -float("inf"), 1.5]) for one in junk})
    else:
        for one in junk:
            pipe.xadd(key, {noise.choice([b"e", b"u", b"a", b"l", b"f"]): one, b"\xff": one})
        if how == "the last id":
            pipe.xadd(key, {b"e": b"{}"}, id="18446744073709551615-18446744073709551615")
    await pipe.execute()


@pytest.mark.parametrize(
    ("how", "seed"),
    by_default([(how, seed) for seed in range(6) for how in ("another type", "junk", "the last id")], 3),
)
async def test_no_damaged_key_breaks_a_reader_or_a_verb(store: RedisStore, how: str, seed: int) -> None:
    await furnish(store)
    assert await use_everything(store) == {}
    await store.redis.flushall()
    await furnish(store)
    keys = sorted([key async for key in store.redis.scan_iter(f"{store.prefix}*")])
    assert len(keys) > 80
    kept = {key: await store.redis.dump(key) for key in keys}
    noise, failures, found = random.Random(seed), {}, 0
    for key in keys[seed % 3 :: 3]:
        await spoil(store, key, how, noise)
        if failed := await use_everything(store):
            failures[key.removeprefix(store.prefix.encode()).decode()] = failed
        found += len(await damaged(store))
        await discard(store, await damaged(store))
        assert [one for one in await damaged(store) if not one.is_readable] == []
        await store.redis.flushdb()
        pipe: Any = store.redis.pipeline(transaction=False)
        for name, value in kept.items():
            pipe.restore(name, 0, value)
        await pipe.execute()

    assert found >= 4
    assert not failures, "\n".join(f"{key}: {name}: {why}" for key, of in failures.items() for name, why in of.items())


@pytest.mark.parametrize(
    "index", ["jobs", "ready:default", "due:default", "leases", "expiry", "state:queued", "state:failed"]
)
async def test_an_index_that_was_overwritten_is_filled_again(store: RedisStore, index: str) -> None:
    await furnish(store)
    key = f"{store.prefix}{index}"
    before = set(await store.redis.zrange(key, 0, -1))
    assert before
    await store.redis.set(key, "a text")

    await store.list(Query())
    await store.list(Query(states=("queued", "failed")))
    await store.queues()
    await store.renew("w9", {}, {})
    await store.prune()
    for _ in range(10):
        await store.renew("w9", {}, {})

    assert set(await store.redis.zrange(key, 0, -1)) == before - {b"!task:simulate"}
    assert await store.redis.zrange(f"{store.prefix}left", 0, -1) == []


@pytest.mark.parametrize("command", ["xadd", "zrem", "publish", "hincrby"])
async def test_a_missing_right_is_no_damage(store: RedisStore, command: str) -> None:
    await submit(store, "first", "second")
    [first] = await claim(store)
    news = AttemptNews("first", first.token, True, 1, 2, "x", [LogLine("y", 1)])
    events = len(await store.events())
    admin: Any = store.redis
    await admin.execute_command("ACL", "SETUSER", "default", f"-{command}")
    try:
        for act in (store.progress([news]), store.finish([ending(first)]), store.claim(worker("w2"), 1)):
            with contextlib.suppress(StoreUnavailable):
                await act
    finally:
        await admin.execute_command("ACL", "SETUSER", "default", f"+{command}")

    assert len(await store.events()) >= events
    assert await store.redis.hgetall(f"{store.prefix}damaged") == {}
    assert (await store.finish([ending(first)]))[0] in (FINISHED, ALREADY)
    [second] = await store.snapshots(["second"])
    assert second is not None
    assert second.state == "running" or [one.spec.id for one in await claim(store)] == ["second"]
