"""A component whose class is made when pages are open already, as by the first click in an app that imports jobkit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import panel as pn
import pytest

from jobkit.ui.card.job_card import JobCard
from tests.store.server import Server
from tests.support import environment, free_port, listens, wait_until
from tests.ui.conftest import Serve, Window
from tests.ui.stage import Stage

pytestmark = pytest.mark.browser


def test_every_window_shows_a_component_whose_class_is_newer_than_its_page(
    stage: Stage, serve: Serve, window: Window
) -> None:
    job = stage.kit.get(stage.submit())
    classes: list[type[JobCard]] = []

    def page() -> pn.Column:
        shown = pn.Column(pn.widgets.Button(label="Go"))

        def show(_: object) -> None:
            if not classes:
                classes.append(type("LateCard", (JobCard,), {}))
            shown.append(classes[0](stage.kit, job.id))

        shown[0].on_click(show)
        return shown

    url = serve(page)
    pages = [window.open(url) for _ in range(2)]
    for each in pages:
        each.wait_for_selector("button:text-is('Go')")
    pages.append(pages[0])

    for each in pages:  # the first one twice
        before = each.locator(".jk-card .title").count()
        each.click("button:text-is('Go')")
        each.locator(".jk-card .title").nth(before).wait_for()


_APP = """
import jobkit
import panel as pn

button, shown = pn.widgets.Button(label="Go"), pn.Column()

def show(_):
    shown.append(jobkit.connect().submit(len, "abc"))

button.on_click(show)
pn.Column(button, shown).servable()
"""


@pytest.mark.nightly
def test_the_first_click_may_come_after_all_windows_have_opened(server: Server, window: Window, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(_APP)
    port, variables = free_port(), environment(JOBKIT_URL=server.url, JOBKIT_SECRET="of these tests")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "panel", "serve", "app.py", "--port", str(port)],
            cwd=tmp_path, env=variables, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until(lambda: listens(port), what="the server")
        pages = [window.open(f"http://localhost:{port}/app") for _ in range(2)]
        for page in pages:
            page.wait_for_selector("button:text-is('Go')")
        for page in pages:
            page.click("button:text-is('Go')")
            page.wait_for_selector(".jk-card .title")
    finally:
        window.close()
        process.terminate()
        process.wait(60)
