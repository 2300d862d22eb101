"""Clients while the server is unreachable: handles and iterators wait, submits fail at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import psutil
import pytest
import redis
from msgspec.structs import replace

import jobkit
from jobkit.client.kit import Kit
from jobkit.model import Gate, JobEvent
from jobkit.store.redis import RedisStore
from tests.store.server import Server, running_server
from tests.support import wait_until

server = pytest.fixture(running_server, name="server")


@pytest.fixture
def kit(server: Server) -> Iterator[Kit]:
    with jobkit.connect(server.url, secret="of these tests") as kit:
        yield kit


def test_iterators_over_events_continue_after_an_outage(server: Server, kit: Kit) -> None:
    job = kit.submit(len, "abc")
    everything: list[JobEvent] = []
    of_one: list[JobEvent] = []
    readers = [
        threading.Thread(target=lambda: everything.extend(_until_end(kit.events(after="0-0")))),
        threading.Thread(target=lambda: of_one.extend(kit.job_events(job.id))),
    ]
    for reader in readers:
        reader.start()
    server.kill()
    wait_until(lambda: not kit.hub.is_live, what="the cut to be noticed")
    server.start()

    with jobkit.connect(server.url, secret="of these tests") as other:
        other.cancel(job.id)

    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()
    for events in (everything, of_one):
        assert [(event.seq, event.type) for event in events] == [(1, "submitted"), (2, "cancelled")]
    assert job.wait(60)


def _until_end(events: Iterator[JobEvent]) -> Iterator[JobEvent]:
    for event in events:
        yield event
        if event.type == "cancelled":
            return


def test_a_new_namespace_of_a_full_server_can_be_read(server: Server) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        try:
            with jobkit.connect(server.url, namespace="new") as kit:
                assert kit.jobs() == []
        finally:
            client.config_set("maxmemory", 0)


def test_a_kit_that_cannot_start_leaves_no_connection(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: RedisStore) -> str:
        raise jobkit.StoreUnavailable("it refuses")

    monkeypatch.setattr(RedisStore, "place", refuse)
    with redis.Redis.from_url(server.url) as client:
        with pytest.raises(jobkit.StoreUnavailable, match="it refuses"):
            jobkit.connect(server.url, secret="of these tests")

        wait_until(lambda: len(client.client_list()) == 1, what="its connections to be closed")


def test_a_submit_reports_an_unreachable_server_within_seconds(server: Server, kit: Kit) -> None:
    server.kill()

    with pytest.raises(jobkit.StoreUnavailable, match=r"Redis at unix://.* does not answer .* check that it runs"):
        kit.submit(len, "abc")

    server.start()
    assert kit.jobs() == []
    assert kit.submit(len, "abc").state == "queued"


@pytest.mark.parametrize("after", ["", "x", "1-2-3", "-", "+", "$"])
def test_events_after_an_invalid_id_are_refused(kit: Kit, after: str) -> None:
    with pytest.raises(jobkit.InvalidParams, match="must be the id of an event"):
        next(kit.events(after=after))


def test_a_submit_to_a_frozen_server_returns_to_the_caller(
    server: Server, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.store.sending.REPLY_TIMEOUT_S", 0.5)
    kit.submit(len, "")  # from now on the server knows the script
    frozen = psutil.Process(server.pid)
    frozen.suspend()
    try:
        with pytest.raises(jobkit.StoreUnavailable, match="no reply within"):
            kit.map(len, ["abc", "de"])
    finally:
        frozen.resume()
    wait_until(lambda: len(kit.jobs()) == 3, what="what was on its way")


def test_many_submissions_are_sent_in_slices_of_limited_size() -> None:
    from jobkit.store.sending import sliced
    from tests.store.support import job

    small = [job() for _ in range(500)]
    limited = [job(limits=(Gate("task:simulate", n=1),)) for _ in range(250)]
    needy = [job(needs=tuple(map(str, range(1000)))) for _ in range(2)]
    large = [replace(job(), payload=bytes(3_000_000)) for _ in range(3)]

    assert [len(part) for part in sliced(small)] == [200, 200, 100]
    assert [len(part) for part in sliced(limited)] == [100, 100, 50]
    assert [len(part) for part in sliced(needy)] == [1, 1]
    assert [len(part) for part in sliced(large)] == [1, 1, 1]
    assert list(sliced([])) == []
    assert [each for part in sliced(small + large) for each in part] == small + large


def test_coroutines_of_any_loop_submit_and_leave_no_connection_when_it_ends(server: Server, kit: Kit) -> None:
    async def submit(n: int) -> list[str]:
        return [job.id for job in await asyncio.gather(*(kit.aio.submit(len, "abc") for _ in range(n)))]

    with redis.Redis.from_url(server.url) as client:
        ids = asyncio.run(submit(1))  # with the facts of this process, for which the kit keeps a connection
        before = client.info("clients")["connected_clients"]
        ids += asyncio.run(submit(5)) + asyncio.run(submit(3))

        wait_until(lambda: client.info("clients")["connected_clients"] <= before, what="the connections to be closed")
    assert len(ids) == 9
    assert {job.id for job in kit.jobs()} == set(ids)


def test_a_cancelled_submit_of_a_coroutine_harms_no_other(server: Server, kit: Kit) -> None:
    async def main() -> list[str]:
        tasks = [asyncio.create_task(kit.aio.submit(len, "abc")) for _ in range(4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return [job.id for job in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(job, jobkit.Job)]

    ids = asyncio.run(main())

    assert len(ids) == 3
    assert set(ids) <= {job.id for job in kit.jobs()}


def test_coroutines_submit_again_after_an_outage(server: Server, kit: Kit) -> None:
    async def main() -> None:
        await kit.aio.submit(len, "abc")
        server.kill()
        with pytest.raises(jobkit.StoreUnavailable):
            await kit.aio.submit(len, "abc")
        server.start()
        assert (await kit.aio.submit(len, "abc")).state == "queued"

    asyncio.run(main())
