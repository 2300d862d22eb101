"""A team's day in half an hour: 50 windows, 20 busy jobs and a stream of short ones; memory and latency must stay flat.

    python -m benchmarks.load [--seconds 1800] [--sessions 50] [--jobs 20]

The windows are websocket clients that say hello as a browser does (`sessions.py`), spread over the pages, and one real
Chromium, in which the time from an event to the changed page is taken. Each minute is one line.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from subprocess import Popen
from typing import Any

import psutil
import redis

import jobkit
from benchmarks import table
from benchmarks.dom import _WATCH, _answers, _memory_mb
from benchmarks.place import SECRET, Place, free_port, jobkit_worker, private_redis, running, until
from benchmarks.sessions import Sessions
from benchmarks.systems.jobkit_tasks import tick
from benchmarks.table import percentile
from jobkit.model import EventType, JobEvent

#: What the windows show, in turn.
PAGES = ("", "?page=timeline", "?page=workers", "?page=failures", "?q=state:running")

#: Seconds between two reports of a busy job, and between two short jobs.
_PAUSE_S, _SHORT_S = 0.5, 1.0

#: What counts as flat, last third of the run to the third before it: growth of memory, of the p95 of latency.
_MEMORY, _LATENCY = 1.05, 1.5


@dataclass
class Minute:
    """Measurements of one minute; memory at its end, in MB."""

    server_mb: float
    page_mb: float
    redis_mb: float
    cpu_percent: float
    waits_ms: list[float] = field(default_factory=list)

    def line(self, n: int) -> str:
        p50, p95 = (percentile(self.waits_ms, q) if self.waits_ms else float("nan") for q in (0.5, 0.95))
        return (
            f"{n:>6} {self.server_mb:>10.1f} {self.page_mb:>10.1f} {self.redis_mb:>9.1f} {self.cpu_percent:>8.0f} "
            f"{len(self.waits_ms):>8} {p50:>9.1f} {p95:>9.1f}"
        )


HEAD = f"{'minute':>6} {'server MB':>10} {'page MB':>10} {'redis MB':>9} {'CPU %':>8} {'updates':>8} {'p50 ms':>9} {'p95 ms':>9}"


def measure(seconds: float, sessions: int, jobs: int, every_s: float = 60) -> list[Minute]:
    """The minutes of a run, printed as they pass."""
    from playwright.sync_api import sync_playwright

    from tests.support import chromium

    minutes: list[Minute] = []
    with ExitStack() as stack:
        url, folder = stack.enter_context(private_redis())
        place = Place(url, folder, False, {})
        print(table.machine(_redis(url)["redis_version"]), HEAD, sep="\n", flush=True)
        kit = stack.enter_context(jobkit.connect(url, secret=SECRET))
        stack.enter_context(running(jobkit_worker(jobs + 2), place))
        port = free_port()
        server = stack.enter_context(running([sys.executable, "-m", "jobkit", "dashboard", "--port", str(port)], place))
        home = f"http://localhost:{port}/app"
        until(lambda: _answers(home), "the dashboard to answer")
        busy = kit.options(isolation="thread")
        times = round(seconds / _PAUSE_S) + 600
        watched, *_ = [busy.submit(tick, times, _PAUSE_S) for _ in range(jobs)]
        for n in range(sessions - 1):
            query = PAGES[n % len(PAGES)]
            job = f"{'&' if query else '?'}job={watched.id}" if n % 3 == 0 else ""
            stack.enter_context(Sessions(f"{home}{query}{job}", 1))
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page()
        page.goto(f"{home}?job={watched.id}")
        message = page.locator(".message", has_text="@").first
        message.wait_for(state="attached", timeout=120_000)
        message.evaluate(_WATCH)
        with _listening(kit, watched) as arrived:
            began = time.monotonic()
            while time.monotonic() - began < seconds:
                minutes.append(_minute(kit, page, server, url, arrived, min(every_s, seconds)))
                print(minutes[-1].line(len(minutes)), flush=True)
        browser.close()
        kit.cancel_many([job.id for job in kit.jobs(state="running", limit=jobs)])
    return minutes


def _minute(
    kit: jobkit.Kit, page: Any, server: Popen[bytes], url: str, arrived: dict[str, float], length_s: float
) -> Minute:
    process = psutil.Process(server.pid)
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    arrived.clear()
    page.evaluate("window.seen = {}")
    while time.monotonic() - began < length_s:
        kit.options(isolation="thread").submit(tick, 2, 0.1)
        time.sleep(_SHORT_S)
    cpu = 100 * (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
    seen = page.evaluate("window.seen")
    waits = [(shown - arrived[stamp]) * 1000 for stamp, shown in seen.items() if stamp in arrived]
    heap = page.evaluate("performance.memory ? performance.memory.usedJSHeapSize : 0") / 1e6
    return Minute(_memory_mb(server), heap, float(_redis(url)["used_memory"]) / 1e6, cpu, waits)


@contextmanager
def _listening(kit: jobkit.Kit, job: jobkit.Job) -> Iterator[dict[str, float]]:
    """When each report's event reached this process."""
    arrived: dict[str, float] = {}

    def listen(event: JobEvent) -> None:
        if event.type is EventType.PROGRESSED:
            arrived.setdefault(str(event.data.get("message", "")).strip("@"), time.time())

    stop = kit.hub.listen(listen, job.id)
    try:
        yield arrived
    finally:
        stop()


def verdict(minutes: list[Minute]) -> list[str]:
    """Return sentences about whether the run was flat; needs at least six samples."""
    third = len(minutes) // 3
    if third < 2:
        return ["too short to tell whether memory and latency are flat"]
    middle, last = minutes[-2 * third : -third], minutes[-third:]
    said = []
    for name, of in (("memory of the server", "server_mb"), ("memory of the page", "page_mb")):
        before, after = (sum(getattr(each, of) for each in part) / third for part in (middle, last))
        word = "flat" if after <= before * _MEMORY else "NOT flat"
        said.append(f"{name}: {word}, {before:.1f} MB, then {after:.1f} MB ({100 * (after / before - 1):+.1f} %)")
    before, after = (percentile([w for each in part for w in each.waits_ms], 0.95) for part in (middle, last))
    word = "flat" if after <= before * _LATENCY else "NOT flat"
    said.append(f"event to changed page, p95: {word}, {before:.1f} ms, then {after:.1f} ms")
    return said


def _redis(url: str) -> dict[str, Any]:
    with redis.Redis.from_url(url) as client:
        info: dict[str, Any] = client.info()
        return info


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--every", type=float, default=60, help="seconds of one sample")
    asked = parser.parse_args()
    print("\n".join(verdict(measure(asked.seconds, asked.sessions, asked.jobs, asked.every))))


if __name__ == "__main__":
    main()
