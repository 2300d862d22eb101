"""Failed reads are retried: the connection for events may work while the one for reads is cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.features.batches.store import BatchStore
from jobkit.features.timeline.page import TimelineFeed, TimelineSubscriber
from jobkit.model import StoreUnavailable
from jobkit.store.hub import STATUS
from jobkit.store.query import Query
from jobkit.ui.card.job_feed import JobFeed
from jobkit.ui.live import shared_feed
from jobkit.ui.live.shared_feed import Subscriber
from tests.support import wait_until
from tests.ui.conftest import Look
from tests.ui.screen import Screen
from tests.ui.stage import Stage


class Cut:
    """Lets the next reads of a store fail."""

    def __init__(self, stage: Stage, patch: pytest.MonkeyPatch) -> None:
        self.left: dict[str, int] = {}
        self.failed: list[str] = []
        batches = stage.store.part(BatchStore)
        patch.setattr(batches, "folded", self._cuttable("folded", batches.folded))
        for name in ("list", "counts", "snapshots", "logs", "preview", "tasks"):
            patch.setattr(stage.store, name, self._cuttable(name, getattr(stage.store, name)))

    def _cuttable(self, name: str, read: Any) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            if self.left.get(name, 0) > 0:
                self.left[name] -= 1
                self.failed.append(name)
                raise StoreUnavailable("cut")
            return await read(*args, **options)

        return call


@pytest.fixture
def cut(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cut]:
    monkeypatch.setattr(shared_feed, "_AGAIN_S", 0.01)
    return Cut(stage, monkeypatch)


def tell(stage: Stage, is_live: bool) -> None:
    """Do what the hub does when its connection is cut or back: on its loop."""
    background.start().call_soon_threadsafe(stage.kit.hub._listeners.tell, STATUS, is_live)  # type: ignore[attr-defined]


@pytest.fixture
def screen(cut: Cut, look: Look) -> Screen:
    return look(Query())


def test_a_page_whose_first_reads_fail_is_there_when_the_store_answers(stage: Stage, cut: Cut, look: Look) -> None:
    job_id = stage.submit()
    cut.left = {"tasks": 2, "folded": 2, "counts": 1}

    screen = look(Query())

    wait_until(lambda: screen.faces() == {job_id: "queued"}, what="the page")
    assert {"tasks", "folded"} <= set(cut.failed)


def test_a_new_job_whose_reads_fail_comes_to_the_page(stage: Stage, cut: Cut, screen: Screen) -> None:
    cut.left = {"snapshots": 2, "counts": 2}

    job_id = stage.submit()

    wait_until(
        lambda: screen.faces() == {job_id: "queued"} and screen.told["counts"].get("queued") == 1, what="the new row"
    )
    assert cut.failed.count("snapshots") == 2


def test_no_job_of_a_flood_is_missed(stage: Stage, cut: Cut, look: Look) -> None:
    """A page of failed jobs, while hundreds of others change their state in the same moment."""
    screen = look(Query(states=("failed",)))
    cut.left = {"snapshots": 3}  # so that they pile up

    first = stage.running()
    stage.fail(first)
    for _ in range(450):
        stage.submit()

    wait_until(lambda: screen.faces() == {first: "failed"}, what="the failed job")


def test_a_card_whose_last_reads_fail_shows_the_end_of_the_job_all_the_same(stage: Stage, cut: Cut) -> None:
    job_id = stage.running()
    shown: dict[str, str] = {}
    ended: list[bool] = []
    card = Subscriber(lambda whole, _: shown.update(whole), on_end=lambda _: ended.append(True))
    card.start(stage.kit, JobFeed, job_id)
    wait_until(lambda: "snapshot" in shown, what="the card")

    cut.left = {"logs": 2, "preview": 2}
    stage.succeed(job_id, preview={"type": "int", "text": "4711"})

    wait_until(lambda: ended, what="the card to end")
    assert "4711" in shown["preview"]
    assert set(cut.failed) == {"logs", "preview"}
    card.stop()


def followed(stage: Stage, job_id: str, told: dict[str, Any]) -> Subscriber:
    """A card of the job, of whose face `told` is kept the newest."""
    card = Subscriber(lambda whole, _: told.update(json.loads(whole.get("snapshot", "{}"))))
    return card.start(stage.kit, JobFeed, job_id)


def test_a_card_that_was_being_read_when_the_connection_was_cut_says_so_and_catches_up(
    stage: Stage, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events during the cut are lost, so the card must not look live."""
    job_id = stage.submit()
    told: dict[str, Any] = {}
    reads, hub = stage.store.logs, stage.kit.hub

    async def cut_meanwhile(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(stage.store, "logs", reads)
        monkeypatch.setattr(type(hub), "is_live", False)
        hub._listeners.tell(STATUS, False)  # type: ignore[attr-defined]
        return await reads(*args, **options)

    monkeypatch.setattr(stage.store, "logs", cut_meanwhile)
    following = followed(stage, job_id, told)
    wait_until(lambda: told.get("connection") == "reconnecting", what="the card to say so")

    monkeypatch.setattr(type(hub), "is_live", True)
    tell(stage, is_live=True)

    wait_until(lambda: told.get("connection") == "live", what="the card to be live")
    following.stop()


def test_a_card_catches_up_with_what_happened_while_it_was_cut_during_its_first_reads(
    stage: Stage, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = stage.submit()
    told: dict[str, Any] = {}
    reads, hub = stage.store.logs, stage.kit.hub

    async def cut_meanwhile(*args: Any, **options: Any) -> Any:
        """Cut, changed and back, between the read of the snapshot and the end of the reads."""
        monkeypatch.setattr(stage.store, "logs", reads)
        hub._listeners.tell(STATUS, False)  # type: ignore[attr-defined]
        with monkeypatch.context() as deaf:
            deaf.setattr(hub._listeners, "tell", lambda topic, event: None)  # type: ignore[attr-defined]
            await stage.store.cancel([job_id])
        hub._listeners.tell(STATUS, True)  # type: ignore[attr-defined]
        return await reads(*args, **options)

    monkeypatch.setattr(stage.store, "logs", cut_meanwhile)
    following = followed(stage, job_id, told)

    wait_until(lambda: told.get("state") == "cancelled", what="the card to know")
    following.stop()


def test_a_page_of_jobs_says_that_the_store_is_away_until_it_has_been_read_again(stage: Stage, screen: Screen) -> None:
    tell(stage, is_live=False)
    wait_until(lambda: screen.told["away"], what="the page to say so")
    tell(stage, is_live=True)

    wait_until(lambda: not screen.told["away"], what="the page to be live")


def timeline(stage: Stage, pages: list[str]) -> Subscriber:
    """A timeline, of which `pages` gets the whole texts."""
    subscriber = TimelineSubscriber(lambda whole, parts: pages.extend(filter(None, [whole.get("page")])))
    return subscriber.start(stage.kit, TimelineFeed, Query(), None)


def test_a_timeline_whose_reads_fail_is_there_when_the_store_answers(stage: Stage, cut: Cut) -> None:
    job_id = stage.running()
    pages: list[str] = []
    cut.left = {"list": 2, "counts": 1}

    looking = timeline(stage, pages)

    wait_until(lambda: any(job_id in page for page in pages), what="the attempt")
    assert "list" in cut.failed
    looking.stop()


def test_a_timeline_reads_once_more_where_the_connection_is_back_while_it_reads(
    stage: Stage, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two reads at a time would undo each other."""
    pages: list[str] = []
    reads, under_way, most, calls = stage.store.list, 0, 0, 0

    async def slow(*args: Any, **options: Any) -> Any:
        nonlocal under_way, most, calls
        calls, under_way = calls + 1, under_way + 1
        most = max(most, under_way)
        if calls == 1:
            stage.kit.hub._listeners.tell(STATUS, True)  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
        under_way -= 1
        return await reads(*args, **options)

    monkeypatch.setattr(stage.store, "list", slow)
    looking = timeline(stage, pages)

    wait_until(lambda: pages, what="the page")
    assert (calls, most) == (8, 1)  # four for each of two reads
    looking.stop()
