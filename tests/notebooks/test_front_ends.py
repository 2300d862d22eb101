"""Front ends other than JupyterLab: marimo, and programs that run notebooks and keep the static cards."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

from tests.support import environment, free_port, listens, wait_until

from .conftest import KERNELS, notebook_of, shot, text_of

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = KERNELS

CELLS = (
    "rounds = 1",
    "import jobkit, time\nkit = jobkit.connect()\ndef times(n, pause=0):\n    time.sleep(pause)\n    return 7 * n",
    "job = kit.submit(times, rounds)\njob",
    "job.result()",
    "endless = kit.submit(times, 2, 300)\nendless",
    "times_ = jobkit.task(times, name='times')\ntimes_",
)


def test_papermill_and_nbconvert_keep_the_static_cards(home: Path) -> None:
    """Quarto runs notebooks in the same way: by jupyter's client, keeping the outputs."""
    papermill, nbconvert = pytest.importorskip("papermill"), pytest.importorskip("nbconvert")
    notebook = notebook_of(CELLS)
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, home / "in.ipynb")

    papermill.execute_notebook(
        home / "in.ipynb", home / "out.ipynb", {"rounds": 6}, kernel_name="python3", progress_bar=False
    )

    ran = nbformat.read(home / "out.ipynb", as_version=4)
    ended, endless, form = (text_of(ran.cells[i]) for i in (-4, -2, -1))
    [job_id] = re.findall(r"<Job (\w+) times\(n=2, pause=300\)", endless)
    assert "Succeeded" in ended
    assert "42" in ended
    assert "widget-view" not in str(ran.cells[-4].outputs)
    assert "Run this cell to get the form" in form

    page, _ = nbconvert.HTMLExporter().from_filename(home / "out.ipynb")
    assert f"when this was saved; <code>jobkit.connect().get('{job_id}')</code> shows it live" in html.unescape(page)
    assert len(re.findall(r'class="jks-\w+"', page)) == 2


APP = """\
# /// script
# [tool.marimo.display]
# theme = "dark"
# ///
import marimo
app = marimo.App()

@app.cell
def _():
    import jobkit, time
    import marimo as mo
    kit = jobkit.connect()
    def walk(n, pause):
        import time
        for k in jobkit.progress(range(n), desc="steps"):
            print("step", k); time.sleep(pause)
        return {"walked": n}

    @jobkit.task
    def double(n: int = 5) -> int:
        return 2 * n
    return double, kit, mo, walk

@app.cell
def _(kit, walk):
    job = kit.submit(walk, 40, 0.1)
    job
    return (job,)

@app.cell
def _(double):
    batch = double.sweep(n=[1, 2, 3])
    batch
    return

@app.cell
def _(double):
    double
    return

@app.cell
def _(job, mo):
    mo.hstack([job.widget(), job], widths="equal")
    return

if __name__ == "__main__":
    app.run()
"""


@contextmanager
def marimo(home: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of marimo in a home with the app."""
    pytest.importorskip("marimo")
    (home / "app.py").write_text(APP)
    process = subprocess.Popen(
        [sys.executable, "-m", "marimo", *args],
        cwd=home, env=environment(JOBKIT_HOME=str(home), XDG_CONFIG_HOME=str(home), XDG_STATE_HOME=str(home)),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.nightly
@pytest.mark.browser
def test_marimo_shows_live_cards_and_a_form(home: Path, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    port = free_port()
    with marimo(home, "run", "app.py", "--headless", "--no-token", f"--port={port}"):
        wait_until(lambda: listens(port), what="marimo to answer")
        page.goto(f"http://127.0.0.1:{port}")

        card = page.locator(".jk-card").first
        steps = lambda: int((re.search(r"(\d+) / 40", card.inner_text()) or [0, "0"])[1])  # noqa: E731
        early = wait_until(steps, what="the first steps on the card")
        wait_until(lambda: steps() > early, what="the bar to move")
        assert card.get_attribute("data-theme") == "dark"
        assert page.locator("[id^=jk-]:visible").count() == 0  # the static cards are behind the live ones
        shot(page, "marimo-live")
        page.locator(".jk-batch:has-text('3 succeeded')").locator(".plot circle").first.wait_for()
        card.locator(".chip:has-text('Succeeded')").wait_for()
        assert page.locator(".jk-card:has-text('walked')").count() == 3

        form = page.locator(".jk-form")
        form.locator("[data-name=n] input").first.fill("x")
        form.get_by_role("button", name="Submit").click()
        form.locator("[data-name=n] .message:has-text('whole number')").wait_for()
        form.locator("[data-name=n] input").first.fill("21")
        form.get_by_role("button", name="Submit").click()
        page.locator(".jk-card:has-text('n=21')").locator(".result:has-text('42')").wait_for()
        shot(page, "marimo-ended")
    assert [url for url in asked if not re.match(r"http://127\.0\.0\.1:|data:|blob:", url)] == []


@pytest.mark.nightly
@pytest.mark.browser
def test_an_export_of_marimo_shows_the_static_cards(home: Path, page: Page) -> None:
    with marimo(home, "export", "html", "app.py", "-o", "app.html") as process:
        assert process.wait(120) == 0
    import marimo as package

    files = Path(package.__file__).parent / "_static"

    def answer(route: Route) -> None:  # the export loads marimo itself from a CDN
        path = files / re.sub(r".*/dist/", "", route.request.url)
        kind = {".js": "text/javascript", ".css": "text/css"}.get(path.suffix, "application/octet-stream")
        route.fulfill(path=path, content_type=kind, headers={"access-control-allow-origin": "*"})

    page.route(re.compile("^https://"), answer)
    page.goto(f"file://{home}/app.html")

    page.locator("[id^=jk-]:visible:has-text('when this was saved')").first.wait_for()
    shot(page, "marimo-export")
    assert page.locator("[id^=jk-]:visible").count() == 4
    alone = page.locator(".jk-card:visible")
    assert alone.count() == 1  # a widget in another one has no static card, and says so
    alone.locator(".away:has-text('The page shows a saved state')").wait_for()
    assert page.locator(".jk-form:visible").count() == 0
