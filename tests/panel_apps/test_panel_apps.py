"""Panel apps as their users write them: two windows that are open before the first click, of which one is not ready at
that moment; a reload; a wire that is cut while a job runs.

By default three of them run, with an unharmed wire; all run nightly. Each uses its own home, as on a user's machine.
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

import jobkit
from tests.support import NIGHTLY, answers, environment, free_port, processes_of, wait_until
from tests.ui.conftest import Window, browser, wait_for, window
from tests.ui.wire import Wire

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
        keeps: whether the app has its jobs, and so shows them again after a reload.
        outlives: whether a session outlives its websocket for a while; else the page has to be loaded again.
        is_cut: whether the wire is cut at the end.
    """

    file: str
    options: str = ""
    is_program: bool = False
    shown: str = ".jk-card .chip:has-text('Succeeded')"
    needs: str = "panel"
    asks: str = ""
    keeps: bool = False
    outlives: bool = True
    is_cut: bool = True

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
    App("cache", keeps=True),
    App("result_pane", shown="text=Drawn: 144"),
    App("result_plotly", shown=".js-plotly-plot .gtitle:has-text('Drawn: 144')", needs="plotly"),
    App("result_holoviews", shown=".bk-Figure canvas", needs="holoviews"),
    App("job_list", shown=".jk-table .row[data-face=succeeded]", keeps=True),
    # The websocket of a page that reconnects may reach the process that does not have the session.
    App("bind", "--num-procs 2", shown=RESULT, asks="cdn.holoviz.org", outlives=False),
    App("bind", "--num-threads 4", shown=RESULT),
    App("column", "--num-threads 4"),
    App("bind", "--dev", shown=RESULT),
    App("bind", "--liveness", shown=RESULT),
    App("serve_function", is_program=True, shown=RESULT),
    App("in_fastapi", is_program=True, shown=RESULT, needs="bokeh_fastapi"),
    # bokeh-django ends a session with its websocket, and its last messages then write errors.
    # Flask is not here: Panel's page on Flask is empty, and with `server_document` a page of Panel 1.9 without jobkit
    # stays blank, since it requests es-module-shims from Flask.
    App("in_django", is_program=True, needs="bokeh_django", is_cut=False),
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
def served(app: App, home: Path, folder: Path, port: int = 0) -> Iterator[str]:
    """Serve an app from a copy of its folder; the value is its address."""
    place, port = folder / "apps", port or free_port()
    shutil.copytree(APPS, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
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


def click(page: Page) -> None:
    page.click("button:has-text('Run')", timeout=PATIENCE_MS)


def shows(page: Page, app: App, before: int = 0) -> None:
    """Wait until a page shows the result of a job, beside those that it showed `before`."""
    page.locator(app.shown).nth(before).wait_for(timeout=PATIENCE_MS)


def click_in_two_windows(window: Window, app: App, address: str) -> tuple[Page, Page]:
    """Open two windows, and click in the one whose session does not know yet that the page is ready; then in both."""
    first, second = window.open(address), window.open("about:blank")
    wire = Wire(second, is_late=True)
    second.goto(address)
    first.wait_for_selector("button:has-text('Run')", timeout=PATIENCE_MS)
    click(second)
    wire.release()
    click(first)
    for page in (first, second):
        shows(page, app)
    return first, second


def cut_the_wire(window: Window, app: App, address: str, home: Path) -> None:
    """Cut the wire of a page while its job runs: the page notices, and shows the result when it is whole again."""
    page = window.open("about:blank")
    wire = Wire(page)
    page.goto(address)
    page.wait_for_selector("button:has-text('Run')", timeout=PATIENCE_MS)
    if app.keeps:
        shows(page, app)
    before = page.locator(app.shown).count()
    page.evaluate("() => Bokeh.documents[0].on_event('connection_lost', () => { window.isLost = true; })")
    (home / "held").touch()
    click(page)
    wire.wait_until((home / "working").exists, what="the job to run")
    away = page.locator(".away:has-text('The server does not answer')").first  # each card may say so
    if has_card := page.locator(".jk-card, .jk-table").count() > 0:
        wait_for(page, "() => globalThis.jobkitPulse?.isExpected")  # from then on, silence is a sign

    wire.cut()
    wait_for(page, "() => window.isLost")
    if has_card:
        away.wait_for(timeout=PATIENCE_MS)
    (home / "held").unlink()
    with jobkit.connect(home=home) as kit:
        wire.wait_until(lambda: all(job.is_terminal for job in kit.jobs()), what="the job to end")
    wire.restore()

    if app.outlives:
        shows(page, app, before)
        away.wait_for(state="hidden", timeout=PATIENCE_MS)
    else:
        page.reload()
        click(page)
        shows(page, app)
    forgive(window, app, "ERR_INTERNET_DISCONNECTED", "not connected so cannot send")


def forgive(window: Window, app: App, *others: str) -> None:
    """Forget the requests to the host that the app asks, and errors with one of the `others`."""
    window.hosts.discard(app.asks)
    ignored = [each for each in (app.asks, *others) if each]
    window.errors[:] = [error for error in window.errors if not any(each in error for each in ignored)]


def marked(app: App, place: int) -> Any:
    is_nightly = place > 2
    return pytest.param(
        app, app.is_cut and (is_nightly or NIGHTLY), marks=pytest.mark.nightly if is_nightly else (), id=str(app)
    )


@pytest.mark.parametrize(("app", "is_cut"), [marked(app, place) for place, app in enumerate(SUITE)])
def test_each_window_shows_the_jobs_of_its_clicks(
    app: App, is_cut: bool, home: Path, window: Window, tmp_path: Path
) -> None:
    pytest.importorskip(app.needs)
    with served(app, home, tmp_path) as address:
        page, _ = click_in_two_windows(window, app, address)
        page.reload()
        if app.keeps:
            shows(page, app)
        click(page)
        shows(page, app)
        if is_cut:
            cut_the_wire(window, app, address, home)
        written = (tmp_path / "log").read_text()
        assert "Traceback" not in written, written
        window.close()
    forgive(window, app)


@pytest.mark.nightly
def test_a_window_is_loaded_again_after_its_server_was_started_again(
    home: Path, window: Window, tmp_path: Path
) -> None:
    app, port = App("column", asks="cdn.holoviz.org"), free_port()  # a session without a page takes styles from there
    with served(app, home, tmp_path, port) as address:
        page = window.open(address)
        click(page)
        shows(page, app)
        page.evaluate("() => { window.isOld = true; }")
        wait_for(page, "() => globalThis.jobkitPulse?.isExpected")
    page.locator(".away:has-text('The server does not answer')").wait_for(timeout=PATIENCE_MS)
    with served(app, home, tmp_path, port):
        wait_for(page, "() => !window.isOld")
        click(page)
        shows(page, app)
        window.close()
    forgive(window, app, "ERR_CONNECTION_REFUSED")
