"""Clicks on a page that is not ready, or whose server is busy: each has its effect, once."""

from __future__ import annotations

import threading
from typing import Any

import panel as pn
import pytest

from jobkit.ui.app.dashboard import Dashboard
from jobkit.ui.live.control import Requests
from tests.support import PATIENCE_S, wait_until
from tests.ui.conftest import Serve, Window, wait_for
from tests.ui.page_server import PageServer
from tests.ui.stage import Stage
from tests.ui.wire import Wire

pytestmark = pytest.mark.browser


class LatePage:
    """A window whose message that its document is ready comes late, and the requests that its session has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, window: Window, url: str) -> None:
        self._actions = list[str]()

        def heard(requests: Requests, text: str, of: Any = Requests.of) -> Any:
            found = of(requests, text)
            self._actions += [each["action"] for each in found]
            return found

        monkeypatch.setattr(Requests, "of", heard)
        self.page: Any = window.open("about:blank")
        self._wire = Wire(self.page, is_late=True)
        self.release = self._wire.release
        self.page.goto(url)

    def click(self, selector: str, action: str) -> None:
        """Click, and wait until the session has the request."""
        self.page.locator(selector).click()
        self._wire.wait_until(lambda: action in self._actions, what=f"the request {action}")

    def count(self, action: str) -> int:
        return self._actions.count(action)


def test_a_row_and_a_tab_of_a_dashboard(
    url: str, stage: Stage, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.submit()
    late = LatePage(monkeypatch, window, url)
    late.page.wait_for_selector(".jk-nav .status[data-status=live]")
    late.click(".jk-table .row[data-id]", "open")
    late.click(".jk-nav .tab:text-is('Timeline')", "page")

    late.release()

    late.page.wait_for_selector(".jk-card .title")
    late.page.wait_for_selector(".jk-timeline")


def test_cancel_on_the_card_of_an_app(
    serve: Serve, stage: Stage, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = stage.kit.get(stage.submit())
    late = LatePage(monkeypatch, window, serve(lambda: pn.Column(job)))
    late.click(".jk-card .btn:has-text('Cancel')", "cancel")

    late.release()

    late.page.wait_for_selector(".jk-card[data-face=cancelled], .jk-card :text('Cancelled')")
    assert late.count("cancel") == 1
    assert stage.kit.get(job.id).state == "cancelled"


def test_two_clicks_while_the_server_is_busy(stage: Stage, window: Window) -> None:
    stage.submit()
    server = PageServer(lambda: Dashboard(stage.kit).__panel__())
    is_free = threading.Event()
    try:
        page = window.open(f"http://localhost:{server.port}/page")
        page.wait_for_selector(".jk-nav .status[data-status=live]")
        wait_for(page, "() => jobkitPulse.isExpected")
        page.evaluate("() => { jobkitPulse.limit = Infinity; }")  # it stays short of what the page calls silence
        server._running[1].add_callback(is_free.wait, PATIENCE_S)
        page.locator(".jk-table .row[data-id]").click()
        page.evaluate("() => { const now = Date.now; Date.now = () => now() + 2000; }")
        page.locator(".jk-table .by:has-text('Queue')").click()
        is_free.set()

        wait_for(page, "() => location.search.includes('sort=') && location.search.includes('job=')")
        page.wait_for_selector(".jk-card .title")
    finally:
        is_free.set()
        window.close()
        server.close()


def test_a_click_in_an_app_whose_own_callback_has_failed(serve: Serve, stage: Stage, window: Window) -> None:
    job = stage.kit.get(stage.submit())

    def app() -> pn.Column:
        pn.state.onload(lambda: 1 / 0)
        return pn.Column(job)

    page = window.open(serve(app))
    wait_until(lambda: page.wait_for_timeout(10) or window.errors, what="the failure")
    page.locator(".jk-card .btn:has-text('Cancel')").click()

    page.wait_for_selector(".jk-card[data-face=cancelled], .jk-card :text('Cancelled')")
    window.errors = [each for each in window.errors if "ZeroDivisionError" not in each]
