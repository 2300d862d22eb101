"""No call of a verb holds up others for long, however many jobs it concerns: long lists are walked in slices.

The default run counts the commands that a call makes in a store of some thousand jobs. The nightly run has a hundred
thousand, and measures time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobkit.features.arq.queue import Adoption, ArqQueue
from jobkit.features.failures.store import FailureStore
from jobkit.features.moving.dump import read_dumps, restore
from jobkit.model import Gate, JobSpec, LogLine
from jobkit.store.redis import RedisStore
from jobkit.store.sending import sliced
from jobkit.store.values import AttemptNews, Claimed, Submission

from .conftest import settings_for
from .server import Server, running_server
from .support import ending, job, worker

#: Commands that one call may make.
MOST_COMMANDS = 6_000
#: Seconds that a call may take of the server's CPU time: the clock would also measure other work on the machine.
MOST_S = 0.05

SMALL, LARGE = 3_000, 100_000


class Meter:
    """Measures each call of a verb: commands that it makes, or CPU time of the server's main thread."""

    def __init__(self, store: RedisStore, pid: int, *, counts: bool) -> None:
        self.worst: dict[str, float] = {}
        self._store, self._counts = store, counts
        self._clock = Path(f"/proc/{pid}/task/{pid}/schedstat")
        self._run_many = store.functions.run_many
        store.functions.run_many = self.run_many  # type: ignore[method-assign]

    async def run_many(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        replies = []
        for verb, args in calls:
            before = await self.read()
            replies += await self._run_many([(verb, args)])
            self.worst[verb] = max(self.worst.get(verb, 0), await self.read() - before)
        return replies

    async def read(self) -> float:
        if not self._counts:
            return int(self._clock.read_text().split()[0]) / 1e9
        found = await self._store.redis.info("commandstats")
        return sum(one["calls"] for name, one in found.items() if name != "cmdstat_info")


server = pytest.fixture(running_server, name="server", scope="module")


@pytest.fixture
async def big(server: Server) -> AsyncIterator[RedisStore]:
    """A store whose namespace is dropped as a whole afterwards."""
    store = RedisStore(settings_for(server.url, max_losses=9))
    yield store
    await store.redis.flushall(asynchronous=True)
    await store.close()


Scenario = Callable[[RedisStore, list[str]], Awaitable[None]]
SCENARIOS: list[Scenario] = []


def scenario(body: Scenario) -> Scenario:
    SCENARIOS.append(body)
    return body


async def put(store: RedisStore, ids: Sequence[str], **spec: Any) -> None:
    await put_all(store, [job(id, **spec) for id in ids])


async def put_all(store: RedisStore, jobs: Sequence[Submission]) -> None:
    for some in sliced(jobs):
        await store.submit(some)


async def claim_all(store: RedisStore, free: int, queue: str = "default") -> list[Claimed]:
    """Claim until there is nothing to do at once."""
    found: list[Claimed] = []
    while True:
        claimed, wait_s = await store.claim(worker("w1", queue), free)
        found += claimed
        if not claimed and wait_s > 0.01:
            return found


async def running_root(store: RedisStore) -> Claimed:
    await put(store, ["root"])
    [claimed], _ = await store.claim(worker(), 1)
    return claimed


async def has_settled(store: RedisStore, ids: Sequence[str], state: str) -> None:
    assert (await store.counts())[state] >= len(ids)
    assert not await store.redis.exists(f"{store.prefix}left", f"{store.prefix}needed")


@scenario
async def followers_of_a_success(store: RedisStore, ids: list[str]) -> None:
    root = await running_root(store)
    await put(store, ids, needs=("root",))
    await store.finish([ending(root, result=b"1")])
    await has_settled(store, ids, "queued")


@scenario
async def followers_of_a_failure(store: RedisStore, ids: list[str]) -> None:
    root = await running_root(store)
    await put(store, ids, needs=("root",))
    await store.finish([ending(root, "failed")])
    await has_settled(store, ids, "failed")


@scenario
async def followers_of_a_cancelled_job(store: RedisStore, ids: list[str]) -> None:
    await put(store, ["root"])
    await put(store, ids, needs=("root",))
    await store.cancel(["root"])
    await has_settled(store, ids, "failed")


@scenario
async def a_chain(store: RedisStore, ids: list[str]) -> None:
    root = await running_root(store)
    await put_all(store, [job(id, needs=(need,)) for need, id in zip(["root", *ids], ids, strict=False)])
    await store.finish([ending(root, "failed")])
    await has_settled(store, ids, "failed")


@scenario
async def a_job_that_needs_many(store: RedisStore, ids: list[str]) -> None:
    await put(store, ids)
    await put(store, ["sum", "other"], needs=tuple(ids))
    first = await store.claim(worker(), 100)
    await store.finish([ending(claimed) for claimed in first[0]])
    assert [snapshot and str(snapshot.state) for snapshot in await store.snapshots(["sum"])] == ["scheduled"]
    await store.cancel(["other"])
    await store.cancel(ids)
    await has_settled(store, ["sum"], "failed")


@scenario
async def many_ids(store: RedisStore, ids: list[str]) -> None:
    await put(store, ids)
    ids = ids[:20_000]
    await store.waiting(ids)
    await store.finder.candidates(ids)
    assert await store.move(ids, "gpu", 5) == [""] * len(ids)
    assert await store.cancel(ids) == ["cancelled"] * len(ids)
    dumps = [dump for dump in await read_dumps(store, ids) if dump is not None]
    assert all(await store.delete(ids))
    assert all(await restore(store, dumps))


@scenario
async def expired_and_surplus_jobs(store: RedisStore, ids: list[str]) -> None:
    await put(store, ids)
    await store.cancel(ids)
    for start in range(0, len(ids), 1000):  # expired, and not pruned yet
        await store.redis.delete(*(f"{store.prefix}job:{id}" for id in ids[start : start + 1000] if id[-1] == "7"))
    await store.finder.candidates(ids)
    while await store.prune(keep=0):
        pass
    assert await store.redis.zcard(f"{store.prefix}jobs") == 0


@scenario
async def jobs_due_at_once(store: RedisStore, ids: list[str]) -> None:
    await put(store, ids, delay_ms=1)
    assert len(await claim_all(store, 100)) == len(ids)


@scenario
async def a_mass_loss(store: RedisStore, ids: list[str]) -> None:
    await put(store, ids)
    assert len(await claim_all(store, 100)) == len(ids)
    rule = await store.set_rule("task:simulate", {"n": 10})
    assert await store.redis.zcard(f"{store.prefix}holders:task:simulate") == len(ids)
    assert rule.n == 10
    await store.set_rule("task:simulate", None)
    for start in range(0, len(ids), 1000):
        await store.redis.zadd(f"{store.prefix}leases", dict.fromkeys(ids[start : start + 1000], 1))
    await claim_all(store, 0)
    assert (await store.counts())["queued"] == len(ids)


@scenario
async def a_gate_that_is_opened(store: RedisStore, ids: list[str]) -> None:
    await store.set_rule("task:simulate", {"paused": {"by": "ada"}})
    await put(store, ids, limits=(Gate("task:simulate", n=len(ids)),))
    await claim_all(store, 10)
    assert await store.redis.zcard(f"{store.prefix}parked:task:simulate") == len(ids)
    await store.set_rule("task:simulate", {"paused": None})
    await claim_all(store, 0)
    assert await store.redis.zcard(f"{store.prefix}parked:task:simulate") == 0
    assert (await store.counts())["queued"] == len(ids)


@scenario
async def groups_of_failures(store: RedisStore, ids: list[str]) -> None:
    await put_all(store, [job(id, task=f"task{id}") for id in ids])
    while claimed := (await store.claim(worker(), 100))[0]:
        await store.finish([ending(each, "lost", max_losses=1) for each in claimed])
    groups = [group.id for group in await store.part(FailureStore).groups(limit=len(ids))]
    assert all(await store.part(FailureStore).judge(groups, "muted"))


@scenario
async def a_queue_of_arq(store: RedisStore, ids: list[str]) -> None:
    queue = ArqQueue(store, f"arq:{store.settings.namespace}", "default")
    for start in range(0, len(ids), 1000):
        await store.redis.zadd(queue.key, dict.fromkeys(ids[start : start + 1000], 1))
    while new := (await queue.scan(500, obeys_aborts=True)).new:
        # Those that were adopted move out of the window, as if they were due later.
        await queue.adopt([Adoption(one.arq_id, JobSpec(one.arq_id.decode(), "simulate"), b"", 0) for one in new])
        await store.redis.zadd(queue.key, {one.arq_id: 2 for one in new})
        await store.move([one.arq_id.decode() for one in new], priority=0)
        await store.redis.zremrangebyrank(f"{store.prefix}ready:default", 0, -1)
    adopted = [id.decode() for id in await store.redis.hkeys(f"{store.prefix}arq:{queue.key}")]
    assert len(adopted) == len(ids)
    await store.redis.zadd("arq:abort", dict.fromkeys(adopted[:1000], 1))
    while (scan := await queue.scan(500, obeys_aborts=True)).ended:
        await queue.settle([(one.arq_id, b"", 1) for one in scan.ended])
    await store.redis.delete(queue.key)
    await queue.scan(500, obeys_aborts=True)
    assert (await store.counts())["cancelled"] == 1000
    assert await store.ask("ZCARD", "jobs") == 1000  # without payloads the others count as run by arq's own worker


@scenario
async def waiting_jobs_of_many_workers(store: RedisStore, ids: list[str]) -> None:
    await put(store, ids)
    for n in range(100):
        some = [ids[(200 * n + i) % len(ids)] for i in range(200)]
        await store.claim(worker(f"w{n}", "none"), 0, awaited=some)
    await store.claim(worker("other", "none"), 0, awaited=ids[:200], lent=5)


@scenario
async def a_log_of_many_lines(store: RedisStore, ids: list[str]) -> None:
    root = await running_root(store)
    line = [LogLine("x" * (1_000_000 // len(ids)), 0)]
    for start in range(0, len(ids), 100):
        await store.progress([AttemptNews("root", root.token, lines=line) for _ in ids[start : start + 100]])
    await store.progress([AttemptNews("root", root.token, lines=[LogLine("x" * 850_000, 0)])])


@pytest.mark.parametrize("body", SCENARIOS, ids=lambda body: body.__name__)
async def test_no_call_makes_many_commands(big: RedisStore, server: Server, body: Scenario) -> None:
    meter = Meter(big, server.pid, counts=True)

    await body(big, [f"j{n:05}" for n in range(SMALL)])

    print({verb: int(value) for verb, value in meter.worst.items()})
    assert {verb: n for verb, n in meter.worst.items() if n > MOST_COMMANDS} == {}


@pytest.mark.nightly
@pytest.mark.parametrize("body", SCENARIOS, ids=lambda body: body.__name__)
async def test_no_call_takes_long(big: RedisStore, server: Server, body: Scenario) -> None:
    meter = Meter(big, server.pid, counts=False)

    await body(big, [f"j{n:05}" for n in range(LARGE)])

    print({verb: f"{value * 1000:.1f} ms" for verb, value in meter.worst.items()})
    assert {verb: took_s for verb, took_s in meter.worst.items() if took_s > MOST_S} == {}
