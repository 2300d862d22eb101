"""From an event to the changed page: the dashboard in a headless Chromium, alone and beside 19 other sessions."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jobkit
from benchmarks.place import SECRET, Place, free_port, jobkit_worker, running, until
from benchmarks.systems.jobkit_tasks import tick
from benchmarks.table import Row, most, percentile, row
from jobkit.model import EventType, JobEvent

#: Between two reports: longer than any window in which progress is gathered.
_PAUSE_S = 0.23

#: Notes each new stamp with the moment (seconds since the epoch) after the change reached the page.
_WATCH = """
message => {
  window.seen = {};
  const note = () => {
    const found = /@([0-9.]+)@/.exec(message.textContent);
    if (found && !(found[1] in window.seen))
      window.seen[found[1]] = (performance.timeOrigin + performance.now()) / 1000;
  };
  new MutationObserver(note).observe(message, {childList: true, characterData: true, subtree: true});
}
"""


def measure(place: Place) -> list[Row]:
    """No rows where there is no Playwright or no Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("dom: playwright is not installed; left out", file=sys.stderr)
        return []
    from shutil import which

    chromium = which("chromium") or which("chromium-browser") or which("google-chrome")
    if chromium is None:
        print("dom: no chromium in PATH; left out", file=sys.stderr)
        return []
    place.flush()
    port = free_port()
    dashboard = [sys.executable, "-m", "jobkit", "dashboard", "--port", str(port)]
    rows: list[Row] = []
    with (
        jobkit.connect(place.url, secret=SECRET) as kit,
        running(jobkit_worker(2), place),
        running(dashboard, place),
        sync_playwright() as playwright,
    ):
        url = f"http://localhost:{port}/app"
        until(lambda: _answers(url), "the dashboard to answer")
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        try:
            for sessions in (1, place.pick(20, 2)):
                pages, reports = _round(kit, browser, url, sessions, place.pick(80, 3))
                name = f"with {sessions} session{'s' if sessions > 1 else ''}"
                rows += [
                    most(f"event to changed DOM, {name}, p50", [percentile(pages, 0.5)], "ms", 20),
                    most(f"event to changed DOM, {name}, p95", [percentile(pages, 0.95)], "ms", 50),
                    row(f"report to changed DOM, {name}, p50", "jobkit", [percentile(reports, 0.5)], "ms"),
                ]
        finally:
            browser.close()
    return rows


def _round(kit: jobkit.Kit, browser: Any, url: str, sessions: int, times: int) -> tuple[list[float], list[float]]:
    """Milliseconds from event to page, and from report to page."""
    job = kit.submit(tick, 2_000, _PAUSE_S)  # until it is cancelled
    arrived: dict[str, float] = {}

    def listen(event: JobEvent) -> None:
        if event.type is EventType.PROGRESSED:
            arrived.setdefault(str(event.data.get("message", "")).strip("@"), time.time())

    stop = kit.hub.listen(listen, job.id)
    page = browser.new_page()
    try:
        with _others(f"{url}?job={job.id}", sessions - 1):
            page.goto(f"{url}?job={job.id}")
            message = page.locator(".message", has_text="@").first
            message.wait_for(state="attached", timeout=60_000)
            until(lambda: "@" in (message.text_content() or ""), "the card to show progress")
            message.evaluate(_WATCH)
            until(lambda: len(page.evaluate("window.seen")) >= times or job.is_terminal, "progress on the page")
            seen = page.evaluate("window.seen")
    finally:
        page.close()
        stop()
        job.cancel()
        job.wait(30)
    at_page = [(shown - arrived[stamp]) * 1000 for stamp, shown in seen.items() if stamp in arrived]
    return at_page, [(shown - float(stamp)) * 1000 for stamp, shown in seen.items()]


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=20) as answer:
        return bool(answer.status == 200)
    return False


@contextmanager
def _others(url: str, n: int) -> Iterator[None]:
    """`n` further sessions of the same page: websocket clients that take every message and show nothing."""
    if n == 0:
        yield
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sessions")
    thread.start()
    ready: list[Any] = []
    try:
        pump = asyncio.run_coroutine_threadsafe(_sessions(url, n, ready), loop)
        until(lambda: len(ready) == n or pump.done(), f"{n} sessions to open")
        if pump.done():
            pump.result()
        yield
        pump.cancel()
    finally:
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _sessions(url: str, n: int, ready: list[Any]) -> None:
    from tornado.httpclient import AsyncHTTPClient
    from tornado.websocket import websocket_connect

    sockets = []
    for _ in range(n):
        answer = await AsyncHTTPClient().fetch(url, request_timeout=60)
        token = re.search(r'"token":\s*"([^"]+)"', answer.body.decode())
        assert token is not None, "no session token on the page"
        address = re.sub(r"^http(.*?)/app\?.*", r"ws\1/app/ws", url)
        sockets.append(await websocket_connect(address, subprotocols=["bokeh", token[1]]))
        ready.append(token)
    try:
        await asyncio.gather(*(_drain(socket) for socket in sockets))
    finally:
        for socket in sockets:
            socket.close()


async def _drain(socket: Any) -> None:
    while await socket.read_message() is not None:
        pass
