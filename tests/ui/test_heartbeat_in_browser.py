"""A page whose server is gone, frozen or out of reach says so, sends nothing, and is live again by itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from jobkit.client.kit import Kit
from jobkit.settings import Settings
from tests.store.server import Server
from tests.support import wait_until
from tests.ui.conftest import Window, text_of, wait_for
from tests.ui.forwarder import Forwarder
from tests.ui.page_server import SECRET, DashboardProcess
from tests.ui.stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def dashboard(server: Server) -> Iterator[DashboardProcess]:
    made = DashboardProcess(server)
    yield made
    made.kill()


@pytest.fixture
def network(dashboard: DashboardProcess) -> Iterator[Forwarder]:
    made = Forwarder("", strips=False)
    made.target = dashboard.port
    yield made
    made.mend()
    made.close()


def is_live(page: Page) -> None:
    page.wait_for_selector(".status[data-status=live]")


def is_away(page: Page) -> None:
    page.wait_for_selector(".status[data-status=reconnecting]")
    page.wait_for_selector(".jk-banner .away:has-text('The server does not answer')")


def test_a_page_whose_server_does_not_answer_says_so_and_is_live_again_by_itself(
    server: Server, dashboard: DashboardProcess, network: Forwarder, window: Window
) -> None:
    stage = Stage(Kit(Settings.load(environ={}, url=server.url, secret=SECRET, home=server.home / "home")))
    job = stage.running("train", {"n": 3}, title="Train")
    url = f"http://127.0.0.1:{network.port}/app"
    page = window.open(f"{url}?q=state%3Arunning&job={job}")
    form = window.open(f"{url}?page=submit")
    for each in (page, form):
        each.wait_for_selector(".jk-table .row[data-face=running]" if each is page else ".jk-form h2")
        is_live(each)
        each.evaluate("() => { window.isTheSame = true }")
        wait_for(each, "() => jobkitPulse.isExpected")  # a beat has come: silence means something from now on
    workers = window.open(f"{url}?page=workers")
    pause = workers.get_by_role("button", name="Pause queue")
    is_live(workers)
    wait_for(workers, "() => jobkitPulse.isExpected")
    wait_until(pause.is_enabled, what="a quiet button to press")
    cancel = page.locator(".jk-card .actions").get_by_role("button", name="Cancel")
    wait_until(cancel.is_enabled, what="a button to press")

    network.cut()  # no connection ends: the only sign is silence

    is_away(page)
    assert cancel.is_disabled()
    is_away(workers)
    assert pause.is_disabled()
    for old in (".jk-table .rows", ".jk-card .head .chip"):
        assert page.locator(old).evaluate("el => getComputedStyle(el).filter") == "grayscale(1)"
    elapsed, age = text_of(page, ".jk-card .elapsed"), text_of(page, ".status .word")
    page.keyboard.press("c")
    page.wait_for_selector(".jk-banner .away:has-text('Nothing was sent')")
    wait_until(lambda: text_of(page, ".status .word") != age, what="the age of the data")
    assert text_of(page, ".jk-card .elapsed") == elapsed
    network.mend()
    is_live(page)
    page.locator(".jk-banner .away").wait_for(state="hidden")
    wait_until(lambda: cancel.is_enabled() and pause.is_enabled(), what="the buttons to come back")
    workers.close()

    dashboard.send(signal.SIGSTOP)

    is_away(page)
    dashboard.send(signal.SIGCONT)
    for each in (page, form):
        is_live(each)
        assert each.evaluate("() => window.isTheSame")  # the session went on
    assert not stage.kit.snapshot(job).is_cancelling

    form.click(".jk-form .options summary")
    form.fill(".jk-form [data-name='option:tags'] input", "typed here")
    dashboard.kill()

    is_away(page)
    is_away(form)
    assert form.get_by_role("button", name="Submit", exact=True).is_disabled()
    dashboard.start()
    wait_for(page, "() => !window.isTheSame")  # the session is lost: loaded again, at its address
    is_live(page)
    page.wait_for_selector(".jk-card .chip:has-text('Running')")
    assert "q=state%3Arunning" in page.url
    wait_for(form, "() => !window.isTheSame")
    is_live(form)
    assert form.input_value(".jk-form [data-name='option:tags'] input") == "typed here"  # as a draft
    stage.close()
    # Chromium logs each request that found no server, and each websocket that was cut.
    window.errors[:] = [
        each for each in window.errors if "Failed to load resource" not in each and "WebSocket" not in each
    ]
