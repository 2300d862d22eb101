"""Panel apps as their users write them, each in two windows that are open before the first click.

By default three of them run; all run nightly. Each app uses its own home, as on a user's machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import answers, environment, free_port, processes_of, wait_until
from tests.ui.conftest import Window, browser, window

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["browser", "window"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

APPS = Path(__file__).parent / "apps"

#: Milliseconds that a window may take for anything, on a busy machine.
PATIENCE_MS = 120_000


@dataclass(frozen=True)
class App:
    """One way to serve one file.

    Attributes:
        file: in `apps`. options: of `panel serve`. is_program: whether the file is run with Python, with its port.
        shown: selector of the job's result. needs: module that must be installed.
        asks: host from which Panel itself loads something; the app must also work if this host does not answer.
    """

    file: str
    options: str = ""
    is_program: bool = False
    shown: str = ".jk-card .chip:has-text('Succeeded')"
    needs: str = "panel"
    asks: str = ""

    def __str__(self) -> str:
        return f"{self.file} {self.options}".strip()


#: A job that a bound function returns is awaited by Panel, which then shows its result.
RESULT = "text=/^144$/"

#: Those that run by default come first.
SUITE = [
    App("bind", shown=RESULT),
    App("column"),
    App("own_functions", shown=RESULT),
    App("depends"),
    App("watch"),
    App("reactive"),
    App("parameterized"),
    App("template", asks="fonts.googleapis.com"),
    App("tabs"),
    App("modal"),
    App("cache"),
    App("result_pane", shown="text=Drawn: 144"),
    App("result_plotly", shown=".js-plotly-plot .gtitle:has-text('Drawn: 144')", needs="plotly"),
    App("result_holoviews", shown=".bk-Figure canvas", needs="holoviews"),
    App("job_list", shown=".jk-table .row[data-face=succeeded]"),
    App("bind", "--num-procs 2", shown=RESULT, asks="cdn.holoviz.org"),
    App("bind", "--num-threads 4", shown=RESULT),
    App("column", "--num-threads 4"),
    App("bind", "--dev", shown=RESULT),
    App("bind", "--liveness", shown=RESULT),
    App("serve_function", is_program=True, shown=RESULT),
    App("in_fastapi", is_program=True, shown=RESULT, needs="bokeh_fastapi"),
]


@pytest.fixture
def home() -> Iterator[Path]:
    """Home of one test, with the server and the workers that its first job starts."""
    folder = Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp"))
    variables = environment(JOBKIT_HOME=str(folder))
    yield folder
    subprocess.run([sys.executable, "-m", "jobkit", "down", "--now"], env=variables, check=False, capture_output=True)
    try:
        wait_until(lambda: not processes_of(folder), what="the end of the server and its workers")
    finally:
        for process in processes_of(folder):
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def served(app: App, home: Path, folder: Path) -> Iterator[str]:
    """Serve an app from a copy of its folder; the value is its address."""
    place, port = folder / "apps", free_port()
    shutil.copytree(APPS, place, ignore=shutil.ignore_patterns("__pycache__"))
    argv = [f"{app.file}.py", str(port)]
    if not app.is_program:
        argv = ["-m", "panel", "serve", f"{app.file}.py", "--port", str(port), *app.options.split()]
    address = f"http://localhost:{port}/{'app' if app.is_program else app.file}"
    with running(argv, place, folder / "log", address, JOBKIT_HOME=str(home)):
        yield address


@contextmanager
def running(argv: list[str], place: Path, log: Path, address: str, **variables: str) -> Iterator[None]:
    """Run Python with these arguments in a folder, until its server answers at the address, and end it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *argv], cwd=place, env=environment(**variables), stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: answers(address) or process.poll() is not None, timeout_s=180, what=f"the server, see {log}")
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(60)


def click_and_wait(pages: list[Page], app: App) -> None:
    for page in pages:
        page.wait_for_selector("button:has-text('Run')", timeout=PATIENCE_MS)
    for page in reversed(pages):
        page.click("button:has-text('Run')", timeout=PATIENCE_MS)
    for page in pages:
        page.wait_for_selector(app.shown, timeout=PATIENCE_MS)


def marked(app: App, place: int) -> Any:
    return pytest.param(app, marks=pytest.mark.nightly if place > 2 else (), id=str(app))


@pytest.mark.parametrize("app", [marked(app, place) for place, app in enumerate(SUITE)])
def test_two_windows_show_the_job_of_their_click_and_again_after_a_reload(
    app: App, home: Path, window: Window, tmp_path: Path
) -> None:
    pytest.importorskip(app.needs)
    with served(app, home, tmp_path) as address:
        pages = [window.open(address), window.open(address)]
        click_and_wait(pages, app)
        pages[0].reload()
        click_and_wait(pages[:1], app)
        written = (tmp_path / "log").read_text()
        assert "Traceback" not in written, written
        window.close()
    if app.asks:
        window.hosts.discard(app.asks)
        window.errors[:] = [error for error in window.errors if app.asks not in error]
