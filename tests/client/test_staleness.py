"""A live handle is up to date at once after any possible loss of an event, and soon in every case.

Each mechanism is tested alone, with the others turned off: together they would hide each other's gaps.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

import jobkit
from jobkit.client import live
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.store import hub as event_hub
from jobkit.store.hub import EventHub
from tests.store.server import Server
from tests.support import wait_until

from .conftest import own_kit, own_place

place = pytest.fixture(own_place, name="place")
other = pytest.fixture(own_kit, name="other")
"""A second kit, which changes jobs without the first."""


@pytest.mark.usefixtures("by_events_alone")
def test_changes_during_a_cut_are_shown_after_the_reconnect(
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


@pytest.mark.usefixtures("by_events_alone")
def test_changes_before_the_subscription_was_confirmed_are_shown(
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


def test_a_silently_lost_event_is_recovered(place: dict[str, str], other: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SAFETY_REFRESH_S", 0.2)
    with jobkit.connect(**place) as kit:
        job = kit.options(delay=1000).submit(len, "abc")
        monkeypatch.setattr(kit.hub, "_deliver", lambda channel, data: None)
        other.get(job.id).cancel()

        wait_until(lambda: job.state == "cancelled", what="the handle to move")


def test_handles_of_open_jobs_cost_one_read_if_no_job_has_moved(
    place: dict[str, str], other: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SAFETY_REFRESH_S", 0.05)
    with jobkit.connect(**place) as kit:
        jobs = kit.options(delay=1000).map(len, ["a", "b", "c"])
        looks, read = [], []
        store: Any = kit.verbs.store
        old_last, old_fields = store.last_event_id, store.fields

        async def last_event_id() -> Any:
            looks.append(await old_last())
            return looks[-1]

        async def fields(*args: Any) -> Any:
            read.append(args)
            return await old_fields(*args)

        monkeypatch.setattr(store, "last_event_id", last_event_id)
        monkeypatch.setattr(store, "fields", fields)
        wait_until(lambda: len(looks) >= 2, what="the looks")
        count = len(read)
        wait_until(lambda: len(looks) >= 5, what="more looks")
        assert len(read) == count

        monkeypatch.setattr(kit.hub, "_deliver", lambda channel, data: None)
        other.get(jobs[1].id).cancel()
        wait_until(lambda: jobs[1].state == "cancelled", what="the handle to move")


def test_the_handle_of_a_job_that_is_gone_without_an_event_learns_of_it(
    place: dict[str, str], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `jobkit doctor --remove-damaged`, or a server that evicts keys."""
    monkeypatch.setattr(live, "SAFETY_REFRESH_S", 0.05)
    monkeypatch.setattr(live, "UNTOLD_REFRESH_S", 0.5)
    with jobkit.connect(**place) as kit:
        job = kit.options(delay=1000).submit(len, "abc")
        wait_until(lambda: kit.connection.live._newest not in ("", "0-0"), what="a first look")
        with redis.Redis.from_url(server.url) as client:
            client.delete(f"jk:{place['namespace']}:job:{job.id}")

        with pytest.raises(jobkit.JobNotFound, match="no longer known"):
            job.wait(30)
