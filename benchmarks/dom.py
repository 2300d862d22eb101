"""From an event to the changed page: the dashboard in a headless Chromium, alone and beside 19 other sessions.

The server's part of it (until the bytes are at a client) and what a session costs are measured by `sessions`, without
a browser: Chromium on the same two cores would be most of the figure.
"""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from subprocess import Popen
from typing import Any

import psutil

import jobkit
from benchmarks.place import SECRET, Place, free_port, jobkit_worker, running, until
from benchmarks.sessions import Sessions
from benchmarks.systems.jobkit_tasks import learn, tick
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
    place.flush()
    port = free_port()
    dashboard = [sys.executable, "-m", "jobkit", "dashboard", "--port", str(port)]
    rows: list[Row] = []
    with (
        jobkit.connect(place.url, secret=SECRET) as kit,
        running(jobkit_worker(2), place),
        running(dashboard, place) as server,
    ):
        url = f"http://localhost:{port}/app"
        until(lambda: _answers(url), "the dashboard to answer")
        rows += _without_browser(kit, server, url, place)
        rows += _charts(kit, server, url, place)
        rows += _in_browser(kit, url, place)
        with Sessions(url, place.pick(50, 3)) as open_ones:
            memory = _memory_mb(server)
            name = f"memory of the dashboard with {len(open_ones.all)} sessions"
            rows.append(most(name, [memory], "MB", 300))
    return rows


def _without_browser(kit: jobkit.Kit, server: Popen[bytes], url: str, place: Place) -> list[Row]:
    """The server's part: one card and one row change with each report, in every session."""
    n, times = place.pick(20, 2), place.pick(80, 3)
    with _ticking(kit) as (job, arrived), Sessions(f"{url}?job={job.id}", n) as sessions:
        seen = sessions.all[-1].arrived
        until(lambda: seen, "the first report to arrive")
        for session in sessions.all:
            session.arrived.clear()
        began, process = _cpu_s(server), len(arrived)
        until(lambda: len(seen) >= times or job.is_terminal, "reports to arrive")
        cpu_s, reports = _cpu_s(server) - began, len(arrived) - process
        waits = [
            (came - arrived[stamp]) * 1000
            for session in sessions.all
            for stamp, came in dict(session.arrived).items()
            if stamp in arrived
        ]
    name = f"with {n} sessions"
    return [
        row(f"event to bytes at the browser, {name}, p50", "jobkit", [percentile(waits, 0.5)], "ms"),
        row(f"event to bytes at the browser, {name}, p95", "jobkit", [percentile(waits, 0.95)], "ms"),
        most(f"dashboard CPU per session and update, {name}", [cpu_s * 1000 / max(reports, 1) / n], "ms", 1),
    ]


def _charts(kit: jobkit.Kit, server: Popen[bytes], url: str, place: Place) -> list[Row]:
    """CPU of the dashboard for each update of a job's curves; one that logs all the time sends ten updates a second."""
    rows, times = [], place.pick(100, 5)
    for n in (1, place.pick(20, 2)):
        updates: list[JobEvent] = []
        job = kit.submit(learn, 100_000, 0.01)

        def listen(event: JobEvent, updates: list[JobEvent] = updates) -> None:
            if event.type is EventType.LOGGED and "metrics" in event.data:
                updates.append(event)

        stop = kit.hub.listen(listen, job.id)
        with Sessions(f"{url}?job={job.id}", n) as sessions:
            until(lambda: all(session.size for session in sessions.all), "the first update")
            # Earlier sessions end 17 to 30 s after they are closed, and Panel then collects garbage: not counted.
            settled = len(updates) + place.pick(350, 1)
            until(lambda: len(updates) >= settled, "updates to arrive")  # noqa: B023
            began, before = _cpu_s(server), len(updates)
            until(lambda: len(updates) >= before + times, "updates to arrive")  # noqa: B023
            cpu_s, count = _cpu_s(server) - began, len(updates) - before
        stop()
        job.cancel()
        job.wait(30)
        name = f"with {n} session{'s' if n > 1 else ''}"
        rows.append(most(f"dashboard CPU per update of a chart, {name}", [1000 * cpu_s / count], "ms", 1))
    return rows


def _in_browser(kit: jobkit.Kit, url: str, place: Place) -> list[Row]:
    """Return no rows without Playwright or Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("dom: playwright is not installed; left out", file=sys.stderr)
        return []
    from tests.support import chromium

    if chromium() is None:
        print("dom: no chromium in PATH; left out", file=sys.stderr)
        return []
    rows: list[Row] = []
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
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
    page = browser.new_page()
    try:
        with _ticking(kit) as (job, arrived), Sessions(f"{url}?job={job.id}", sessions - 1):
            page.goto(f"{url}?job={job.id}")
            message = page.locator(".message", has_text="@").first
            message.wait_for(state="attached", timeout=60_000)
            until(lambda: "@" in (message.text_content() or ""), "the card to show progress")
            message.evaluate(_WATCH)
            until(lambda: len(page.evaluate("window.seen")) >= times or job.is_terminal, "progress on the page")
            seen = page.evaluate("window.seen")
    finally:
        page.close()
    at_page = [(shown - arrived[stamp]) * 1000 for stamp, shown in seen.items() if stamp in arrived]
    return at_page, [(shown - float(stamp)) * 1000 for stamp, shown in seen.items()]


@contextmanager
def _ticking(kit: jobkit.Kit) -> Iterator[tuple[jobkit.Job, dict[str, float]]]:
    """A job that reports until the block ends, and when each report's event reached this process."""
    job = kit.submit(tick, 2_000, _PAUSE_S)
    arrived: dict[str, float] = {}

    def listen(event: JobEvent) -> None:
        if event.type is EventType.PROGRESSED:
            arrived.setdefault(str(event.data.get("message", "")).strip("@"), time.time())

    stop: Callable[[], None] = kit.hub.listen(listen, job.id)
    try:
        yield job, arrived
    finally:
        stop()
        job.cancel()
        job.wait(30)


def _cpu_s(server: Popen[bytes]) -> float:
    times = psutil.Process(server.pid).cpu_times()
    return float(times.user + times.system)


def _memory_mb(server: Popen[bytes]) -> float:
    return float(psutil.Process(server.pid).memory_info().rss) / 1e6


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=20) as answer:
        return bool(answer.status == 200)
    return False
