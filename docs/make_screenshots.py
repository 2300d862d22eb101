"""Makes the pictures in `docs/images`: real jobs of the demo, on the real dashboard, in both themes.

    python docs/make_screenshots.py

Needs the `test` extra and a Chromium.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent

#: File name, what the URL asks for, and what is on the page when it is ready.
PAGES = (
    ("dashboard", "job={job}", ".jk-card .title"),
    ("workers", "page=workers", ".jk-workers .worker"),
    ("submit", "page=submit", ".jk-form h2"),
)


def main() -> None:
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
            ]
            for job in ended:
                job.wait(120)
            kit.options(delay=3600).submit(demo.count_words)
            kit.submit(demo.estimate_pi, points=2_000_000_000)
            shown = kit.submit(demo.bootstrap_regression, resamples=400_000)
            while (shown.progress or 0) < 0.4 or shown.total < 1000:
                time.sleep(0.05)
            picture(f"http://localhost:{port}/dashboard", shown.id)
            for job in kit.jobs(state=["running", "scheduled"]):
                job.cancel()
    finally:
        server.terminate()
        server.wait()
        subprocess.run([sys.executable, "-m", "jobkit", "down", "--now"], cwd=ROOT)
        shutil.rmtree(Path(home).parent, ignore_errors=True)


def picture(url: str, job_id: str) -> None:
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for theme, suffix in (("light", ""), ("dark", "-dark")):
            for name, query, ready in PAGES:
                page = browser.new_page(viewport={"width": 1280, "height": 640}, color_scheme=theme)
                page.goto(f"{url}?{query.format(job=job_id)}")
                page.wait_for_selector(ready)
                page.wait_for_timeout(1200)  # until the fonts and the first flush are there
                page.screenshot(path=str(ROOT / "docs" / "images" / f"{name}{suffix}.png"))
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
