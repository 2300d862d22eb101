"""Server-Sent Events: named, numbered, resumable, without gaps and duplicates, and without buffers for slow readers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import selectors
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.http.core.handling import Limits
from jobkit.http.core.tail import frame
from jobkit.http.messages import send_all
from jobkit.model import JobEvent, JobSpec
from jobkit.store.values import Submission
from tests.http.site import Site
from tests.support import wait_until
from tests.ui.stage import Stage


@contextlib.contextmanager
def events_of(http: httpx.Client, url: str, last: str = "") -> Iterator[Iterator[ServerSentEvent]]:
    headers = {"Last-Event-ID": last} if last else {}
    with connect_sse(http, "GET", url, headers=headers) as source:
        assert source.response.status_code == 200, source.response.read()
        yield source.iter_sse()


def take(source: Iterator[ServerSentEvent], n: int) -> list[ServerSentEvent]:
    return list(itertools.islice(source, n))


def names(events: list[ServerSentEvent]) -> list[str]:
    return [event.event for event in events]


def run(stage: Stage, job_id: str) -> None:
    stage.start(job_id)
    stage.succeed(job_id)


def test_a_stream_of_a_job_starts_with_a_snapshot_and_ends_with_the_job(http: httpx.Client, stage: Stage) -> None:
    job_id = stage.submit()
    with events_of(http, f"/api/jobs/{job_id}/events") as source:
        (first,) = take(source, 1)
        stage.start(job_id)
        (started,) = take(source, 1)
        stage.progress(job_id, 3, 4, "three")
        (progressed,) = take(source, 1)
        stage.succeed(job_id, summary="42")
        rest = list(source)

    assert (first.event, first.json()["state"]) == ("snapshot", "queued")
    assert (started.event, started.json()["changes"]["state"]) == ("started", "running")
    assert (progressed.event, progressed.id) == ("progressed", started.id)  # it has no separate id
    assert progressed.json()["changes"] == {"completed": 3, "total": 4, "message": "three", "progress": 0.75}
    assert names(rest) == ["succeeded"]
    assert rest[0].json()["changes"]["summary"] == "42"


def test_changes_applied_to_the_snapshot_give_the_job(http: httpx.Client, stage: Stage) -> None:
    job_id = stage.submit()
    with events_of(http, f"/api/jobs/{job_id}/events") as source:
        (first,) = take(source, 1)
        stage.start(job_id)
        stage.progress(job_id, 1, 4)
        stage.retry_later(job_id)
        stage.start(job_id)
        stage.fail(job_id)
        job = first.json()
        for event in source:
            job |= event.json()["changes"]

    truth = http.get(f"/api/jobs/{job_id}").json()
    for name in ("waits_for", "starts_at", "ahead", "cancelled"):  # computed for readers of one job
        truth.pop(name)
    differing = {name for name in truth if truth[name] != job.get(name)}
    assert differing <= {"progress", "completed", "total", "message"}, {n: (job.get(n), truth[n]) for n in differing}


def test_ids_are_those_of_the_kept_events(http: httpx.Client, kit: Kit, stage: Stage) -> None:
    job_id = stage.submit()
    with events_of(http, f"/api/jobs/{job_id}/events", "earliest") as source:
        run(stage, job_id)
        told = [(event.id, event.event) for event in source]

    kept = background.call(kit.verbs.store.events(""))
    assert told == [(event.id, str(event.type)) for event in kept if event.job_id == job_id]


def test_a_reconnected_client_gets_missed_events_once(http: httpx.Client, stage: Stage) -> None:
    job_id = stage.submit()
    with events_of(http, f"/api/jobs/{job_id}/events") as source:
        (first,) = take(source, 1)
    stage.start(job_id)
    stage.submit()
    with events_of(http, f"/api/jobs/{job_id}/events", first.id) as source:
        (started,) = take(source, 1)
    stage.succeed(job_id)
    with events_of(http, f"/api/jobs/{job_id}/events", started.id) as source:
        rest = list(source)

    assert (started.event, names(rest)) == ("started", ["succeeded"])
    over = http.get(f"/api/jobs/{job_id}/events", headers={"Last-Event-ID": rest[-1].id})
    assert over.status_code == 204  # an EventSource does not reconnect


def test_a_reconnected_client_gets_progress_before_the_next_event(http: httpx.Client, stage: Stage) -> None:
    job_id = stage.submit()
    stage.start(job_id)
    with events_of(http, f"/api/jobs/{job_id}/events") as source:
        (first,) = take(source, 1)
    with events_of(http, f"/api/jobs/{job_id}/events", first.id) as source:
        stage.progress(job_id, 3, 4)
        (progressed,) = take(source, 1)

    assert (first.json()["state"], progressed.event) == ("running", "progressed")


@pytest.mark.timeout(30)
def test_progress_that_is_told_while_a_stream_begins_is_not_missed(
    http: httpx.Client, stage: Stage, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = stage.submit()
    stage.start(job_id)
    with events_of(http, f"/api/jobs/{job_id}/events") as source:
        (first,) = take(source, 1)
    subscribe = kit.hub._pubsub.subscribe

    async def slow(*channels: str) -> None:
        await asyncio.sleep(0.5)
        await subscribe(*channels)

    monkeypatch.setattr(kit.hub._pubsub, "subscribe", slow)
    with events_of(http, f"/api/jobs/{job_id}/events", first.id) as source:
        stage.progress(job_id, 3, 4)
        (progressed,) = take(source, 1)

    assert progressed.event == "progressed"


@pytest.mark.parametrize("name", ["last_event_id", "lastEventId", "lastEventID", "Last-Event-ID"])
def test_a_client_without_headers_sends_its_position_in_the_query(http: httpx.Client, stage: Stage, name: str) -> None:
    job_id = stage.submit()
    with events_of(http, f"/api/jobs/{job_id}/events") as source:
        (first,) = take(source, 1)
    run(stage, job_id)

    with events_of(http, f"/api/jobs/{job_id}/events?{name}={first.id}") as source:
        assert names(list(source)) == ["started", "succeeded"]


@pytest.mark.parametrize("last", ["9999999999999-0", "nonsense", "urn:uuid:x"])
def test_an_unknown_position_begins_with_a_snapshot_again(http: httpx.Client, stage: Stage, last: str) -> None:
    job_id = stage.submit()
    run(stage, job_id)

    with events_of(http, f"/api/jobs/{job_id}/events", last) as source:
        assert names(list(source)) == ["snapshot"]


def test_the_whole_log_is_sent_before_the_end(http: httpx.Client, stage: Stage) -> None:
    job_id = stage.submit()
    stage.start(job_id)
    stage.log(job_id, "early")
    with events_of(http, f"/api/jobs/{job_id}/events?logs=true") as source:
        take(source, 1)
        stage.log(job_id, "late 1", "late 2\n")
        stage.succeed(job_id)
        rest = list(source)

    lines = [line["text"] for event in rest if event.event == "logged" for line in event.json()["lines"]]
    assert lines[:2] == ["early", "late 1"] or lines == ["late 1", "late 2\n"]
    assert names(rest)[-1] == "succeeded"


def test_a_stream_of_all_events_starts_now_or_after_an_id(http: httpx.Client, stage: Stage) -> None:
    stage.submit()
    with events_of(http, "/api/events") as source:
        assert names(take(source, 1)) == ["ready"]
        second = stage.submit(queue="other")
        stage.start(second, queue="other")
        stage.succeed(second)
        told = take(source, 3)
    assert [(e.event, e.json()["job_id"]) for e in told] == [(n, second) for n in ("submitted", "started", "succeeded")]
    with events_of(http, "/api/events", told[0].id) as source:
        assert names(take(source, 2)) == names(told[1:])


def test_a_silent_stream_still_sends_its_position(http: httpx.Client, stage: Stage) -> None:
    """Otherwise events between a silent connection and the next would be missed."""
    stage.submit()
    with http.stream("GET", "/api/events") as stream:
        for part in stream.iter_text():
            if "id: " in part:
                last = part.partition("id: ")[2].partition("\n")[0]
                break
    job_id = stage.submit()

    with events_of(http, "/api/events", last) as source:
        assert [(e.event, e.json()["job_id"]) for e in take(source, 1)] == [("submitted", job_id)]


def test_a_stream_of_some_jobs_has_no_others(http: httpx.Client, stage: Stage) -> None:
    with (
        events_of(http, "/api/events?task=train_model") as by_task,
        events_of(http, "/api/events?queue=gpu") as by_queue,
        events_of(http, "/api/events?type=succeeded&progress=false") as by_type,
        events_of(http, "/api/events?job=mine&job=other") as by_job,
    ):
        assert names([*take(by_task, 1), *take(by_queue, 1), *take(by_type, 1), *take(by_job, 1)]) == ["ready"] * 4
        stage.submit(task="double")
        mine = stage.submit(id="mine", task="train_model")
        gpu = stage.submit(task="double", queue="gpu")
        stage.start(mine)
        stage.succeed(mine)
        assert {e.json()["job_id"] for e in take(by_task, 2)} == {mine}
        assert {e.json()["job_id"] for e in take(by_queue, 1)} == {gpu}
        assert [(e.event, e.json()["job_id"]) for e in take(by_type, 1)] == [("succeeded", mine)]
        assert [(e.event, e.json()["job_id"]) for e in take(by_job, 2)] == [("submitted", mine), ("started", mine)]


def test_an_id_that_is_no_longer_kept_is_reported(http: httpx.Client, kit: Kit, stage: Stage) -> None:
    first = stage.submit()
    oldest = background.call(kit.verbs.store.events(""))[0].id
    stage.submit()
    stage.submit()
    key = f"{kit.verbs.store.prefix}events"
    background.call(kit.verbs.store.redis.xtrim(key, maxlen=1, approximate=False))

    with events_of(http, "/api/events", oldest) as source:
        (reset,) = take(source, 1)
        after = stage.submit()
        (submitted,) = take(source, 1)
    with events_of(http, f"/api/jobs/{first}/events", oldest) as source:
        assert names(take(source, 1)) == ["snapshot"]

    assert reset.event == "reset"
    assert submitted.json()["job_id"] == after


@pytest.fixture
def is_open(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is not set, the store keeps readers of events waiting; pub/sub goes on."""
    store, made = kit.verbs.store, threading.Event()
    read = store.events

    async def held(after: str = "", limit: int = 1000) -> list[JobEvent]:
        await asyncio.to_thread(made.wait)
        return await read(after, limit)

    made.set()
    monkeypatch.setattr(store, "events", held)
    return made


def test_progress_waits_for_the_event_that_it_belongs_to(
    http: httpx.Client, stage: Stage, is_open: threading.Event
) -> None:
    """They arrive by different channels, and a client takes a job with progress for running."""
    with events_of(http, "/api/events") as source:
        job_id = stage.submit()
        assert names(take(source, 2)) == ["ready", "submitted"]
        is_open.clear()
        stage.start(job_id)
        stage.progress(job_id, 1, 4)
        time.sleep(0.3)
        is_open.set()
        assert names(take(source, 2)) == ["started", "progressed"]


def test_progress_that_is_older_than_the_newest_event_is_left_out(
    http: httpx.Client, stage: Stage, is_open: threading.Event
) -> None:
    """A client that applies it to an ended job would show a job at three of four."""
    with events_of(http, "/api/events") as source:
        job_id = stage.submit()
        stage.start(job_id)
        assert names(take(source, 3)) == ["ready", "submitted", "started"]
        is_open.clear()
        stage.progress(job_id, 3, 4)
        stage.succeed(job_id)
        time.sleep(0.3)
        is_open.set()
        stage.submit()
        assert names(take(source, 2)) == ["succeeded", "submitted"]


def test_a_stream_whose_sending_is_cancelled_is_closed() -> None:
    closed: list[bool] = []
    sent: list[bytes] = []

    async def parts() -> AsyncIterator[bytes]:
        try:
            yield b"a"
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    async def send(data: bytes) -> None:
        sent.append(data)

    async def run() -> bool:
        sending = asyncio.create_task(send_all(parts(), send, asyncio.Event().wait(), 1.0))
        await asyncio.sleep(0.1)
        sending.cancel()
        await asyncio.wait({sending})
        return sending.cancelled()

    assert asyncio.run(run())
    assert (sent, closed) == ([b"a"], [True])


def test_data_cannot_add_fields_to_an_event() -> None:
    made = frame("a\nid: 1\r\ndata: b\revent: c", event="e", id="5")

    assert made == b"event: e\nid: 5\ndata: a\ndata: id: 1\ndata: data: b\ndata: event: c\n\n"
    for bad in ({"event": "a\nb"}, {"id": "a\rb"}, {"id": "a\0"}):
        with pytest.raises(ValueError, match="line breaks"):
            frame("x", **bad)  # type: ignore[arg-type]


def test_a_stream_sends_a_comment_at_once_and_regularly(http: httpx.Client) -> None:
    with http.stream("GET", "/api/events") as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["x-accel-buffering"] == "no"
        assert "no-store" in stream.headers["cache-control"]
        text = ""
        for part in stream.iter_text():
            text += part
            if text.count(":\n") >= 4:
                break

    assert text.startswith(":\nretry: 1000\nevent: ready\n")


def test_heartbeats_are_not_events_for_any_client(http: httpx.Client, stage: Stage) -> None:
    """For httpx-sse, a comment with an empty line after it is an event without data."""
    job_id = stage.submit()
    with events_of(http, f"/api/jobs/{job_id}/events") as source:
        take(source, 1)
        heartbeats = threading.Event()
        threading.Timer(0.7, lambda: (heartbeats.set(), run(stage, job_id))).start()
        assert names(list(source)) == ["started", "succeeded"]
    assert heartbeats.is_set()


def test_the_number_of_streams_is_limited(serve: Callable[..., Site]) -> None:
    site = serve(limits=Limits(streams=2))
    with site.client() as http, http.stream("GET", "/api/events"), http.stream("GET", "/api/events"):
        refused = http.get("/api/events")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    with site.client() as http:
        wait_until(lambda: site.api.streams == 0, what="the streams to end")
        with http.stream("GET", "/api/events") as stream:
            assert stream.status_code == 200


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_reconnections_lead_to_no_gaps_and_no_duplicates(site: Site, stage: Stage, kit: Kit, seed: int) -> None:
    """Clients that are cut at any time while jobs run collect the same events as the store."""
    rng = random.Random(seed)

    def work() -> None:
        for _ in range(60):
            run(stage, stage.submit())
        stage.submit(id="thelast")  # a client with this event has all

    told: list[tuple[str, str]] = []
    last, job_id = "earliest", ""
    stage.submit(id="first")
    worker = threading.Thread(target=work)
    worker.start()
    with site.client() as http:
        while job_id != "thelast":
            with events_of(http, "/api/events?progress=false", last) as source:
                for event in itertools.islice(source, rng.randint(1, 25)):
                    told.append((event.id, event.event))
                    last, job_id = event.id, event.json()["job_id"]
                    if job_id == "thelast":
                        break
    worker.join()

    kept = background.call(kit.verbs.store.events("", 1000))
    assert told == [(event.id, str(event.type)) for event in kept]


def test_a_restart_of_the_server_loses_no_event(serve: Callable[..., Site], kit: Kit, stage: Stage) -> None:
    site = serve()
    with site.client() as http, events_of(http, "/api/events") as source:
        first = stage.submit()
        _, submitted = take(source, 2)
    port = site.port
    site.close()
    run(stage, first)
    second = Site("tornado", kit, port=port)
    try:
        with second.client() as http, events_of(http, "/api/events", submitted.id) as source:
            assert names(take(source, 2)) == ["started", "succeeded"]
    finally:
        second.close()
        site.close = lambda: None  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", ["tornado", "asgi"])
def test_a_client_that_never_reads_is_cut(serve: Callable[..., Site], kit: Kit, kind: str) -> None:
    site = serve(kind, limits=Limits(heartbeat_s=0.5, slow_s=0.5))
    store: Any = kit.verbs.store
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: site.api.streams == 1, what="the stream")
        for n in range(100):  # more than the system's buffers can hold
            background.call(store.submit([Submission(JobSpec(f"job{n}", "double"), b"")]))
            background.call(store.cancel([f"job{n}"], "x" * 200_000))

        wait_until(lambda: site.api.streams == 0, what="the client to be cut")


@pytest.mark.nightly
def test_two_hundred_clients_of_which_fifty_never_read(serve: Callable[..., Site], kit: Kit) -> None:
    """Clients that read get everything in order; others are cut, and nothing is buffered for them."""
    site = serve(limits=Limits(heartbeat_s=0.5, slow_s=5.0))

    def open_one() -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", site.port), timeout=30)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        connection.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection

    silent = [open_one() for _ in range(50)]
    received = {open_one(): bytearray() for _ in range(150)}
    selector = selectors.DefaultSelector()
    for connection in received:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)

    def all_have(what: bytes) -> bool:
        for key, _ in selector.select(0.1):
            part = key.fileobj.recv(65_536)  # type: ignore[union-attr]
            assert part, "a client that reads was cut"
            received[key.fileobj] += part  # type: ignore[index]
        return all(what in got for got in received.values())

    wait_until(lambda: all_have(b"event: ready"), what="all streams to be there")
    ids = [f"job{n:04}" for n in range(40)]
    store: Any = kit.verbs.store
    for job_id in ids:  # with a long reason, so that no system buffer can hold all of it
        background.call(store.submit([Submission(JobSpec(job_id, "double"), b"")]))
        background.call(store.cancel([job_id], "x" * 10_000))
    background.call(store.submit([Submission(JobSpec("thelast", "double"), b"")]))
    wait_until(lambda: all_have(b'"thelast"'), what="the last event")
    wait_until(lambda: all_have(b"thelast") and site.api.streams == 150, what="those who do not read to be cut")
    for connection in (*silent, *received):
        connection.close()

    wanted = [*(job_id for job_id in ids for _ in range(2)), "thelast"]
    for got in received.values():
        assert re.findall(r'"job_id":"(\w+)"', got.decode()) == wanted
    wait_until(lambda: site.api.streams == 0, what="the streams to end")


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["tornado", "asgi"])
@pytest.mark.parametrize("path", ["/api/events", "/.well-known/mercure?match=*"])
def test_two_hundred_slow_clients_that_are_far_behind_take_little_memory(
    serve: Callable[..., Site], kit: Kit, kind: str, path: str
) -> None:
    """Pending data is kept once for all clients, of any amount; each client has one write under way."""
    site = serve(kind, limits=Limits(slow_s=60.0))
    store: Any = kit.verbs.store
    with site.client() as http, events_of(http, "/api/events") as source:
        (ready,) = take(source, 1)
        params = {"text": "x" * 1_500}
        for n in range(0, 2_400, 400):
            some = [Submission(JobSpec(f"job{n + i}", "double", params=params), b"") for i in range(400)]
            background.call(store.submit(some))
        wait_until(lambda: len(next(iter(site.api._tails.values()))._ring) == 2_400, what="all events to be here")
        before = psutil.Process().memory_info().rss

        clients = []
        for _ in range(200):
            connection = socket.create_connection(("127.0.0.1", site.port), timeout=30)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {ready.id}\r\n\r\n".encode())
            clients.append(connection)
        for connection in clients:
            wait_until(lambda it=connection: b"\ndata: " in it.recv(8_192, socket.MSG_PEEK), what="the first write")
        grown = psutil.Process().memory_info().rss - before
        for connection in clients:
            connection.close()

    assert site.api.streams <= 201
    assert grown < 150_000_000
