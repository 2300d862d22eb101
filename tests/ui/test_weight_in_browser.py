"""Weight of the dashboard: all that a browser loads from the servers that are shipped until it shows the jobs."""

from __future__ import annotations

import gzip
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin

import pytest

import jobkit
from tests.store.server import Server
from tests.support import ROOT, answers, by_default, environment, free_port, wait_until
from tests.ui.conftest import Window

pytestmark = pytest.mark.browser

#: Bytes over the wire of the first load, with headers, the document and the first messages of the websocket.
MOST_BYTES = 700_000

#: The page, Bokeh, Panel, the first module and the websocket.
MOST_REQUESTS = 5

#: What no page of jobkit uses.
UNUSED = ("tabulator", "bokeh-gl", "bokeh-mathjax", "bokeh-tables", "bokeh-widgets", "material", "es-module-shims")

SHIPPED = {
    "jobkit": ["jobkit", "dashboard"],
    "panel": ["panel", "serve", str(ROOT / "dashboard.py")],
}


@pytest.fixture(params=by_default(["panel", "jobkit"]))
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A dashboard with a job, on a real server."""
    server, port = Server(), free_port()
    server.start()
    variables = environment(JOBKIT_URL=server.url, JOBKIT_SECRET="of these tests", JOBKIT_TASKS="jobkit.demo")
    log = tmp_path / "log"
    with jobkit.connect(server.url, secret="of these tests") as kit, log.open("wb") as output:
        kit.submit(len, "abc")
        command = [sys.executable, "-m", *SHIPPED[request.param], "--port", str(port)]
        running = subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=output, stderr=output)
        try:
            page = f"http://localhost:{port}/{'app' if request.param == 'jobkit' else 'dashboard'}"
            wait_until(lambda: answers(page), what=f"the server: {log.read_text()}")
            yield page
        finally:
            running.terminate()
            running.wait(60)
            server.stop()


class Wire:
    """Traffic of a page, as Chromium counts it."""

    def __init__(self, page: Any) -> None:
        self.urls: list[str] = []
        self.bytes = 0
        client = page.context.new_cdp_session(page)
        client.on("Network.requestWillBeSent", lambda told: self._asked(told["request"]["url"]))
        client.on("Network.webSocketCreated", lambda told: self.urls.append(told["url"]))
        client.on("Network.loadingFinished", lambda told: self._got(told["encodedDataLength"]))
        client.on("Network.webSocketFrameReceived", lambda told: self._got(len(told["response"]["payloadData"])))
        client.send("Network.enable")

    def _asked(self, url: str) -> None:
        if not url.startswith(("blob:", "data:")):
            self.urls.append(url)

    def _got(self, count: float) -> None:
        self.bytes += int(count)


def test_the_home_of_the_dashboard_keeps_its_budget_of_bytes_and_requests(address: str, window: Window) -> None:
    page = window.open("about:blank")
    wire = Wire(page)

    page.goto(address)
    page.wait_for_selector(".jk-table .row[data-id]")

    assert wire.bytes <= MOST_BYTES, "\n".join(wire.urls)
    assert len(wire.urls) <= MOST_REQUESTS, "\n".join(wire.urls)
    assert not [url for url in wire.urls if any(name in url for name in UNUSED)]

    again = Wire(page)
    page.reload()
    page.wait_for_selector(".jk-table .row[data-id]")
    assert again.bytes <= MOST_BYTES / 10  # the scripts are the browser's

    page.click(".jk-table .row[data-id]")
    page.wait_for_selector(".jk-card .title")
    page.click(".tab[data-page=timeline]")
    page.wait_for_selector("canvas", state="attached")  # of Bokeh's core
    page.click(".tab[data-page=workers]")
    page.wait_for_selector("text=No worker runs")
    assert not [url for url in again.urls if any(name in url for name in UNUSED)]


@pytest.mark.parametrize("address", ["panel"], indirect=True)
def test_scripts_are_kept_by_browsers_and_compressed_for_those_that_can_read_it(address: str) -> None:
    def ask(url: str, **headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return urllib.request.urlopen(urllib.request.Request(urljoin(address, url), headers=sent))

    with ask("", Accept_Encoding="gzip") as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Cache-Control"] == "no-store"
        page = gzip.decompress(answer.read()).decode()
    scripts = [line.split('href="')[1].split('"')[0] for line in page.splitlines() if "preload" in line]
    assert len(scripts) == 3
    scripts.sort(key=lambda script: "jobkit-modules" in script)
    for script in scripts:
        with ask(script) as answer:
            plain = answer.read()
            assert "Content-Encoding" not in answer.headers
            assert answer.headers["Vary"] == "Accept-Encoding"
        with ask(script, Accept_Encoding="br, gzip;q=0.5") as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert "max-age=31" in answer.headers["Cache-Control"]
            tag, packed = answer.headers["Etag"], answer.read()
        assert gzip.decompress(packed) == plain
        with ask(script, Accept_Encoding="gzip;q=0") as answer:
            assert answer.read() == plain
        with pytest.raises(HTTPError) as known:
            ask(script, Accept_Encoding="gzip", If_None_Match=tag)
        assert known.value.status == 304
        known.value.close()
    module = scripts[-1]
    with ask(f"{module.rpartition('-')[0]}-0123456789.js") as answer:  # of a page that is older than the server
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.read() == plain
    with pytest.raises(HTTPError) as unknown:
        ask("jobkit-modules/Other-0123456789.js")
    assert unknown.value.status == 404
    unknown.value.close()
    with ask(scripts[0], Accept_Encoding="gzip", Range="bytes=0-9") as answer:
        assert answer.status == 206
        assert len(answer.read()) == 10


def test_a_process_that_has_shown_no_page_has_the_modules_that_pages_of_another_one_name() -> None:
    code = (
        "import asyncio, sys\n"
        "from jobkit.ui import packed\n"
        "assert 'jobkit.ui.app.dashboard' not in sys.modules\n"
        "async def main():\n"
        "    found = await asyncio.gather(packed.find('home'), packed.find('JobCard'))\n"
        "    print(*(len(text) > 10_000 for text, _ in found))\n"
        "asyncio.run(main())\n"
    )
    said = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=environment(), text=True)
    assert said.split() == ["True", "True"]


def test_a_page_of_one_component_needs_none_of_those_that_a_dashboard_shows_with_it() -> None:
    code = (
        "import sys\n"
        "from jobkit.ui.jobs.job_table import JobTable\n"
        "from jobkit.ui.words import assets\n"
        "assert 'jobkit.ui.app.header' not in sys.modules\n"
        "print(assets.module_url('JobTable'))\n"
    )
    said = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=environment(), text=True)
    assert said.startswith("jobkit-modules/JobTable-")
