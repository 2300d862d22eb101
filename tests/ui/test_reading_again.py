"""What is shown is read until it has been read: the connection for events may live while the one for reads is cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from jobkit.model import StoreUnavailable
from jobkit.store.query import Query
from jobkit.ui import pace
from jobkit.ui.board_feed import Watching
from jobkit.ui.job_feed import Follower, Following
from tests.support import wait_until
from tests.ui.stage import Stage


class Cut:
    """Lets the next reads of a store fail."""

    def __init__(self, stage: Stage, patch: pytest.MonkeyPatch) -> None:
        self.left: dict[str, int] = {}
        self.failed: list[str] = []
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
    monkeypatch.setattr(pace, "_AGAIN_S", 0.01)
    return Cut(stage, monkeypatch)


class Screen:
    """A page of jobs as table.js keeps it."""

    def __init__(self, stage: Stage, query: Query) -> None:
        self.rows: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.is_loaded = False
        self._watching = Watching(stage.kit, query, self._take)

    def _take(self, text: str, is_page: bool) -> None:
        told = json.loads(text)
        if is_page:
            self.rows, self.is_loaded = {}, True
        for row in (*told.get("rows", ()), *told.get("new", ())):
            self.rows[row["id"]] = row
        for job_id in told.get("gone", ()):
            self.rows.pop(job_id, None)
        self.counts = told.get("counts", self.counts)

    def faces(self) -> dict[str, str]:
        return {job_id: row["face"] for job_id, row in self.rows.items()}

    def close(self) -> None:
        self._watching.stop()


@pytest.fixture
def screen(stage: Stage, cut: Cut) -> Iterator[Screen]:
    screen = Screen(stage, Query())
    wait_until(lambda: screen.is_loaded, 10, "the page")
    yield screen
    screen.close()


def test_a_page_whose_first_reads_fail_is_there_when_the_store_answers(stage: Stage, cut: Cut) -> None:
    job_id = stage.submit()
    cut.left = {"tasks": 2, "list": 2, "counts": 1}

    screen = Screen(stage, Query())

    wait_until(lambda: screen.faces() == {job_id: "queued"}, 10, "the page")
    assert {"tasks", "list"} <= set(cut.failed)
    screen.close()


def test_a_new_job_whose_reads_fail_comes_to_the_page(stage: Stage, cut: Cut, screen: Screen) -> None:
    cut.left = {"snapshots": 2, "counts": 2}

    job_id = stage.submit()

    wait_until(lambda: screen.faces() == {job_id: "queued"} and screen.counts.get("queued") == 1, 10, "the new row")
    assert cut.failed.count("snapshots") == 2


def test_of_a_flood_no_job_is_left_out(stage: Stage, cut: Cut) -> None:
    """A page of failed jobs, while hundreds of others change their state in the same moment."""
    screen = Screen(stage, Query(states=("failed",)))
    wait_until(lambda: screen.is_loaded, 10, "the page")
    cut.left = {"snapshots": 3}  # so that they pile up

    first = stage.submit()
    stage.start(first)
    stage.fail(first)
    for _ in range(450):
        stage.submit()

    wait_until(lambda: screen.faces() == {first: "failed"}, 10, "the failed job")
    screen.close()


def test_a_card_whose_last_reads_fail_shows_the_end_of_the_job_all_the_same(stage: Stage, cut: Cut) -> None:
    job_id = stage.submit()
    stage.start(job_id)
    shown: dict[str, str] = {}
    ended: list[bool] = []
    follower = Follower(lambda whole, _: shown.update(whole), on_end=lambda _: ended.append(True))
    following = Following(stage.kit, job_id, follower).start()
    wait_until(lambda: "snapshot" in shown, 10, "the card")

    cut.left = {"logs": 2, "preview": 2}
    stage.succeed(job_id, preview={"type": "int", "text": "4711"})

    wait_until(lambda: ended, 10, "the card to end")
    assert "4711" in shown["preview"]
    assert set(cut.failed) == {"logs", "preview"}
    following.stop()
