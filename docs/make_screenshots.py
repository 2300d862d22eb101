"""Makes the pictures in `docs/images`: real jobs of the demo, on the real dashboard, in both themes.

    python docs/make_screenshots.py
    python docs/make_screenshots.py --all FOLDER

The second makes pictures of every page and card, at the widths of a phone, a laptop and a large screen, to compare them
before and after a change. Needs the `test` extra and a Chromium; takes a few minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent

#: File name, what the URL asks for, and what is on the page when it is ready.
PAGES = (
    ("dashboard", "job={job}", ".jk-card .title"),
    ("log", "page=log&id={log}&q=station", ".jk-log .line.current"),
    ("timeline", "page=timeline", ".jk-timeline .legend li"),
    ("failures", "page=failures&group={group}", ".jk-failures .failure"),
    ("workers", "page=workers", ".jk-workers .worker"),
    ("schedules", "page=schedules", ".jk-schedules .schedule"),
    ("submit", "page=submit", ".jk-form h2"),
)

#: The other pages and cards, for `--all`.
MORE = (
    ("home", "", ".jk-table .row[data-id]"),
    ("failed-job", "job={failed}", ".jk-card .failure"),
    ("ended-job", "job={ended}", ".jk-card .title"),
    ("batch", "page=batch&id={batch}", ".jk-batch .title"),
    ("compare", "page=compare&ids={ended},{failed}", "section.jk:visible"),
    ("audit", "page=audit", ".jk-nav"),
)

#: Windows of `--all`.
WINDOWS = ((390, 844), (1440, 900), (2560, 1440))

#: The pictures hold few colours: a palette makes them a third as large, with no visible difference.
COLOURS = 160


def check_data(days: int = 24) -> None:
    """Check the data of each day."""
    import logging

    import jobkit

    for day in range(1, days + 1):
        print(f"2026-11-{day:02} \x1b[32mpassed\x1b[0m \x1b[2m{1000 + 37 * day:,} rows\x1b[0m")
        if day % 8 == 5:
            logging.getLogger("data").warning("2026-11-%02d has gaps: station 4 sent nothing for 3 h", day)
        if day == 11 and jobkit.current().attempt == 1:
            logging.getLogger("data").error("2026-11-11 cannot be read")
            raise OSError("the disk did not answer")
        time.sleep(0.05)
    print("\x1b[1;36mall days are checked\x1b[0m")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="for pictures of every page and card")
    folder = parser.parse_args().all
    home = str(Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp")) / "jobkit")
    os.environ["JOBKIT_HOME"] = home
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "panel", "serve", str(ROOT / "dashboard.py"), "--port", str(port)], cwd=ROOT
    )
    try:
        import jobkit
        import jobkit.demo as demo

        with jobkit.connect(home=home, tasks=("jobkit.demo",)) as kit:
            ended = [
                kit.submit(demo.estimate_pi),
                kit.submit(demo.mandelbrot, fail_at=40),
                kit.submit(demo.cross_validate),
                kit.submit(demo.mandelbrot, width=300),
                kit.submit(demo.estimate_pi, method="stratified"),
                *(kit.submit(demo.mandelbrot, width=width) for width in (120, 160, 200, 240, 280)),
            ]
            log = kit.options(retries=1).submit(check_data)
            batch = kit.map(demo.mandelbrot, [{"width": width} for width in (60, 80, 100, 120)])
            for job in (*ended, log, *batch.jobs):
                job.wait(120)
            kit.options(delay=90).submit(demo.count_words)
            kit.schedule(demo.count_words, {}, cron="0 3 * * *", name="nightly-count")
            kit.schedule(demo.estimate_pi, {"points": 2_000_000}, every=3600, name="hourly-estimate")
            kit.submit(demo.estimate_pi, points=2_000_000_000)
            shown = kit.submit(demo.bootstrap_regression, resamples=400_000)
            while (shown.progress or 0) < 0.4 or shown.total < 1000:
                time.sleep(0.05)
            url = f"http://localhost:{port}/dashboard"
            ids = {"job": shown.id, "group": kit.failures()[0].id, "log": log.id, "batch": batch.id}
            ids |= {"ended": ended[2].id, "failed": ended[1].id}
            if folder is None:
                picture(url, PAGES, (1280, 720), ROOT / "docs" / "images", **ids)
            for window in WINDOWS if folder else ():
                picture(url, (*MORE, *PAGES), window, folder / str(window[0]), **ids)
            for job in kit.jobs(state=["running", "scheduled"]):
                job.cancel()
    finally:
        server.terminate()
        server.wait()
        subprocess.run([sys.executable, "-m", "jobkit", "down", "--now"], cwd=ROOT)
        shutil.rmtree(Path(home).parent, ignore_errors=True)


def picture(url: str, pages: Sequence[tuple[str, str, str]], window: tuple[int, int], folder: Path, **ids: str) -> None:
    """Make a picture of each page in both themes. A narrow window is that of a phone."""
    folder.mkdir(parents=True, exist_ok=True)
    is_phone = window[0] < 700
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for theme, suffix in (("light", ""), ("dark", "-dark")):
            context = browser.new_context(
                viewport={"width": window[0], "height": window[1]},
                color_scheme=theme,
                has_touch=is_phone,
                is_mobile=is_phone,
            )
            page = context.new_page()
            for name, query, ready in pages:
                page.goto(f"{url}?{query.format(**ids)}")
                page.wait_for_selector(f".jk-nav[data-theme={theme}]")
                page.wait_for_selector(ready)
                page.locator(".jk-nav .place").evaluate("place => { place.textContent = 'local://'; }")
                page.wait_for_timeout(2000)  # until the fonts, the first flush and the figures are there
                keep(page.screenshot(), folder / f"{name}{suffix}.png")
            context.close()
        browser.close()


def keep(picture: bytes, path: Path) -> None:
    image = Image.open(BytesIO(picture)).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
