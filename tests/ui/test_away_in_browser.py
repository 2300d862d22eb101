"""A dashboard whose store goes away before anybody has looked: a sentence, and the dashboard when it is there again."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.chaos.world import free_port
from tests.store.server import Server
from tests.support import environment, wait_until
from tests.ui.conftest import Window, text_of

pytestmark = pytest.mark.browser


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    """Of a dashboard that nobody has looked at yet."""
    port = free_port()
    named = environment(JOBKIT_URL=server.url, JOBKIT_SECRET="of these tests", JOBKIT_HOME=str(server.home / "home"))
    process = subprocess.Popen(
        [sys.executable, "-m", "jobkit", "dashboard", "--port", str(port)],
        env=named,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, 90, "the dashboard to listen")
        yield f"http://127.0.0.1:{port}/app"
    finally:
        process.terminate()
        process.wait(20)


def test_a_page_says_that_the_store_is_away_and_becomes_the_dashboard(server: Server, url: str, window: Window) -> None:
    server.kill()
    page = window.open(url)
    wait_until(lambda: "does not answer" in text_of(page, "[role=status]"), 30, "the sentence")
    assert "Traceback" not in page.content()

    server.start()

    wait_until(lambda: text_of(page, ".jk-table"), 60, "the dashboard")
