"""A part of a worker that fails ends the worker in good order; a strange message breaks only itself."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
import redis

from jobkit.client.loop import background
from jobkit.store.redis import RedisStore
from jobkit.worker.helpers import Helpers, end
from tests.fuzz.test_damage import spoil
from tests.support import by_default

from . import broken, jobs
from .conftest import Bench


@pytest.fixture
def bench(own_bench: Bench) -> Bench:
    """The server of these tests has no other namespace."""
    return own_bench


@pytest.mark.parametrize("part", by_default(broken.PARTS, 2))
def test_a_failed_part_ends_the_worker_after_its_running_jobs(bench: Bench, part: str) -> None:
    cue = bench.folder / "cue"
    worker = bench.worker("-t", "tests.worker.broken", BROKEN=part, BREAK_AT=str(cue))
    running = bench.kit.submit(jobs.work, bench.file(), 1.0)
    bench.started()

    cue.touch()

    assert worker.wait(30) == 1
    assert running.result(5) == "done"
    sentence = f"the {part} of this worker has failed: RuntimeError: broken by a test; it ends with status 1"
    assert bench.said().count(sentence) == 1


def test_strange_messages_stop_no_worker_and_no_listener(bench: Bench) -> None:
    worker = bench.worker()
    kit, noise = bench.kit, random.Random(12)
    strange = [b"", b"S\xff", b"S", b"Sdrain\xff", b"J", b"J\xff{", b"J{}", b"C\xff", b"T\xff", b"\x00" * 9, b"null",
               b"[]", b'{"id":1}', b'{"id":"a","seq":"x","type":[],"at":"","data":3}', b"!1", b"\n\n"]  # fmt: skip
    strange += [noise.randbytes(noise.randrange(60)) for _ in range(100)]
    strange += [letter + noise.randbytes(30) for letter in (b"J", b"C", b"S") for _ in range(30)]
    seen = threading.Event()
    kit.on("succeeded", task="count_up")(lambda job: seen.set())
    job = kit.submit(jobs.wait, bench.file(), 60.0)
    bench.started()
    with redis.Redis.from_url(bench.server.url) as client:
        channels = client.pubsub_channels(f"jk:{kit.settings.namespace}:*")
        assert len(channels) >= 3  # the worker's inbox, this process's own, all jobs
        for channel in [*channels, f"jk:{kit.settings.namespace}:ch:{job.id}".encode()]:
            for message in strange:
                client.publish(channel, message)

    assert kit.submit(jobs.count_up, 1).result(20) == 2
    assert seen.wait(20)
    assert job.state == "running"
    job.cancel()
    assert job.wait(20)
    assert worker.poll() is None
    assert "Traceback" not in bench.said()
    assert "a message to this worker is left out" in bench.said()


@pytest.mark.parametrize("how", by_default(["junk", "another type"]))
def test_whatever_stands_in_a_key_the_worker_runs_the_next_job(bench: Bench, how: str) -> None:
    noise = random.Random(7)
    worker = bench.worker()
    kit, prefix = bench.kit, f"jk:{bench.kit.settings.namespace}:".encode()
    kit.schedule(jobs.count_up, {"n": 1}, every=3600, name="nightly")
    kit.limits.set(task="count_up", concurrency=50)
    assert kit.submit(jobs.count_up, 0).result(20) == 1
    store = RedisStore(kit.settings)

    async def spoil_all() -> int:
        keys = sorted([key async for key in store.redis.scan_iter(prefix + b"*") if b":damaged" not in key])
        for key in keys:
            await spoil(store, key, how, noise)
            assert await asyncio.to_thread(lambda: kit.submit(jobs.count_up, 1).result(20)) == 2, key
        await store.close()
        return len(keys)

    assert asyncio.run(spoil_all()) > 15
    assert worker.poll() is None
    assert "Traceback" not in bench.said()
    assert bench.said().count("has failed") == 0


def test_a_watcher_that_raises_does_not_stop_the_others() -> None:
    called = threading.Event()

    def raises() -> None:
        raise ValueError("broken by a test")

    background.watchers_do(raises)
    background.watchers_do(called.set)

    assert called.wait(5)


async def test_a_helper_that_swallows_a_cancellation_is_asked_again() -> None:
    asked = 0

    async def stubborn() -> None:
        nonlocal asked
        while asked < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                asked += 1

    helper = Helpers(lambda: None).run("inbox", stubborn())
    await asyncio.sleep(0)

    await end([helper])

    assert (asked, helper.done()) == (2, True)
