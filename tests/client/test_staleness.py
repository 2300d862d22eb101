"""A live handle is current at once after everything that may have cost it an event, and in any case before long.

Each of the nets is tried alone, with the others taken away: together they would hide each other's holes.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import jobkit
from jobkit.client import live
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.store import events as event_hub
from jobkit.store.events import EventHub
from tests.store.server import Server
from tests.support import wait_until


@pytest.fixture
def place(server: Server) -> dict[str, str]:
    return {"url": server.url, "namespace": f"t{secrets.token_hex(4)}", "secret": "of these tests"}


@pytest.fixture
def other(place: dict[str, str]) -> Iterator[Kit]:
    """By which jobs are changed behind the handle's back."""
    with jobkit.connect(**place) as kit:
        yield kit


@pytest.fixture
def without_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No handle is read again only because it has not been read for a while."""
    monkeypatch.setattr(live, "SAFETY_REFRESH_S", 3600.0)


@pytest.mark.usefixtures("without_looks")
def test_what_happened_while_the_connection_was_cut_is_shown_when_it_is_back(
    place: dict[str, str], other: Kit, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "_BACKOFF_S", (0.5,))
    with jobkit.connect(**place) as kit:
        own = kit.options(delay=1000).submit(len, "abc")
        found = kit.get(other.options(delay=1000).submit(len, "abc").id)
        wait_until(lambda: found.id in str(kit.hub._acknowledged), what="the subscription")
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until(lambda: not kit.hub.is_live, what="the cut to be noticed")
        for job in (own, found):
            other.get(job.id).cancel()

        wait_until(lambda: (own.state, found.state) == ("cancelled", "cancelled"), what="the handles to move")


@pytest.mark.usefixtures("without_looks")
def test_what_happened_before_the_server_had_confirmed_that_we_listen_is_shown(
    place: dict[str, str], other: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe, may_go_on = EventHub._sync, asyncio.Event()
    with jobkit.connect(**place) as kit:

        async def late(self: EventHub, job_id: str | None) -> None:
            await may_go_on.wait()
            await subscribe(self, job_id)

        read: list[Any] = []
        snapshots = kit.verbs.store.snapshots

        async def counted(ids: Any) -> Any:
            try:
                return await snapshots(ids)
            finally:
                read.append(ids)

        job_id = other.options(delay=1000).submit(len, "abc").id
        monkeypatch.setattr(EventHub, "_sync", late)
        monkeypatch.setattr(kit.verbs.store, "snapshots", counted)
        found = kit.get(job_id)
        wait_until(lambda: len(read) >= 2, what="the handle's first reads")
        other.get(job_id).cancel()
        background.call(_set(may_go_on))

        wait_until(lambda: found.state == "cancelled", what="the handle to move")


async def _set(event: asyncio.Event) -> None:
    event.set()


def test_an_event_that_was_lost_without_a_trace_is_made_up_for(
    place: dict[str, str], other: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SAFETY_REFRESH_S", 0.2)
    with jobkit.connect(**place) as kit:
        job = kit.options(delay=1000).submit(len, "abc")
        monkeypatch.setattr(kit.hub, "_deliver", lambda channel, data: None)
        other.get(job.id).cancel()

        wait_until(lambda: job.state == "cancelled", what="the handle to move")
