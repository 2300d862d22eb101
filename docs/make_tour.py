"""Makes the moving picture of the README: a notebook in JupyterLab and the dashboard beside it, from a real run.

    python docs/make_tour.py

Needs the `test` extra and a Chromium; takes a minute on a machine that does nothing else.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
TOUR = ROOT / "docs" / "images" / "tour.webp"

WIDTH, HEIGHT, GAP = 720, 640, 8
FRAME_MS, LAST_MS = 160, 4000

CELLS = (
    "import jobkit, math, random, time\n\n"
    "def train(epochs: int = 40, lr: float = 0.1) -> dict:\n"
    "    for epoch in jobkit.progress(range(epochs), desc='epochs'):\n"
    "        time.sleep(0.2)\n"
    "        loss = math.exp(-lr * epoch) + 0.05 * random.random()\n"
    "        jobkit.log_metrics(epoch, loss=loss)\n"
    "    return {'loss': round(loss, 3), 'epochs': epochs}",
    "job = jobkit.connect().submit(train, epochs=40)\njob",
    "job.result()",
)

#: Commands of JupyterLab that leave nothing but the notebook.
LAB = (
    ("application:toggle-mode", {}),
    ("application:toggle-left-area", {}),
    ("application:toggle-side-tabbar", {"side": "left"}),
    ("application:toggle-side-tabbar", {"side": "right"}),
    ("statusbar:toggle", {}),
)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the addresses of a notebook in JupyterLab and of the dashboard of one home."""
    cells = [nbformat.v4.new_code_cell(CELLS[0]), *(nbformat.v4.new_code_cell() for _ in CELLS[1:])]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(notebook, folder / "train.ipynb")
    ports = [free_port(), free_port()]
    lab = ["-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={ports[0]}", "--ServerApp.ip=127.0.0.1",
           "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
           f"--ServerApp.root_dir={folder}"]  # fmt: skip
    pages = ["-m", "panel", "serve", str(ROOT / "dashboard.py"), "--port", str(ports[1])]
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    environ = {**os.environ, **own, "JOBKIT_HOME": str(folder / "home")}
    started = [
        subprocess.Popen([sys.executable, *words], env=environ, stderr=subprocess.DEVNULL) for words in (lab, pages)
    ]
    try:
        for port in ports:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.1)
        yield f"http://127.0.0.1:{ports[0]}/lab/tree/train.ipynb", f"http://localhost:{ports[1]}/dashboard"
    finally:
        for each in started:
            each.terminate()
        for each in started:
            with suppress(subprocess.TimeoutExpired):
                each.wait(10)
            each.kill()
        subprocess.run([sys.executable, "-m", "jobkit", "down", "--now"], env=environ, check=False)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Film:
    """Pictures of two windows, side by side."""

    def __init__(self, *windows: Page) -> None:
        self._windows = windows
        self.frames: list[Image.Image] = []

    def take(self, seconds: float = 0.0) -> None:
        """Take pictures for a while, at least one."""
        until = time.monotonic() + seconds
        while True:
            began = time.monotonic()
            frame = Image.new("RGB", (2 * WIDTH + GAP, HEIGHT), "#94a3b8")
            for n, window in enumerate(self._windows):
                frame.paste(Image.open(BytesIO(window.screenshot())), (n * (WIDTH + GAP), 0))
            self.frames.append(frame)
            time.sleep(max(0.0, FRAME_MS / 1000 - (time.monotonic() - began)))
            if time.monotonic() >= until:
                break

    def save(self, path: Path) -> None:
        """Write the film as an animated WebP that shows its last frame for longer."""
        first, *more = self.frames
        durations = [FRAME_MS] * len(more) + [LAST_MS]
        first.save(
            path,
            save_all=True,
            append_images=more,
            duration=durations,
            loop=0,
            quality=55,
            method=6,
            minimize_size=True,
        )


def run_cell(notebook: Page, film: Film, source: str = "") -> None:
    """Type a cell as a person does, and run it; the next one is then selected."""
    if source:
        notebook.keyboard.press("Enter")  # from the selected cell into it
    for part in source.splitlines(keepends=True):
        notebook.keyboard.type(part.rstrip("\n"))
        film.take()
        if part.endswith("\n"):
            notebook.keyboard.press("Enter")
    notebook.keyboard.press("Shift+Enter")
    film.take(0.4)


def main() -> None:
    """Make the picture."""
    folder = Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp"))
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    try:
        with served(folder) as (lab, pages), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            size = {"width": WIDTH, "height": HEIGHT}
            dashboard, notebook = browser.new_page(viewport=size), browser.new_page(viewport=size)
            dashboard.goto(pages)
            dashboard.wait_for_selector(".jk-table")
            notebook.goto(lab)
            notebook.wait_for_function("() => window.jupyterapp && window.jupyterapp.restored")
            for name, options in LAB:
                notebook.evaluate(
                    "([name, options]) => { window.jupyterapp.commands.execute(name, options) }", [name, options]
                )
            notebook.get_by_role("button", name="No", exact=True).click()  # to news
            notebook.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
            notebook.wait_for_timeout(1500)
            notebook.locator(".jp-Cell .cm-content").first.click()
            film = Film(notebook, dashboard)
            film.take(1.0)
            run_cell(notebook, film)
            run_cell(notebook, film, CELLS[1])
            notebook.locator(".jp-Cell").nth(1).evaluate("cell => cell.scrollIntoView()")
            run_cell(notebook, film, CELLS[2])
            output = notebook.locator(".jp-Cell").nth(2).locator(".jp-OutputArea-output")
            while not output.count():
                film.take()
            film.take(1.0)
            notebook.locator(".jp-Cell").nth(2).evaluate("cell => cell.scrollIntoView(false)")
            film.take()
            browser.close()
        film.save(TOUR)
        print(f"{TOUR}: {len(film.frames)} frames, {TOUR.stat().st_size / 1e6:.1f} MB")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
