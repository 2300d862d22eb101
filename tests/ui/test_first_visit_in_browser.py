"""First visit of a dashboard: a skeleton at once, and a sentence instead of a page that cannot be made."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path

import pytest

from jobkit.access.own_machine import AccessDecision
from jobkit.settings import Settings
from jobkit.ui import panel_server
from tests.store.server import Server
from tests.ui.conftest import Window, wait_for
from tests.ui.page_server import PageServer

pytestmark = pytest.mark.browser

_APP = """
import json
from pathlib import Path
import jobkit
from jobkit.ui import Dashboard

Dashboard(jobkit.connect(**json.loads(Path(CONFIG).read_text())), title="First").servable()
"""


class Site:
    """A server of a dashboard that connects as its configuration says when it is opened."""

    def __init__(self, folder: Path, **config: str) -> None:
        self._config = folder / "config.json"
        self.configure(**config)
        program = folder / "app.py"
        program.write_text(_APP.replace("CONFIG", repr(str(self._config))))
        self._server = PageServer(str(program))
        self.url = f"http://localhost:{self._server.port}/page"

    def configure(self, **config: str) -> None:
        self._config.write_text(json.dumps(config))

    def ask(self, **headers: str) -> tuple[str, HTTPMessage]:
        """Return body and headers of the page's reply."""
        with urllib.request.urlopen(urllib.request.Request(self.url, headers=headers)) as reply:
            return reply.read().decode(), reply.headers

    def close(self) -> None:
        self._server.close()


def test_a_page_says_what_is_missing_and_becomes_the_dashboard(
    server: Server, window: Window, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, url=f"unix://{tmp_path}/r.sock", namespace="not a <b>name</b>")
    try:
        page = window.open(f"{site.url}#L3")
        page.wait_for_selector("text=The dashboard cannot start")
        assert "namespace must be 1 to 200 characters" in page.inner_text("[role=status]")
        assert "not a <b>name</b>" in page.inner_text("[role=status]").replace("\\", "")
        assert "tries again" in page.inner_text("main")
        page.context.add_cookies([{"name": "jobkit-theme", "value": "dark", "url": site.url}])
        with page.expect_response(lambda reply: reply.status == 503):  # by itself
            pass
        wait_for(page, "getComputedStyle(document.body).backgroundColor === 'rgb(15, 18, 22)'")

        site.configure(url=server.url)
        page.wait_for_selector(".jk-table")
        assert page.title() == "First"
        assert page.url.endswith("#L3")
        assert "Traceback" not in caplog.text
    finally:
        window.close()
        site.close()
    said = [record for record in caplog.records if record.name == "jobkit.ui" and record.levelno >= logging.ERROR]
    assert len(said) == 1  # not again for each try
    window.errors = [each for each in window.errors if "503" not in each]


def test_the_first_browser_gets_a_skeleton_at_once(server: Server, tmp_path: Path) -> None:
    site = Site(tmp_path, url=server.url)
    try:
        first, headers = site.ask(**{"Sec-Fetch-Dest": "document", "Cookie": "jobkit-theme=dark"})
        assert 'http-equiv="refresh" content="0"' in first
        assert "if (location.hash) location.reload()" in first  # which the refresh does not do
        assert "body::before" in first
        assert "#ffffff" not in first  # it is the dark one
        assert "default-src 'none'" in headers["Content-Security-Policy"]

        whole, _ = site.ask(**{"Sec-Fetch-Dest": "document"})
        assert "data-root-id" in whole
        assert "body::before" in whole  # until the scripts have drawn the page
    finally:
        site.close()


def test_programs_get_the_page_itself(server: Server, tmp_path: Path) -> None:
    site = Site(tmp_path, url=server.url)
    try:
        assert "data-root-id" in site.ask()[0]
    finally:
        site.close()


def test_strangers_do_not_learn_why_a_page_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, namespace="not a name")
    monkeypatch.setattr(panel_server, "decide_here", lambda _: AccessDecision(False, "a stranger"))
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            site.ask()
        page = caught.value.read().decode()
    finally:
        site.close()
    assert caught.value.code == 503
    assert "The log of this server says why." in page
    assert "namespace" not in page


def test_settings_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBKIT_LEASE", "soon")
    with pytest.raises(ValueError, match="lease"):
        Settings.load()
    site = Site(tmp_path, namespace="x")
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            site.ask()
        assert "lease must be seconds or a text like" in caught.value.read().decode()
    finally:
        site.close()
