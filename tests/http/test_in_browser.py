"""Chromium's EventSource and fetch: the example page, reconnection after a cut, the page to try the API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobkit.client.kit import Kit
from tests.http.site import Site
from tests.support import ROOT, wait_until
from tests.ui.conftest import Window
from tests.ui.conftest import browser as browser
from tests.ui.stage import Stage

pytestmark = pytest.mark.browser


@pytest.fixture
def window(browser: Any) -> Iterator[Window]:
    made = Window(browser)
    yield made
    made.close()
    assert made.hosts <= {"127.0.0.1"}


@pytest.fixture
def web(serve: Callable[..., Site]) -> Site:
    return serve(web=str(ROOT / "examples" / "web"))


def row(page: Any, job_id: str) -> Any:
    return page.locator(f"tr[data-id='{job_id}']")


def test_the_plain_page_submits_follows_and_cancels(web: Site, window: Window, kit: Kit, stage: Stage) -> None:
    old = stage.submit(task="double")
    page = window.open(f"{web.url}/examples/web/")
    row(page, old).wait_for()
    page.select_option("#task", "double")
    page.fill("#params", '{"n": 5}')
    page.click("text=Submit")
    wait_until(lambda: len(kit.jobs()) == 2, what="the job")
    job_id = kit.jobs()[0].id
    row(page, job_id).locator("text=queued").wait_for()

    stage.start(job_id)
    row(page, job_id).locator("text=running").wait_for()
    stage.progress(job_id, 1, 4, "one of four")
    row(page, job_id).locator("text=one of four").wait_for()
    assert row(page, job_id).locator("progress").get_attribute("value") == "0.25"
    stage.succeed(job_id, summary="<b>42</b>")
    row(page, job_id).locator("text=succeeded").wait_for()
    assert row(page, job_id).inner_text().endswith("<b>42</b>\t")
    third = stage.submit(task="train_model")
    row(page, third).locator("button").click()
    row(page, third).locator("text=cancelled").wait_for()
    page.fill("#params", '{"n": 500}')
    page.click("text=Submit")
    page.locator("#told", has_text="from 1 to 100").wait_for()
    assert [error for error in window.errors if "422" not in error] == []


def test_the_page_reconnects_after_the_server_died_and_misses_nothing(
    web: Site, serve: Callable[..., Site], window: Window, stage: Stage
) -> None:
    job_id = stage.submit(task="double")
    page = window.open(f"{web.url}/examples/web/")
    row(page, job_id).locator("text=queued").wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    web.close()
    page.locator("text=coming back").wait_for()
    stage.start(job_id)
    web.close = lambda: None  # type: ignore[method-assign]
    serve(port=web.port, web=str(ROOT / "examples" / "web"))
    row(page, job_id).locator("text=running").wait_for()

    assert not [url for url in asked if url.endswith("/api/jobs?limit=50")]  # by the events alone


@pytest.mark.nightly
def test_an_event_source_stops_by_itself_at_the_end_of_a_job(web: Site, window: Window, stage: Stage) -> None:
    job_id = stage.submit(task="double")
    page = window.open(f"{web.url}/examples/web/")
    page.evaluate(
        """url => {
            window.told = [];
            window.source = new EventSource(url);
            for (const type of ["snapshot", "started", "succeeded"])
                window.source.addEventListener(type, event => window.told.push([type, event.lastEventId]));
        }""",
        f"/api/jobs/{job_id}/events",
    )
    page.wait_for_function("window.told.length === 1")
    stage.start(job_id)
    stage.succeed(job_id)
    page.wait_for_function("window.told.length === 3 && window.source.readyState === EventSource.CLOSED")

    told = page.evaluate("window.told")
    assert [name for name, _ in told] == ["snapshot", "started", "succeeded"]
    assert len({id for _, id in told}) == 3


@pytest.mark.nightly
def test_a_mercure_subscription_of_a_browser(web: Site, window: Window, stage: Stage) -> None:
    job_id = stage.submit(task="double")
    page = window.open(f"{web.url}/examples/web/")
    page.evaluate(
        """topic => {
            const url = new URL("/.well-known/mercure", location);
            url.searchParams.append("topic", topic);
            window.told = [];
            window.source = new EventSource(url);
            window.source.onopen = () => { window.isOpen = true };
            window.source.onmessage = event => window.told.push(event.data);
        }""",
        f"{web.url}/api/jobs/{job_id}",
    )
    page.wait_for_function("window.isOpen")
    stage.start(job_id)
    page.wait_for_function("window.told.length === 1")

    assert json.loads(page.evaluate("window.told[0]"))["state"] == "running"


@pytest.mark.nightly
def test_the_page_to_try_the_api_works(web: Site, window: Window) -> None:
    page = window.open(f"{web.url}/api/docs")
    card = page.locator("details", has_text="Submit a job.")
    card.locator("summary").click()
    card.locator("textarea").fill('{"task": "double", "params": {"n": 4}}')
    card.locator("button").click()
    card.locator("pre", has_text="202").wait_for()
    stream = page.locator("details", has_text="/api/events").first
    stream.locator("summary").click()
    stream.locator("button").click()
    stream.locator("pre", has_text="event: ready").wait_for()

    assert window.errors == []


@pytest.mark.nightly
def test_urlpattern_agrees_with_the_browsers(web: Site, window: Window) -> None:
    from jobkit.features.mercure.topics import BadSelector, new

    page = window.open(f"{web.url}/examples/web/")
    base = f"{web.url}/.well-known/mercure"
    patterns = [
        "https://e.com/:id",
        "https://e.com/*",
        "https://*.e.com/a",
        "https://:sub.e.com/a",
        "http*://e.com/a",
        "/books/:id",
        "books/:id",
        "https://e.com/a?q=*",
        "https://e.com/:a-:b",
        "https://e.com/a/*/b",
        "https://e.com",
        "https://e.com/a#*",
        r"/books/:id(\d+)",
        "/a{/b}?/c",
        "/:path+",
        "/a/:path*",
        "/x/:id.(png|jpe?g)",
        "/([a-c]{2,3})",
        "/((?:ab|c)*)",
        "http{s}?://e.com/a",
        "https://e.com:8443/*",
        "https://e.com:443/*",
        "https://{*.}?e.com/a",
        r"urn\:book\::id",
        "urn:book::id",
        r"/a\:b",
        "/a{:}b",
        "/é",
        "/a/../b",
        "/a/:b/../c",
        "/a%2e/b/%2E%2e/:c",
        "urn{:}book",
        "?q=:q",
        "books/:id?",
        "#x",
        "(ht|f)tps://e.com/a",
        "https://e.com/*/b?",
        "https://e.com/*\\?q=1",
        "https://e.com/:a?q=1",
        "/{:a-}+b",
        "/(a(b))",
        "/{a",
        "/:a/:a",
        "/a}",
        "*:*",
        "https://e.com*",
        "data\\:foo*",
        "https://E.com/%61",
    ]
    topics = [
        "https://e.com/1",
        "https://e.com/",
        "https://e.com",
        "https://e.com/1/2",
        "https://x.e.com/a",
        "https://x.y.e.com/a",
        "http://e.com/a",
        "/books/1",
        f"{web.url}/books/1",
        f"{web.url}/.well-known/books/1",
        "https://e.com/a?q=1",
        "https://e.com/a",
        "https://e.com/1-2",
        "https://e.com/a/x/b",
        "https://e.com/a/x/y/b",
        "https://e.com/a#f",
        "urn:x",
        "urn:book:1",
        "/books/12",
        "/a/b/c",
        "/a/c",
        "/a",
        "/x/1.jpeg",
        "/abc",
        "/abcab",
        "https://e.com:8443/a",
        "https://e.com:443/a",
        "/a:b",
        "/%C3%A9",
        "/é",
        "/a/../b",
        "/b",
        "?q=1",
        "#x",
        "/x-y-b",
        "https://e.com/z/b?",
        "https://e.com/a?q=1#f",
        "data:foobar",
        "https://e.com/%61",
    ]
    theirs = page.evaluate(
        """([patterns, topics, base]) => patterns.map(p => {
            let pattern;
            try { pattern = new URLPattern(p); } catch {
                try { pattern = new URLPattern(p, base); } catch { return topics.map(() => "refused"); }
            }
            return topics.map(t => pattern.test(t, base));
        })""",
        [patterns, topics, base],
    )

    def ours_of(pattern: str) -> list[bool | str]:
        try:
            selector = new("urlpattern", pattern, base)
        except BadSelector:
            return ["refused"] * len(topics)
        return [selector.matches(topic) for topic in topics]

    ours = [ours_of(pattern) for pattern in patterns]

    differing = [
        (pattern, topic, their, our)
        for pattern, row_theirs, row_ours in zip(patterns, theirs, ours, strict=True)
        for topic, their, our in zip(topics, row_theirs, row_ours, strict=True)
        if their != our
    ]
    assert not differing, "\n".join(map(str, differing))
