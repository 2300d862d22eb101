"""A dashboard with an unreachable or read-only store shows a sentence while this lasts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from jobkit import demo
from jobkit.client.kit import Kit
from jobkit.settings import Settings
from tests.store.server import Server
from tests.support import wait_until
from tests.ui.conftest import Window, text_of
from tests.ui.page_server import SECRET, DashboardProcess
from tests.ui.stage import Stage

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(server: Server) -> Iterator[str]:
    """URL of a dashboard without any visitor before the first test."""
    dashboard = DashboardProcess(server)
    yield f"http://127.0.0.1:{dashboard.port}/app"
    dashboard.kill()


def test_a_page_says_that_the_store_is_away_and_becomes_the_dashboard(server: Server, url: str, window: Window) -> None:
    server.kill()
    page = window.open(url)
    wait_until(lambda: "does not answer" in text_of(page, "[role=status]"), what="the sentence")
    assert "Traceback" not in page.content()

    server.start()

    wait_until(lambda: text_of(page, ".jk-table"), what="the dashboard")
    assert all("503" in error for error in window.errors)  # the browser's own, of the page that says so
    window.errors.clear()


@pytest.mark.nightly
def test_every_page_says_that_the_store_is_away_and_is_right_afterwards(
    server: Server, url: str, window: Window
) -> None:
    settings = {"url": server.url, "secret": SECRET, "home": server.home / "home"}
    stage = Stage(Kit(Settings.load(environ={}, **settings)))
    kit = stage.kit
    kit.schedule(demo.count_words, every=3600, name="before")
    runs, waits = (stage.submit("train", {"n": n}, title=f"Job {n}") for n in range(2))
    stage.start(runs)
    #: Content of each page before the outage and after it.
    shows = {
        "jobs": (".row[data-face=running] b:text-is('Job 0')", ".row[data-face=failed] b:text-is('Job 0')"),
        "timeline": (".sum:has-text('1 attempt · 1 running')", ".sum:has-text('2 attempts · 1 failed · 1 running')"),
        "failures": ("text=Nothing has failed", ".group .title:has-text('KeyError')"),
        "workers": (".jobs .job:text-is('Job 0')", ".jobs .job:text-is('Job 1')"),
        "schedules": (".schedule .name :text-is('before')", ".schedule .name :text-is('after')"),
        f"compare&ids={runs},{waits}": (".side .chip:has-text('Running')", ".side .chip:has-text('Failed')"),
        "submit": (".jk-form h2", ".jk-card .chip:has-text('Queued')"),
    }
    stage.beat()
    pages = {slug: window.open(f"{url}?page={slug}", width=1280) for slug in shows}
    for slug, page in pages.items():
        page.wait_for_selector(shows[slug][0])

    server.kill()

    for page in pages.values():
        page.wait_for_selector(".status[data-status=reconnecting]:has-text('reconnecting')")
    server.start()
    for page in pages.values():
        page.wait_for_selector(".status[data-status=live]")
    stage.fail(runs, "KeyError", "f1", "", "train.py:28 in evaluate")
    stage.start(waits)
    stage.beat()
    kit.schedule(demo.count_words, every=3600, name="after")
    pages["submit"].click("button:text-is('Submit')")
    for slug, page in pages.items():
        page.wait_for_selector(shows[slug][1])
    stage.close()


@pytest.mark.nightly
def test_every_page_says_that_the_store_takes_no_changes_as_long_as_it_does_not(
    server: Server, url: str, window: Window
) -> None:
    """Visitors that arrive meanwhile see it, too; readable data is shown."""
    page = window.open(url)
    page.wait_for_selector(".jk-table")
    assert text_of(page, ".jk-banner") == ""

    server.fill_disk()
    with redis.Redis.from_url(server.url) as client:
        wait_until(lambda: not _takes(client), what="the server to have tried to write")
    page.wait_for_selector(".jk-banner:has-text('cannot write to its disk and refuses changes: free space')")
    for name in ("Workers", "Submit"):
        page.click(f".tab:has-text('{name}')")
        assert "nothing can be submitted or changed here; jobs that run go on" in text_of(page, ".jk-banner")
    late = window.open(url)
    late.wait_for_selector(".jk-banner:has-text('cannot write to its disk')")
    late.wait_for_selector(".jk-table")
    server.free_disk()

    for each in (page, late):
        each.locator(".jk-banner").wait_for(state="hidden")


def _takes(client: redis.Redis) -> bool:
    try:
        return bool(client.set("something", "x" * 100))
    except redis.ResponseError:
        return False
