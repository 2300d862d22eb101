"""First load of the dashboard: bytes over the wire, requests, and time to the first rows on a slow line.

Chromium delays and limits the requests (10 Mbit/s, 40 ms), with an empty cache. The budget of bytes and requests is
held by `tests/ui/test_weight_in_browser.py`; times are measured here alone.
"""

from __future__ import annotations

import sys
import time
import urllib.request
from contextlib import suppress
from typing import Any

import jobkit
from benchmarks.place import SECRET, Place, free_port, running, until
from benchmarks.table import Row, most, row

#: Of the line: bytes a second, and milliseconds that are added to each request.
_BYTES_PER_S, _LATENCY_MS = 10_000_000 / 8, 40


def measure(place: Place) -> list[Row]:
    """Return no rows without Playwright or Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("weight: playwright is not installed; left out", file=sys.stderr)
        return []
    from tests.support import chromium

    if chromium() is None:
        print("weight: no chromium in PATH; left out", file=sys.stderr)
        return []
    place.flush()
    port = free_port()
    url = f"http://localhost:{port}/app"
    dashboard = [sys.executable, "-m", "jobkit", "dashboard", "--port", str(port)]
    with (
        jobkit.connect(place.url, secret=SECRET) as kit,
        running(dashboard, place),
        sync_playwright() as playwright,
    ):
        for n in range(100):
            kit.submit(len, "abc" * n)
        until(lambda: _answers(url), "the dashboard to answer")
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
        try:
            rounds = [_load(browser, url) for _ in range(place.pick(9, 2))]
        finally:
            browser.close()
    times, live, sizes, counts = zip(*rounds, strict=True)
    return [
        most("first load of the dashboard, 10 Mbit/s and 40 ms, to the first rows", times, "s", 1.2),
        row("first load of the dashboard, 10 Mbit/s and 40 ms, until they are live", "jobkit", live, "s"),
        most("first load of the dashboard, over the wire", sizes, "kB", 700),
        most("first load of the dashboard, requests", counts, "requests", 5),
    ]


def _load(browser: Any, url: str) -> tuple[float, float, float, int]:
    """Return seconds until the page shows a job, and seconds, kilobytes and requests until it is live."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    sizes: list[float] = []
    urls: list[str] = []
    client = context.new_cdp_session(page)
    client.on("Network.requestWillBeSent", lambda told: urls.append(told["request"]["url"]))
    client.on("Network.webSocketCreated", lambda told: urls.append(told["url"]))
    client.on("Network.loadingFinished", lambda told: sizes.append(told["encodedDataLength"]))
    client.on("Network.webSocketFrameReceived", lambda told: sizes.append(len(told["response"]["payloadData"])))
    client.send("Network.enable")
    line = {"offline": False, "latency": _LATENCY_MS, "downloadThroughput": _BYTES_PER_S}
    client.send("Network.emulateNetworkConditions", {**line, "uploadThroughput": _BYTES_PER_S})
    began = time.monotonic()
    page.goto(url, wait_until="commit")
    page.wait_for_selector(".jk-table .row[data-id]")
    rows_s = time.monotonic() - began
    page.wait_for_selector(".jk-nav .status[data-status=live]")
    live_s = time.monotonic() - began
    context.close()
    return rows_s, live_s, sum(sizes) / 1000, len([each for each in urls if not each.startswith(("blob:", "data:"))])


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=20) as answer:
        return bool(answer.status == 200)
    return False
