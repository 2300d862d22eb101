"""Archived jobs on the page of jobs: found, opened, compared and run again by those who may see them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.features.archive.store import ArchiveStore
from jobkit.features.archive.writer import Archiver
from jobkit.model.person import Person, Role
from jobkit.settings import Settings
from jobkit.store.grammar import parse
from jobkit.store.query import narrowed
from jobkit.ui.access.actions import Actions
from jobkit.ui.app.header import StoreBannerFeed
from tests.support import wait_until
from tests.ui.conftest import Window, text_of
from tests.ui.stage import Stage
from tests.ui.test_jobs_page_in_browser import names, shows

pytest.importorskip("pyarrow")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(Kit(Settings(url="sync://", lease=3600.0, archive=str(tmp_path / "archive"))))
    yield made
    made.close()


def archived(stage: Stage, **owners: str) -> dict[str, str]:
    """Return the ids of jobs by title that only the archive has."""
    archiver = Archiver(stage.store, stage.kit.verbs.older.reader)
    archiver.every_s = 0.0
    background.call(archiver.begin())
    ids = {}
    for title, owner in owners.items():
        ids[title] = stage.submit(title=title, owner=owner, params={"lr": len(ids)})
        stage.start(ids[title])
        stage.log(ids[title], f"line of {title}")
        stage.succeed(ids[title])
    background.call(archiver.append())
    stage.kit.delete(list(ids.values()))
    return ids


@pytest.mark.browser
def test_the_archive_is_a_switch_below_the_table_and_its_jobs_open_and_compare(
    stage: Stage, url: str, window: Window
) -> None:
    archived(stage, old="ada", older="ada", oldest="ada")
    stage.submit(title="new")
    page = window.open(url)
    shows(page, ["new"])

    page.get_by_role("button", name="Archive").click()

    shows(page, ["oldest", "older", "old"])
    wait_until(lambda: "3 jobs in the archive" in text_of(page, ".jk-table .foot"), what="their number")
    page.locator(".row", has_text="older").click()
    wait_until(lambda: "line of older" in text_of(page, ".jk-card"), what="the card")
    page.keyboard.press("Escape")
    for title in ("oldest", "older"):
        page.locator(".row").filter(has=page.get_by_text(title, exact=True)).locator("input").check()
    page.locator(".bulk").get_by_role("button", name="Compare").click()
    wait_until(lambda: "older" in text_of(page, ".jk-pair .sides"), what="both beside each other")
    page.go_back()
    page.get_by_role("button", name="Archive").click()
    wait_until(lambda: "new" in names(page), what="the jobs that are kept")


@pytest.mark.browser
def test_a_link_to_a_line_brings_an_archived_job_back(stage: Stage, url: str, window: Window) -> None:
    ids = archived(stage, old="ada")

    page = window.open(f"{url}?page=log&id={ids['old']}#L1")

    page.wait_for_selector(".jk-log .line.marked .text:has-text('line of old')")


def test_suggestions_for_a_search_of_the_archive_do_not_read_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    monkeypatch.setattr(stage.kit.verbs.older.reader, "find", read.append)

    assert background.call(stage.kit.verbs.tally(parse("in:archive"), "task")) is None
    assert read == []


def test_people_find_and_bring_back_only_jobs_that_they_may_see(stage: Stage) -> None:
    ids = archived(stage, hers="ada", his="bob")
    found = stage.kit.page(narrowed(parse("in:archive"), "ada"))
    assert [job.id for job in found.jobs] == [ids["hers"]]

    def restore(role: Role, job: str) -> str:
        return asyncio.run(Actions(stage.kit, Person("ada", role)).act("restore", [ids[job]])).outcome

    assert restore(Role.VIEW, "hers") == "refused"
    assert restore(Role.OWN, "his") == "failed"
    assert stage.kit.counts()["succeeded"] == 0
    assert restore(Role.OWN, "hers") == "done"
    assert restore(Role.OPERATE, "his") == "done"
    assert stage.kit.counts()["succeeded"] == 2


def test_a_page_says_that_the_archive_cannot_be_read_or_written(stage: Stage, tmp_path: Path) -> None:
    archived(stage, old="ada")
    (tmp_path / "archive").rename(tmp_path / "away")
    (tmp_path / "archive").write_text("")
    feed = StoreBannerFeed(stage.kit)
    assert asyncio.run(background.call_async(feed.data())) == {"said": ""}

    background.call(stage.store.part(ArchiveStore).open("there", "it cannot be written: no space"))
    told = background.call(feed.data())

    assert told["said"].endswith("for the archive there: it cannot be written: no space")
    from jobkit.ui.jobs.board import BoardFeed
    from jobkit.ui.live.shared_feed import Subscriber

    seen: list[Any] = []
    query = parse("in:archive")
    subscriber = Subscriber(lambda whole, parts: seen.append(whole)).start(stage.kit, BoardFeed, query, None)
    try:
        page = json.loads(wait_until(lambda: seen, what="the page")[0]["page"])
    finally:
        subscriber.stop()
    assert page["rows"] == []
    assert "cannot be read: Not a directory" in page["problem"]
